"""The curvature figure, in a page that the book's own chain builds: no kernel, no other host, the numbers of autograd."""

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout, set_range

from mamlkit.widgets import curvature_arrows

CELLS = ["from mamlkit.widgets import Curvature\n\nCurvature()"]


def assert_same_as_python(shown):
    expected = curvature_arrows(shown["h"], shown["alpha"][0], int(shown["innerSteps"][0]))
    for key in ("maml", "fomaml", "factors", "steps", "angle"):
        assert shown[key] == pytest.approx(expected[key].flatten().tolist(), rel=1e-6, abs=1e-9), key


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-curvature svg.mk-plot").is_visible()
        for name in ("maml", "fomaml"):
            assert page.locator(f".mk-plot .mk-arrow-{name}").count() == 1
        assert page.locator(".mk-wedge").count() == 1
        assert_same_as_python(readout(page))


def test_numbers_are_those_of_autograd(page):
    for setting in [(4, 4, 0.1, 5), (0, 4, 0.1, 1), (1, 8, 0.3, 1), (10, 0, 0.3, 10)]:
        for index, value in enumerate(setting):
            set_range(page, index, value)
        shown = readout(page)
        assert [*shown["h"], *shown["alpha"], *shown["innerSteps"]] == list(setting)
        assert_same_as_python(shown)
        assert page.get_by_text(f"Angle between M and F: {shown['angle'][0]:.1f}°", exact=True).is_visible()


def test_an_arrow_of_length_zero_has_no_angle(page):
    for index, value in enumerate((10, 10, 0.1, 1)):  # both factors are 0
        set_range(page, index, value)
    readout(page)
    assert page.get_by_text("not defined").first.is_visible()
    assert page.locator(".mk-wedge").count() == 0


def test_keyboard_and_live_region(page):
    slider = page.get_by_label("curvature h2")
    slider.focus()
    before = readout(page)["h"][1]
    page.keyboard.press("ArrowRight")
    assert readout(page)["h"][1] == pytest.approx(before + 0.1)
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.includes('4.1')")
    assert "Angle between MAML and FOMAML" in page.locator(".mk-fig [aria-live=polite]").text_content()


def test_touch_moves_a_slider(book, browser):
    with open_page(browser, book["http"], width=390, has_touch=True, is_mobile=True) as page:
        slider = page.locator(".mk-slider input").nth(1)
        box = slider.bounding_box()
        assert box["height"] >= 24
        slider.tap(position={"x": 0.9 * box["width"], "y": box["height"] / 2})
        shown = readout(page)
        assert shown["h"][1] > 8
        assert_same_as_python(shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        assert_accessible_and_fits(page, width)
