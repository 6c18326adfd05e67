"""Copied text holds the TeX of its formulas, also where a formula is all that was selected."""

from __future__ import annotations

import pytest

# From before a node to behind it, or from its beginning to its end: as a hand on the mouse or a double click leave it.
SELECT = """([selector, inside]) => {
    const node = document.querySelector(selector), range = document.createRange();
    inside ? range.selectNodeContents(node) : range.selectNode(node);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return node.dataset.tex;
}"""
INLINE, DISPLAY = "p > span[data-tex]", "div[data-tex]"


@pytest.fixture(scope="module")
def chapter(browser, site):
    """A page with formulas, which keeps what was copied last in `copied`."""
    page = browser.new_page()
    page.goto(f"{site}/book/02_the_maml_algorithm.html")
    page.evaluate(
        "() => void addEventListener('copy', (event) => { window.copied = event.clipboardData.getData('text/plain'); })"
    )
    yield page
    page.close()


def copied(page):
    page.keyboard.press("Control+c")
    return page.evaluate("() => window.copied")


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(("selector", "mark"), [(INLINE, "$"), (DISPLAY, "$$")])
def test_a_formula_alone(chapter, selector, mark, inside):
    tex = chapter.evaluate(SELECT, [selector, inside])
    assert tex and copied(chapter) == f"{mark}{tex}{mark}"


def test_a_formula_in_a_sentence(chapter):
    sentence = f"p:has(> {INLINE.split(' > ')[1]})"
    tex = chapter.locator(INLINE).first.get_attribute("data-tex")
    chapter.evaluate(SELECT, [sentence, True])
    text = copied(chapter)
    words = chapter.locator(sentence).first.evaluate(
        "node => [...node.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE).map((child) => child.data)"
    )
    assert f"${tex}$" in text and words and all(part in text for part in words)


def test_a_formula_that_the_mouse_went_over(chapter):
    formula = chapter.locator(DISPLAY).first
    formula.scroll_into_view_if_needed()
    chapter.evaluate("() => getSelection().removeAllRanges()")
    box = formula.locator("mjx-math").bounding_box()
    y = box["y"] + box["height"] / 2
    chapter.mouse.move(box["x"] + 3, y)
    chapter.mouse.down()
    chapter.mouse.move(box["x"] + box["width"] - 3, y, steps=5)
    chapter.mouse.up()
    assert copied(chapter) == f"$${formula.get_attribute('data-tex')}$$"


def test_a_part_of_a_formula_is_the_formula(chapter):
    chapter.evaluate(SELECT, [f"{DISPLAY} mjx-container *", False])
    tex = chapter.locator(DISPLAY).first.get_attribute("data-tex")
    assert copied(chapter) == f"$${tex}$$"


def test_text_without_a_formula_is_left_to_the_browser(chapter):
    chapter.evaluate(SELECT, ["h1", True])
    assert copied(chapter) == ""
