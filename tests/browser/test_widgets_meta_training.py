"""The live figure of a meta-training, in a page that the book's own chain builds: no kernel, the numbers of autograd."""

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout, set_range

from mamlkit import mlp
from mamlkit.widgets import errors_in_training

CELLS = [
    "import mamlkit\nfrom mamlkit.widgets import MetaTraining\n\n"
    "MetaTraining({step: mamlkit.mlp(seed=step).state_dict() for step in (0, 70_000)})"
]
STARTS = {step: mlp(seed=step).state_dict() for step in (0, 70_000)}


def assert_same_as_python(shown):
    expected = errors_in_training(STARTS, shown["amplitude"][0], shown["phase"][0], shown["points"])
    assert shown["before"] == pytest.approx(expected[:, 0].tolist(), rel=1e-4)
    assert shown["adapted"] == pytest.approx(expected[:, int(shown["steps"][0])].tolist(), rel=1e-4)


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-meta-training svg.mk-plot").count() == 2
        assert page.locator(".mk-point").count() == 10
        assert_same_as_python(readout(page))


def test_numbers_are_those_of_autograd(page):
    for moment, steps, amplitude, phase in [(0, 0, 0.1, 0.0), (1, 5, 5.0, 3.14), (1, 2, 2.5, 1.7)]:
        page.get_by_role("button", name="new points").click()
        for index, value in enumerate((moment, steps, amplitude, phase)):
            set_range(page, index, value)
        shown = readout(page)
        assert [shown[key] for key in ("moment", "steps", "amplitude", "phase")] == [
            [moment],
            [steps],
            [amplitude],
            [phase],
        ]
        assert_same_as_python(shown)


def test_training_plays_to_its_end_and_can_be_stopped(page):
    page.get_by_role("button", name="play the training").click()
    page.get_by_role("button", name="pause").click()
    assert readout(page)["moment"] == [0]
    page.get_by_role("button", name="play the training").click()
    page.wait_for_function("document.querySelector('.mk-readout').dataset.moment === '1'")
    page.get_by_role("button", name="play the training").wait_for()  # it has stopped by itself
    assert page.locator(".mk-now").inner_text().split("\t")[0] == "70,000"
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.startsWith('70,000 outer steps')")


def test_keys_walk_through_the_training(page):
    curve = page.locator(".mk-curve-start")
    before = curve.get_attribute("points")
    page.locator(".mk-slider input").first.focus()
    page.keyboard.press("ArrowRight")
    assert readout(page)["moment"] == [1] and curve.get_attribute("points") != before
    assert page.locator(".mk-slider output").first.inner_text() == "70,000"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        assert_accessible_and_fits(page, width)
