"""Every page of the finished book, opened wide and narrow, in light and dark."""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from axe import add_axe
from bs4 import BeautifulSoup

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
PAGES = sorted(str(path.relative_to(HTML)) for path in HTML.rglob("*.html") if "_static" not in path.parts)
WIDTHS = (1280, 390)

# What is folded, veiled or not yet laid out counts too.
SETTLE = """async () => {
    document.querySelectorAll('details').forEach((node) => { node.open = true; });
    document.querySelectorAll('section').forEach((node) => { node.style.contentVisibility = 'visible'; });
    document.querySelectorAll('img').forEach((node) => { node.loading = 'eager'; });
    dispatchEvent(new Event('beforeprint'));  // starts every live figure
    if (window.MathJax?.startup) await window.MathJax.startup.promise;
    await document.fonts.ready;
    dispatchEvent(new Event('resize'));  // the theme then makes what scrolls reachable by keyboard, a moment later
    await new Promise((done) => setTimeout(done, 600));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
# Another scheme on a page that has settled: nothing is loaded or moved, colours change with the next frame.
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
# axe-core is slow on thousands of elements. Of the words of code, which share a few colours, one of each kind is kept; the
# parts of formulas, which have the colour of the text around them, go.
TRIM = """() => {
    const seen = new Set();
    for (const word of document.querySelectorAll('pre span[class], .sig span[class]')) {
        const kind = `${word.className} in ${word.closest('div')?.parentElement?.className}`;
        if (seen.has(kind)) word.replaceWith(word.textContent); else seen.add(kind);
    }
    document.querySelectorAll('mjx-container').forEach((formula) => formula.replaceChildren());
}"""
# Preloading makes axe-core itself ask for stylesheets, some of them at wrong addresses.
CHECK_ACCESSIBILITY = """async (rules) => {
    const result = await axe.run(document, {runOnly: rules, resultTypes: ['violations'], preload: false});
    return result.violations.flatMap((rule) => rule.nodes.map(
        (node) => `${rule.id}: ${node.target} ${node.html.replace(/\\s+/g, ' ').slice(0, 150)}`));
}"""
TOO_WIDE = """() => {
    const width = document.scrollingElement.clientWidth;
    if (document.scrollingElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll('main *')].filter((node) => node.getBoundingClientRect().right > width + 1)
        .slice(0, 5).map((node) => node.outerHTML.slice(0, 150));
}"""


def test_the_book_is_built():
    assert "index.html" in PAGES, "build the book first: make book"
    assert any("appendix/api" in page for page in PAGES)


WCAG_A_AND_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
COLOURS = ["color-contrast", "link-in-text-block"]  # the rest does not depend on the scheme


def look(browser, site, page_name, width):
    """What is wrong with a page, as a list of lines."""
    wrong = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url} {request.failure}"))
    page.on("response", lambda r: wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    local = (site, "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(local) else wrong.append(f"asked another host: {r.url}"))
    try:
        page.goto(f"{site}/{page_name}", wait_until="load")
        for scheme, wait in (("light", SETTLE), ("dark", DRAWN)):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.evaluate(wait)
            shown = page.evaluate("() => document.documentElement.dataset.theme")
            if shown != scheme:
                wrong.append(f"{shown} where {scheme} is asked for")
            wide = page.evaluate("() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
            if wide > 0:
                wrong.append(f"{scheme}: {wide} px too wide: {page.evaluate(TOO_WIDE)}")
        page.evaluate(TRIM)
        add_axe(page)
        for scheme, rules in (("light", WCAG_A_AND_AA), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            wrong += [f"{scheme}: {line}" for line in page.evaluate(CHECK_ACCESSIBILITY, rules)]
    finally:
        context.close()
    return [f"{width} px: {line}" for line in wrong]


@pytest.mark.parametrize("page_name", [page for page in PAGES if page not in ("index.html", "404.html")])
def test_page(page_name, browser, site):
    problems = [line for width in WIDTHS for line in look(browser, site, page_name, width)]
    assert not problems, "\n".join(problems)


TOO_WIDE_TABLES = """() => [...document.querySelectorAll('table.results')]
    .filter((table) => table.getBoundingClientRect().width > table.closest('.output').clientWidth + 1)
    .map((table) => table.caption.textContent)"""


@pytest.mark.parametrize("page_name", [page for page in PAGES if page.startswith("book/") and "/" not in page[5:]])
def test_results_fit_a_phone(page_name, browser, site):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{site}/{page_name}")
    page.evaluate(SETTLE)
    assert page.evaluate(TOO_WIDE_TABLES) == []
    page.close()


def test_front_page_leads_to_the_book(browser, site):
    page = browser.new_page()
    page.goto(site)
    page.wait_for_url("**/book/index.html")
    page.close()


def weight(path):
    """Bytes, as a server sends them, of a page with its stylesheet, scripts and icons; pictures wait until they are near."""
    text = path.read_text(encoding="utf-8")
    files = {(path.parent / name).resolve() for name in re.findall(r'(?:src|href)="([^"#?]+\.(?:js|css))', text)}
    sent = sum(len(gzip.compress(file.read_bytes(), 6)) for file in {path, *files})
    return sent + sum(font.stat().st_size for font in (HTML / "_static" / "icons").iterdir())


@pytest.mark.parametrize("page_name", [page for page in PAGES if page.startswith("book/")])
def test_pages_are_light(page_name):
    assert weight(HTML / page_name) < (150_000 if page_name == "book/index.html" else 250_000)


@cache
def parsed(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def places(path):
    return {node["id"] for node in parsed(path).select("[id]")}


@pytest.mark.parametrize("page_name", PAGES)
def test_links_and_pictures(page_name):
    path = HTML / page_name
    broken = []
    for node in parsed(path).select("a[href], img[src], script[src], link[href]"):
        address, anchor = urldefrag(node.get("href") or node.get("src"))
        if "://" in address or address.startswith(("mailto:", "data:", "javascript:")):
            continue
        target = path if not address else (path.parent / unquote(address.partition("?")[0])).resolve()
        target = target / "index.html" if target.is_dir() else target
        if not target.exists():
            broken.append(f"no such file: {address}")
        elif anchor and target.suffix == ".html" and unquote(anchor) not in places(target):
            broken.append(f"no such place: {address}#{anchor}")
    for picture in parsed(path).select("img"):
        alt = picture.get("alt", "")
        if not alt or "/" in alt or alt.endswith((".png", ".svg")):
            broken.append(f"no description: {picture.get('src')} has {alt!r}")
    assert not broken, "\n".join(broken)
