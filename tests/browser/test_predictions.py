"""A prediction keeps its result out of sight until the reader has chosen; figures fit a dark page."""

from __future__ import annotations

import io

import pytest
from PIL import Image

CHAPTER = "book/05_few_shots_of_images.html"
SECTION = "#who-else-is-in-the-batch"


@pytest.fixture
def chapter(browser, site):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{site}/{CHAPTER}")
    yield page
    page.close()


def test_the_result_comes_after_the_choice(chapter):
    result, veil = chapter.locator(f"{SECTION} .cell_output").first, chapter.locator(f"{SECTION} .veil")
    assert veil.is_visible() and not result.is_visible()
    chapter.locator(f"{SECTION} summary").nth(1).click()
    result.wait_for(state="visible")
    assert veil.count() == 0
    assert chapter.locator(f"{SECTION} details[open]").count() == 1, "what was chosen is answered, and nothing else"


def test_the_result_can_be_had_without_choosing(chapter):
    button = chapter.locator(f"{SECTION} .veil button")
    button.focus()
    chapter.keyboard.press("Enter")
    chapter.locator(f"{SECTION} .cell_output").first.wait_for(state="visible")
    assert chapter.evaluate("document.activeElement.closest('section').id") == SECTION[1:], "the keyboard goes on there"


def test_the_next_section_is_never_veiled(chapter):
    veiled = chapter.evaluate(
        "[...document.querySelectorAll('.veiled')].map((box) => box.querySelectorAll('h2').length)"
    )
    assert veiled and not any(veiled)


def test_without_javascript_everything_is_shown(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/{CHAPTER}")
    assert page.locator(f"{SECTION} .cell_output").first.is_visible()
    context.close()


def test_a_figure_on_a_dark_page_is_dark(browser, site):
    page = browser.new_page(color_scheme="dark", viewport={"width": 1280, "height": 900})
    page.goto(f"{site}/{CHAPTER}")
    figure = page.locator("#trained-by-maml .cell_output img").first
    figure.scroll_into_view_if_needed()
    figure.evaluate("async (image) => { image.loading = 'eager'; await image.decode(); }")
    shot = Image.open(io.BytesIO(figure.screenshot())).convert("RGB")
    colours = {colour for _, colour in shot.getcolors(shot.width * shot.height)}
    background = shot.getpixel((1, 1))
    assert max(background) < 40, "as the page"
    assert max(map(min, colours)) > 180, "with light text"
    page.close()
