"""The live figure of two tasks, in a page that the book's own chain builds: no kernel, no other host, the right numbers."""

import math

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout, set_range

from mamlkit.widgets import two_task_arrows

CELLS = [
    "from mamlkit.widgets import TwoTasks\n\nTwoTasks(theta=(-0.2, -1.3), alpha=0.4, inner_steps=3)",
    "import ipywidgets\n\nipywidgets.IntSlider(description='plain')",
]


@pytest.fixture(params=["http", "file"])
def page(request, book, browser):
    with open_page(browser, book[request.param]) as page:
        yield page


@pytest.fixture
def http_page(book, browser):
    with open_page(browser, book["http"]) as page:
        yield page


def centre(page):
    box = page.locator(".mk-handle .mk-target").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def assert_same_as_python(shown):
    expected = two_task_arrows(shown["theta"], shown["alpha"][0], int(shown["innerSteps"][0]))
    for key in ("maml", "fomaml", "reptile", "adapted", "support", "query"):
        assert shown[key] == pytest.approx(expected[key].flatten().tolist(), rel=1e-6, abs=1e-12), key
    assert shown["queryAfter"] == pytest.approx(expected["query_after"].tolist(), rel=1e-6)


def test_figure_starts_and_plain_control_says_what_it_needs(page):
    assert page.locator(".mk-two-tasks svg.mk-plot").is_visible()
    assert page.locator(".mk-arrow-maml, .mk-arrow-fomaml, .mk-arrow-reptile").count() == 6  # 3 drawn, 3 in the legend
    assert page.get_by_text("This control needs a kernel: run the notebook.").is_visible()
    assert readout(page)["theta"] == [-0.2, -1.3]


def test_mouse_drag(page):
    before = readout(page)
    page.locator(".mk-handle").scroll_into_view_if_needed()
    x, y = centre(page)
    page.mouse.move(x + 3, y + 3)
    page.mouse.down()
    page.mouse.move(x + 43, y - 57, steps=4)
    page.mouse.up()
    after = readout(page)
    assert after["theta"][0] > before["theta"][0] + 0.1
    assert after["theta"][1] > before["theta"][1] + 0.1
    assert centre(page) == pytest.approx((x + 40, y - 60), abs=0.6)
    assert_same_as_python(after)


def test_arrow_keys(page):
    page.locator(".mk-handle").focus()
    for key, expected in [
        ("ArrowRight", [-0.15, -1.3]),
        ("Shift+ArrowUp", [-0.15, -1.05]),
        ("ArrowDown", [-0.15, -1.1]),
        ("Shift+ArrowLeft", [-0.4, -1.1]),
        ("Home", [-0.2, -1.3]),
    ]:
        page.keyboard.press(key)
        assert readout(page)["theta"] == pytest.approx(expected)
    for _ in range(14):
        page.keyboard.press("Shift+ArrowLeft")
    assert readout(page)["theta"][0] == -3  # stays in the figure
    assert_same_as_python(readout(page))


def test_keyboard_reaches_the_handle_and_shows_the_focus(http_page):
    for _ in range(60):
        http_page.keyboard.press("Tab")
        if http_page.evaluate("document.activeElement.classList.contains('mk-handle')"):
            break
    assert http_page.eval_on_selector(".mk-ring", "node => getComputedStyle(node).stroke") != "none"


def test_touch_drag_moves_theta_and_the_page_still_scrolls_elsewhere(book, browser):
    with open_page(browser, book["http"], width=390, has_touch=True, is_mobile=True) as page:
        page.locator(".mk-handle").scroll_into_view_if_needed()
        x, y = centre(page)
        scrolled = page.evaluate("scrollY")
        touch = page.context.new_cdp_session(page)

        def swipe(x, y, dx, dy):
            touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
            for i in range(1, 9):
                point = {"x": x + dx * i / 8, "y": y + dy * i / 8}
                touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
            touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        swipe(x, y, 30, -40)
        shown = readout(page)
        assert shown["theta"][0] > 0.1
        assert shown["theta"][1] > -1.0
        assert_same_as_python(shown)
        assert page.evaluate("scrollY") == scrolled
        theta = shown["theta"]
        box = page.locator(".mk-plot").bounding_box()
        swipe(box["x"] + 60, box["y"] + box["height"] - 40, 0, -160)
        page.wait_for_function("before => scrollY !== before", arg=scrolled)
        assert readout(page)["theta"] == theta


def test_numbers_are_those_of_autograd(http_page):
    box = http_page.locator(".mk-plot").bounding_box()
    places = [(0.2, 0.3), (0.55, 0.5), (0.9, 0.15), (0.5, 0.85), (0.12, 0.8)]
    settings = [(1, 0.1), (2, 0.8), (5, 0.4), (10, 0.8), (10, 0.02)]
    seen = set()
    for (px, py), (inner_steps, alpha) in zip(places, settings, strict=True):
        http_page.locator(".mk-plot").click(position={"x": box["width"] * px, "y": box["height"] * py})
        set_range(http_page, 0, inner_steps)
        set_range(http_page, 1, alpha)
        shown = readout(http_page)
        assert (shown["innerSteps"], shown["alpha"]) == ([inner_steps], [alpha])
        assert_same_as_python(shown)
        seen.add(tuple(shown["theta"]))
    assert len(seen) == len(places)


def test_visible_table_says_the_same(http_page):
    shown = readout(http_page)
    rows = http_page.locator(".mk-readout table").nth(1).locator("tbody tr").all_inner_texts()
    angle = math.degrees(
        math.atan2(
            abs(shown["fomaml"][0] * shown["maml"][1] - shown["fomaml"][1] * shown["maml"][0]),
            sum(f * m for f, m in zip(shown["fomaml"], shown["maml"], strict=True)),
        )
    )
    assert f"{shown['maml'][0]:.3f}".replace("-", "−") in rows[0]
    assert f"{angle:.1f}°" in rows[1]


def test_live_region_speaks_when_the_reader_rests(http_page):
    http_page.locator(".mk-handle").focus()
    http_page.keyboard.press("ArrowUp")
    live = http_page.locator(".mk-fig [aria-live=polite]")
    http_page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.includes('−1.25')")
    assert "Angle to MAML" in live.text_content()
    assert http_page.locator(".mk-handle").get_attribute("aria-valuetext") == "(−0.20, −1.25)"


def test_place_of_theta_can_be_read(http_page):
    place = http_page.locator(".mk-place")
    assert place.is_visible()
    assert place.inner_text() == "θ = (−0.20, −1.30)"
    http_page.locator(".mk-handle").focus()
    http_page.keyboard.press("Shift+ArrowRight")
    assert readout(http_page)["theta"] == pytest.approx([0.05, -1.3])
    assert place.inner_text() == "θ = (0.05, −1.30)"


def test_arrows_can_be_hidden(http_page):
    http_page.get_by_label("FOMAML").uncheck()
    readout(http_page)
    assert http_page.locator(".mk-plot .mk-arrow-fomaml").count() == 0
    assert http_page.locator(".mk-plot .mk-arrow-maml").count() == 1


def test_maml_arrow_is_the_slope_of_the_meta_contours(http_page):
    """The other contours show what MAML descends: they must change with K and alpha."""
    path = http_page.locator(".mk-plot .mk-line")
    http_page.get_by_label("contours of the mean query loss").check()
    readout(http_page)
    first = path.first.get_attribute("d")
    set_range(http_page, 0, 7)
    readout(http_page)
    assert path.count() == 1
    assert path.first.get_attribute("d") != first


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        assert_accessible_and_fits(page, width)
        paper = page.eval_on_selector(".mk-fig", "node => getComputedStyle(node).backgroundColor")
        assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 25, 30)")


@pytest.mark.parametrize("width", [1280, 390])
def test_names_and_letters_do_not_cover_each_other(book, browser, width):
    with open_page(browser, book["http"], width=width) as page:
        boxes = page.eval_on_selector_all(
            ".mk-plot .mk-halo",
            "all => all.map((n) => [n.textContent, n.getBoundingClientRect()]).map(([t, b]) => [t, b.x, b.y, b.right, b.bottom])",
        )
        assert {text for text, *_ in boxes} == {"task A", "task B", "M", "F", "R"}
        for name, left, top, right, bottom in boxes:
            for other, x, y, end, below in boxes:
                apart = (
                    end < left or right < x or below < top + 3 or bottom < y + 3
                )  # a line is higher than its letters
                assert name == other or apart, f"{name} and {other}"


def test_follows_the_switch_of_the_page(http_page):
    def paper():
        return http_page.eval_on_selector(".mk-fig", "node => getComputedStyle(node).backgroundColor")

    for theme, colour in (("dark", "rgb(21, 25, 30)"), ("light", "rgb(255, 255, 255)")):
        http_page.evaluate("theme => document.documentElement.setAttribute('data-theme', theme)", theme)
        assert paper() == colour
