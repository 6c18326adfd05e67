"""The badly scaled bowl, in a page that the book's own chain builds: no kernel, no other host, the numbers of autograd."""

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout, set_range

from mamlkit.widgets import bowl_descent

CELLS = ["from mamlkit.widgets import ScaledBowl\n\nScaledBowl()"]
SHARED, FLAT, STEEP, STEPS = range(4)  # the sliders, in the order of the page


def assert_same_as_python(shown):
    alpha = shown["alpha"] if len(shown["alpha"]) == 2 else shown["alpha"][0]
    expected = bowl_descent(alpha, int(shown["innerSteps"][0]))
    for key, name in (("steps", "steps"), ("losses", "losses"), ("slopes", "alpha_gradient")):
        assert shown[key] == pytest.approx(expected[name].flatten().tolist(), rel=1e-9, abs=1e-12), key


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-scaled-bowl svg.mk-plot").count() == 2
        assert page.locator(".mk-slider:visible").count() == 2
        shown = readout(page)
        assert (shown["alpha"], shown["innerSteps"]) == ([0.2], [3])
        assert_same_as_python(shown)


def test_numbers_are_those_of_autograd(page):
    for alpha, steps in [(0.05, 1), (0.125, 8), (0.3, 8), (0, 2)]:
        set_range(page, SHARED, alpha)
        set_range(page, STEPS, steps)
        shown = readout(page)
        assert (shown["alpha"], shown["innerSteps"]) == ([alpha], [steps])
        assert_same_as_python(shown)
    page.get_by_label("the same step size for both axes").uncheck()
    readout(page)  # the third is shown with the next frame
    assert page.locator(".mk-slider:visible").count() == 3
    for flat, steep, steps in [(2, 0.125, 1), (4, 0.3, 8), (0.55, 0.2, 5)]:
        for index, value in ((FLAT, flat), (STEEP, steep), (STEPS, steps)):
            set_range(page, index, value)
        shown = readout(page)
        assert (shown["alpha"], shown["innerSteps"]) == ([flat, steep], [steps])
        assert_same_as_python(shown)


def test_advice_leads_to_the_inverse_curvatures(page):
    page.get_by_label("the same step size for both axes").uncheck()
    set_range(page, STEPS, 1)
    for index, low, best, high in ((FLAT, 1, 2, 3), (STEEP, 0.1, 0.125, 0.15)):
        verdict = page.locator(".mk-verdict").nth(index - 1)
        for value, word in ((low, "raise it"), (best, "as good as it gets"), (high, "lower it")):
            set_range(page, index, value)
            readout(page)
            assert word in verdict.text_content()
        set_range(page, index, best)
    assert readout(page)["losses"][-1] == pytest.approx(0, abs=1e-12)


def test_advice_says_stop_at_the_best_position_of_the_shared_slider(page):
    verdict = page.locator(".mk-verdict").first
    for steps in (1, 3, 8):
        set_range(page, STEPS, steps)
        losses = [bowl_descent(0.005 * n, steps)["losses"][-1].item() for n in range(61)]
        best = losses.index(min(losses))
        for n, words in ((best - 1, "raise it"), (best, "as good as it gets on this slider"), (best + 1, "lower it")):
            set_range(page, SHARED, round(0.005 * n, 3))
            readout(page)
            assert f"α: {words}, dL/dα" in verdict.text_content()


def test_two_step_sizes_begin_where_the_shared_one_stands(page):
    set_range(page, SHARED, 0.13)
    page.get_by_label("the same step size for both axes").uncheck()
    assert readout(page)["alpha"] == [0.15, 0.13]  # the flat axis has the coarser slider


def test_keyboard_and_live_region(page):
    page.get_by_label("step size alpha for both").focus()
    page.keyboard.press("ArrowRight")
    assert readout(page)["alpha"][0] == pytest.approx(0.205)
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.includes('3 inner steps')")
    assert "dL/dα" in page.locator(".mk-fig [aria-live=polite]").text_content()
    page.get_by_label("the same step size for both axes").focus()
    page.keyboard.press("Space")
    readout(page)  # what is hidden takes no focus
    page.get_by_label("step size alpha 2, steep axis").focus()
    page.keyboard.press("ArrowLeft")
    shown = readout(page)
    assert shown["alpha"] == pytest.approx([0.2, 0.2])  # unticking took 0.205 over
    assert_same_as_python(shown)


def test_touch_moves_a_slider(book, browser):
    with open_page(browser, book["http"], width=390, has_touch=True, is_mobile=True) as page:
        slider = page.locator(".mk-slider:visible input").first
        box = slider.bounding_box()
        assert box["height"] >= 24
        slider.tap(position={"x": 0.9 * box["width"], "y": box["height"] / 2})
        shown = readout(page)
        assert shown["alpha"][0] > 0.24
        assert_same_as_python(shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        assert_accessible_and_fits(page, width)
        page.get_by_label("the same step size for both axes").uncheck()
        assert_accessible_and_fits(page, width)
