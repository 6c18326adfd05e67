"""The noisy bowl, in a page that the book's own chain builds: no kernel, no other host, the numbers of Python."""

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout, set_range

from mamlkit.widgets import cosine_rates, noisy_descent

CELLS = ["from mamlkit.widgets import NoisyBowl\n\nNoisyBowl()"]
FIRST, LAST = "rate at the start", "rate at the end"


def assert_same_as_python(shown):
    first, last, noise, seed = settings(shown)
    step = int(shown["step"][0])
    for name, end in (("constant", first), ("cosine", last)):
        run = noisy_descent(cosine_rates(first, end), noise, int(seed))
        assert shown[name] == pytest.approx(run["distance"].tolist(), rel=1e-9, abs=1e-12)
        assert shown[f"{name}End"] == pytest.approx(run["path"][step].tolist(), rel=1e-9, abs=1e-12)
        assert shown[f"{name}Rms"] == pytest.approx(run["rms"].tolist(), rel=1e-9)
        assert shown[f"{name}Floor"] == pytest.approx(run["floor"].tolist(), rel=1e-9)


def settings(shown):
    return [shown[key][0] for key in ("first", "last", "noise", "seed")]


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-noisy-bowl svg").count() >= 3
        assert page.locator(".mk-noisy-bowl .mk-handle").count() == 2
        shown = readout(page)
        assert settings(shown) == [0.06, 0, 2, 1]
        assert_same_as_python(shown)


def test_keys_set_the_rates_and_every_number_follows(page):
    for name, key, index, expected in (
        (FIRST, "ArrowUp", 0, 0.061), (FIRST, "Shift+ArrowDown", 0, 0.051), (LAST, "Shift+ArrowUp", 1, 0.01),
        (LAST, "ArrowLeft", 1, 0.009),
    ):  # fmt: skip
        page.get_by_role("slider", name=name).focus()
        page.keyboard.press(key)
        shown = readout(page)
        assert settings(shown)[index] == pytest.approx(expected)
        assert_same_as_python(shown)
    assert page.get_by_role("slider", name=LAST).get_attribute("aria-valuetext") == "0.009"
    page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.includes('from 0.051 to 0.009')")
    page.keyboard.press("Home")
    assert settings(readout(page))[1] == 0


def test_dragging_a_disc(page):
    handle = page.get_by_role("slider", name=FIRST)
    box = handle.locator(".mk-target").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 52, steps=4)  # 104 pixels are a rate of 0.1
    page.mouse.up()
    shown = readout(page)
    assert settings(shown)[0] == pytest.approx(0.01, abs=0.0011)
    assert_same_as_python(shown)
    assert "The constant rate ends nearer" in page.locator(".mk-fig").inner_text()
    page.mouse.move(x, y - 40)
    assert settings(readout(page)) == settings(shown), "the disc was let go"
    page.get_by_role("button", name="start again").click()
    assert settings(readout(page)) == [0.06, 0, 2, 1]
    assert "The cosine ends nearer" in page.locator(".mk-fig").inner_text()


def test_noise(page):
    before = readout(page)
    page.get_by_role("button", name="other noise").click()
    after = readout(page)
    assert settings(after) == [0.06, 0, 2, 2]
    assert after["constant"] != before["constant"] and after["constantRms"] == before["constantRms"]
    assert_same_as_python(after)
    for noise in (0, 0.5, 4):
        set_range(page, 1, noise)
        assert_same_as_python(readout(page))


def test_steps(page):
    """The runs are drawn as far as the slider says, and the sentence is about that step."""
    for step, words in ((25, "After 25 steps, the constant rate is nearer"), (5, "After 5 steps, the two are level")):
        set_range(page, 0, step)
        shown = readout(page)
        assert shown["step"] == [step]
        assert_same_as_python(shown)
        assert page.locator(".mk-verdict").inner_text().startswith(words)
        for name in ("constant", "cosine"):
            points = page.locator(f".mk-line-{name}").get_attribute("points").split()
            assert len(points) == step + 1
    page.get_by_role("button", name="start again").click()
    assert readout(page)["step"] == [300]


def test_same_rates_give_the_same_run(page):
    page.get_by_role("slider", name=LAST).focus()
    for _ in range(6):
        page.keyboard.press("Shift+ArrowUp")
    shown = readout(page)
    assert settings(shown)[:2] == [0.06, 0.06] and shown["constant"] == shown["cosine"]
    assert "The two are the same." in page.locator(".mk-fig").inner_text()


def test_touch_and_one_screen(book, browser):
    with open_page(browser, book["http"], width=390, height=844, has_touch=True, is_mobile=True) as page:
        for target in page.locator(".mk-handle .mk-target").all():
            box = target.bounding_box()
            assert min(box["width"], box["height"]) >= 24
        page.get_by_role("button", name="other noise").tap()
        assert settings(readout(page))[3] == 2
        assert page.locator(".mk-fig").bounding_box()["height"] <= 844


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        assert_accessible_and_fits(page, width)
