"""Take the picture of the book that README and links to it show, book/_static/book.png: a page with a live figure.

    python book/_ext/card.py        after `make book`; takes Chromium or Chrome, or the browser named in CHROMIUM

1400 times 735 pixels have the shape of such cards, and the whole figure fits.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import sync_playwright

import pictures
from chromium import find_chromium

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "_build" / "html" / "book" / "01_why_learn_to_learn.html"
PICTURE = ROOT / "book" / "_static" / "book.png"
FIGURE = ".mk-fig"


def take(browser_path: str) -> None:
    """Open the chapter at its live figure, and write what the window shows, in 256 colours."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 735}, color_scheme="light")
        page.goto(PAGE.as_uri())
        page.evaluate("dispatchEvent(new Event('beforeprint'))")  # starts the figure
        page.add_style_tag(content="section { content-visibility: visible !important; }")  # nothing moves any more
        page.locator(FIGURE).first.wait_for()
        page.locator(FIGURE).first.evaluate("figure => scrollBy(0, figure.getBoundingClientRect().top - 80)")
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURE)
        browser.close()
    pictures.with_fewer_colours(PICTURE)


if __name__ == "__main__":
    take(find_chromium())
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")
