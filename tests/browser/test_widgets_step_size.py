"""The live figure of the step size, in a page that the book's own chain builds: no kernel, the numbers of autograd."""

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout, set_range

from mamlkit import mlp, pretrained
from mamlkit.widgets import curvature_and_losses

CELLS = [
    "import mamlkit\nfrom mamlkit.widgets import StepSize\n\n"
    'StepSize(mamlkit.mlp().state_dict() | mamlkit.pretrained("sinusoid-maml"))'
]
START = mlp().state_dict() | pretrained("sinusoid-maml")


def assert_same_as_python(shown):
    alpha, amplitude, phase = (shown[name][0] for name in ("alpha", "amplitude", "phase"))
    expected = curvature_and_losses(START, alpha, amplitude, phase, shown["points"])
    assert shown["curvature"][0] == pytest.approx(expected["curvature"], rel=1e-3)
    # A task that runs away ends in numbers that are none.
    assert shown["support"] == pytest.approx(expected["support"].tolist(), rel=1e-4, nan_ok=True)
    assert shown["line"] == pytest.approx(expected["line"].tolist(), rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-step-size svg.mk-plot").count() == 2
        assert_same_as_python(readout(page))


def test_numbers_are_those_of_autograd(page):
    for alpha, amplitude, phase in [(0.001, 0.1, 0.0), (0.02, 5.0, 3.14), (0.01, 2.5, 1.7)]:
        page.get_by_role("button", name="new points").click()
        for index, value in enumerate((alpha, amplitude, phase)):
            set_range(page, index, value)
        shown = readout(page)
        assert [shown[key] for key in ("alpha", "amplitude", "phase")] == [[alpha], [amplitude], [phase]]
        assert_same_as_python(shown)


def test_keys_move_the_step_size_and_the_needle(page):
    needle = page.locator(".mk-needle")
    before = needle.get_attribute("d")
    page.locator(".mk-slider input").first.focus()
    page.keyboard.press("ArrowRight")
    assert readout(page)["alpha"] == [0.011] and needle.get_attribute("d") != before
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.includes('With α = 0.011')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        assert_accessible_and_fits(page, width)
