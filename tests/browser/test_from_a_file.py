"""The pages of the book opened from a disk, one after another: nothing is missing, predictions open and live figures start."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
PAGES = sorted((HTML / "book").glob("*.html"))
# Marks the place of the first live figure: where it is still to start, its script stands for it. A plain control is no figure.
FIND_FIGURE = """() => {
    const [state, view] = ["state", "view"].map((kind) => `script[type="application/vnd.jupyter.widget-${kind}+json"]`);
    const models = Object.assign({}, ...[...document.querySelectorAll(state)].map((node) => JSON.parse(node.textContent).state));
    const place = [...document.querySelectorAll(`${view}, .live-figure`)].find((node) => node.matches(".live-figure")
        ? !node.matches(".needs-kernel") : models[JSON.parse(node.textContent).model_id].state._esm)?.parentElement;
    place?.setAttribute("data-live-place", "");
    return [Boolean(place), Boolean(place?.closest(".veiled[hidden]"))];
}"""


def open_a_prediction(page):
    """Choose the first answer of the first question; the result comes into sight."""
    hidden = page.locator(".veiled[hidden]")
    before = hidden.count()
    page.locator("details:has(~ .veil) summary").first.click()
    expect(hidden).to_have_count(before - 1)


def test_every_page_works_from_a_file(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    problems, predictions, figures = [], 0, 0
    page.on("console", lambda said: problems.append(f"{page.url}: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    page.on("requestfailed", lambda asked: problems.append(f"{page.url}: failed {asked.url}"))
    local = ("file:", "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(local) else problems.append(f"asked {asked.url}"))
    for path in PAGES:
        page.goto(path.as_uri())
        if page.locator(".veil").count():
            open_a_prediction(page)
            predictions += 1
        there, veiled = page.evaluate(FIND_FIGURE)
        if not there:
            continue
        if veiled:
            page.locator(".veil:has(+ .veiled [data-live-place]) button").click()
        place = page.locator("[data-live-place]")
        place.evaluate("node => node.scrollIntoView()")
        expect(place.locator(".mk-fig")).to_be_visible()
        assert place.locator(".mk-fig :is(svg, canvas)").count(), path.name
        figures += 1
    page.close()
    assert not problems, problems
    assert len(PAGES) == 17 and predictions >= 16 and figures >= 10
