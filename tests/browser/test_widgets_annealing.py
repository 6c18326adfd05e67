"""The annealing figure, in a page that the book's own chain builds: no kernel, no other host, the numbers of the library."""

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout, set_range

from mamlkit import AnnealedMultiStep
from mamlkit.widgets import annealed_losses

CELLS = ["from mamlkit.widgets import Annealing\n\nAnnealing()"]


def settings(shown):
    """Epoch, E and K."""
    return tuple(int(shown[key][0]) for key in ("epoch", "epochs", "K"))


def assert_same_as_python(shown):
    epoch, epochs, steps = settings(shown)
    assert shown["weights"] == pytest.approx(AnnealedMultiStep(epochs).weights(steps, epoch).tolist(), abs=1e-12)
    expected = [annealed_losses([shown["a"], shown["b"]], e, epochs).tolist() for e in range(21)]
    assert shown["weighted"] == pytest.approx(expected[epoch], abs=1e-12)
    assert shown["byEpoch"] == pytest.approx([loss for pair in expected for loss in pair], abs=1e-12)


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-annealing svg.mk-plot").count() == 2
        assert page.locator(".mk-annealing .mk-handle:visible").count() == 10
        assert_same_as_python(readout(page))


def test_numbers_are_those_of_the_library(page):
    for setting in [(0, 10, 5), (5, 10, 5), (9, 10, 5), (10, 10, 5), (14, 15, 4), (3, 3, 2), (7, 11, 1)]:
        for index, value in enumerate(setting):
            set_range(page, index, value)
        shown = readout(page)
        assert settings(shown) == setting
        assert page.locator(".mk-handle:visible").count() == 2 * setting[2]
        assert page.locator(".mk-weight").count() == setting[2]
        assert_same_as_python(shown)


def test_the_order_changes_in_epoch_six(page):
    assert readout(page)["change"] == [6]
    for epoch, better in ((0, "A"), (5, "A"), (6, "B"), (12, "B")):
        set_range(page, 0, epoch)
        readout(page)
        assert f"{better} is preferred" in page.locator(".mk-verdict").text_content()
        assert "B is lower" in page.locator(".mk-flip").text_content()


def test_dragging_a_disc(page):
    handle = page.get_by_role("slider", name="B, query loss after step 1")
    box = handle.locator(".mk-target").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 70, steps=4)  # 210 pixels are a loss of 3
    page.mouse.up()
    shown = readout(page)
    assert shown["b"] == pytest.approx([1.1, 1.8, 1.3, 0.9, 0.6], abs=0.03)
    assert_same_as_python(shown)
    page.mouse.move(x, y + 200)
    assert readout(page)["b"] == shown["b"], "the disc was let go"
    for name, key in (("epoch e", "ArrowRight"), ("annealing epochs E", "ArrowLeft"), ("inner steps K", "ArrowLeft")):
        page.get_by_label(name, exact=True).focus()
        page.keyboard.press(key)
    assert settings(readout(page)) == (1, 9, 4)
    page.get_by_role("button", name="start again").click()
    assert readout(page)["b"] == [2.1, 1.8, 1.3, 0.9, 0.6]
    assert settings(readout(page)) == (0, 10, 5), "the button puts everything back"


def test_keyboard_and_live_region(page):
    handle = page.get_by_role("slider", name="A, query loss after step 5")
    handle.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    shown = readout(page)
    assert shown["a"][4] == pytest.approx(0.2)
    assert handle.get_attribute("aria-valuetext") == "0.20"
    assert shown["change"] == [-1], "A is better everywhere"
    assert_same_as_python(shown)
    page.keyboard.press("Home")
    assert readout(page)["a"][4] == 0.8
    page.get_by_label("epoch e", exact=True).focus()
    page.keyboard.press("ArrowRight")
    assert settings(readout(page))[0] == 1
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.includes('Epoch 1 of 10')")
    assert "is preferred" in page.locator(".mk-fig [aria-live=polite]").text_content()


def test_touch_moves_a_slider(book, browser):
    with open_page(browser, book["http"], width=390, has_touch=True, is_mobile=True) as page:
        slider = page.locator(".mk-slider input").first
        box = slider.bounding_box()
        assert box["height"] >= 24
        slider.tap(position={"x": 0.5 * box["width"], "y": box["height"] / 2})
        shown = readout(page)
        assert 8 <= settings(shown)[0] <= 12
        assert_same_as_python(shown)
        target = page.locator(".mk-handle .mk-target").first.bounding_box()
        assert min(target["width"], target["height"]) >= 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        assert_accessible_and_fits(page, width)
