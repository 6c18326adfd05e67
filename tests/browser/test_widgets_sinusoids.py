"""The live figure of three starts, in a page that the book's own chain builds: no kernel, the numbers of autograd."""

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout, set_range

from mamlkit.widgets import three_starts

CELLS = ["from mamlkit.widgets import ThreeStarts\n\nThreeStarts()"]


def assert_same_as_python(shown):
    expected = three_starts(shown["amplitude"][0], shown["phase"][0], shown["points"])["mse"]
    for name in ("scratch", "pretrained", "maml"):
        assert shown[name] == pytest.approx(expected[name].tolist(), rel=1e-4), name


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-sinusoids svg.mk-plot").is_visible()
        for name in ("scratch", "pretrained", "maml"):
            assert page.locator(f".mk-curve-{name}").count() == 1
        assert page.locator(".mk-point").count() == 10
        assert_same_as_python(readout(page))


def test_numbers_are_those_of_autograd(page):
    for amplitude, phase, shots in [(0.1, 0.0, 1), (5.0, 3.14, 20), (2.5, 1.7, 5)]:
        page.get_by_role("button", name="new points").click()
        for index, value in enumerate((amplitude, phase, shots)):
            set_range(page, index, value)
        shown = readout(page)
        assert (shown["amplitude"], shown["phase"], len(shown["points"])) == ([amplitude], [phase], shots)
        assert_same_as_python(shown)


def test_new_points_are_new_and_inside(page):
    before = readout(page)["points"]
    page.get_by_role("button", name="new points").click()
    after = readout(page)["points"]
    assert before != after
    assert all(-5 <= x <= 5 for x in after)


def test_keys_change_the_number_of_steps_and_the_curve(page):
    curve = page.locator(".mk-curve-maml")
    page.locator(".mk-slider input").nth(3).focus()
    before = curve.get_attribute("points")
    page.keyboard.press("ArrowRight")
    shown = readout(page)
    assert shown["steps"] == [2]
    assert curve.get_attribute("points") != before
    row = page.locator(".mk-now").inner_text().split("\t")
    assert row == ["2", *(f"{shown[name][2]:.2f}" for name in ("maml", "pretrained", "scratch"))]
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.includes('2 inner steps')")


def test_points_are_dragged_along_x_and_stay_on_the_sinusoid(page):
    before = readout(page)
    handle = page.get_by_role("slider", name="Support point 2", exact=True)
    handle.scroll_into_view_if_needed()
    box = handle.locator(".mk-target").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + 2, y - 2)
    page.mouse.down()
    page.mouse.move(x + 32, y - 60, steps=4)
    page.mouse.up()
    after = readout(page)
    assert after["points"][1] > before["points"][1] + 0.5
    assert after["points"][:1] + after["points"][2:] == before["points"][:1] + before["points"][2:]
    assert_same_as_python(after)
    moved = handle.locator(".mk-target").bounding_box()
    assert moved["x"] + moved["width"] / 2 == pytest.approx(x + 30, abs=0.6)
    handle.focus()
    for key, step in (("ArrowRight", 0.1), ("Shift+ArrowLeft", -0.5), ("ArrowUp", 0.1)):
        place = readout(page)["points"][1]
        page.keyboard.press(key)
        assert readout(page)["points"][1] == pytest.approx(place + step)
    page.keyboard.press("Home")
    assert readout(page)["points"] == before["points"]
    assert handle.get_attribute("aria-valuetext").startswith("x = ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        assert_accessible_and_fits(page, width)
