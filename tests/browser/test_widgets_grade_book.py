"""The grade book, in a page that the book's own chain builds: no kernel, no other host, the numbers of mamlkit.outer_loss."""

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout, set_range

from mamlkit.widgets import grades_seen

CELLS = [
    "from mamlkit.widgets import GradeBook\n\nGradeBook()",
    "GradeBook(rows=[[0.9, 3.1, 1.4, 0.85, 0.6], [1.2, 1.0, 0.9, 0.8, 0.62]], kind='losses', epoch=3)",
]


def centre(page, name):
    page.get_by_role("slider", name=name, exact=True).scroll_into_view_if_needed()
    box = page.get_by_role("slider", name=name, exact=True).locator(".mk-target").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def assert_same_as_python(shown):
    values = shown["rows"]
    half = len(values) // 2
    expected = grades_seen([values[:half], values[half:]], int(shown["epoch"][0]))
    for key, name in (("weights", "weights"), ("maml", "maml"), ("mamlpp", "maml++")):
        assert shown[key] == pytest.approx(expected[name].tolist(), rel=1e-9, abs=1e-12), key


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-grade-book svg.mk-plot").count() == 2
        shown = readout(page)
        assert shown["rows"] == [45, 95, 30, 20, 75, 60, 68, 72, 75, 78]
        assert_same_as_python(shown)
        assert_same_as_python(readout(page, 1))
        assert page.get_by_text("MAML prefers student 2: 78 against 75.", exact=True).is_visible()
        assert page.get_by_text("MAML++ prefers student 2: 70.6 against 53.", exact=True).is_visible()


def test_numbers_are_those_of_python_in_every_epoch(page):
    for figure in (0, 1):
        for epoch in range(11):
            set_range(page, figure, epoch)
            shown = readout(page, figure)
            assert shown["epoch"] == [epoch]
            assert_same_as_python(shown)


def test_mouse_drag_changes_one_score(page):
    before = readout(page)["rows"]
    x, y = centre(page, "student 1, exam 3")
    page.mouse.move(x + 2, y + 2)
    page.mouse.down()
    page.mouse.move(x + 30, y - 80, steps=4)
    page.mouse.up()
    shown = readout(page)
    changed = [k for k in range(10) if shown["rows"][k] != before[k]]
    assert changed == [2] and shown["rows"][2] > before[2] + 10
    assert centre(page, "student 1, exam 3")[1] == pytest.approx(y - 82, abs=3)  # a score is a whole number
    assert_same_as_python(shown)
    page.get_by_role("button", name="start again").first.click()
    assert readout(page)["rows"] == before


def test_keyboard_and_live_region(page):
    handle = page.get_by_role("slider", name="student 1, exam 5", exact=True)
    handle.focus()
    for key, expected in [
        ("ArrowUp", 76),
        ("Shift+ArrowUp", 86),
        ("ArrowDown", 85),
        ("PageUp", 95),
        ("PageDown", 85),
        ("Home", 75),
        ("PageDown", 65),
        ("PageDown", 55),
    ]:
        page.keyboard.press(key)
        assert readout(page)["rows"][4] == expected
    assert handle.get_attribute("aria-valuetext") == "55"
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.includes('78 against 55')")
    assert_same_as_python(readout(page))
    loss = page.get_by_role("slider", name="task 2, step 1", exact=True)
    loss.focus()
    page.keyboard.press("ArrowUp")
    assert readout(page, 1)["rows"][5] == pytest.approx(1.24)  # a hundredth of the axis
    assert_same_as_python(readout(page, 1))


def test_rankings_can_differ(page):
    """What the reader is asked to find: the last exam for student 1, the mean for student 2."""
    page.get_by_role("slider", name="student 1, exam 5", exact=True).focus()
    for _ in range(5):
        page.keyboard.press("ArrowUp")
    readout(page)
    assert page.get_by_text("MAML prefers student 1: 80 against 78.", exact=True).is_visible()
    assert page.get_by_text("MAML++ prefers student 2: 70.6 against 54.", exact=True).is_visible()
    set_range(page, 0, 10)
    readout(page)
    assert page.get_by_text("MAML++ prefers student 1: 80 against 78.", exact=True).is_visible()


def test_touch_drag_and_the_page_still_scrolls_elsewhere(book, browser):
    with open_page(browser, book["http"], width=390, has_touch=True, is_mobile=True) as page:
        x, y = centre(page, "student 2, exam 1")
        scrolled = page.evaluate("scrollY")
        touch = page.context.new_cdp_session(page)

        def swipe(x, y, dx, dy):
            touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
            for i in range(1, 9):
                point = {"x": x + dx * i / 8, "y": y + dy * i / 8}
                touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
            touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        swipe(x, y, 0, 60)
        shown = readout(page)
        assert shown["rows"][5] < 50
        assert_same_as_python(shown)
        assert page.evaluate("scrollY") == scrolled
        box = page.locator(".mk-plot").first.bounding_box()
        swipe(box["x"] + box["width"] - 20, box["y"] + box["height"] - 12, 0, -160)
        page.wait_for_function("before => scrollY !== before", arg=scrolled)
        assert readout(page)["rows"] == shown["rows"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        assert_accessible_and_fits(page, width)
