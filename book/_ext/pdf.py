"""The book as one PDF: python book/_ext/pdf.py FOLDER, after `make book`; needs Chromium or Chrome."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from bs4 import BeautifulSoup
from playwright.sync_api import Browser, sync_playwright
from pypdf import PdfReader, PdfWriter

ROOT = Path(__file__).resolve().parents[2]
MARGIN = dict.fromkeys(("top", "right", "bottom", "left"), "16mm")
# A link to another page leads to the published one.
LINKS = """base => {
  const isPage = link => !link.getAttribute("href").startsWith("#") && link.protocol === "file:";
  for (const link of document.querySelectorAll("a[href]")) if (isPage(link)) link.href = new URL(link.getAttribute("href"), base);
}"""


def pages_in_order(front: Path) -> dict[Path, str]:
    """The pages that the sidebar of the front page lists, each with its title; an exercise follows its chapter."""
    page = BeautifulSoup(front.read_text(encoding="utf-8"), "html.parser")
    pages = {front: "Front page"}
    for link in page.select(".bd-sidebar-primary .bd-links a.reference.internal"):
        path = (front.parent / link["href"].partition("#")[0]).resolve()
        if path.is_file():
            pages.setdefault(path, link.get_text(" ", strip=True))
    return pages


def write_pdf(target: Path, browser: Browser, html: Path) -> Path:
    """Print every page of the built book, and write them as ``learning-to-learn.pdf`` with an outline into a folder; its path.

    Raises:
        FileNotFoundError: if the book is not built.
    """
    front = html / "book" / "index.html"
    if not front.is_file():
        raise FileNotFoundError(f"expected the built book in {html}: run make book first")
    book = PdfWriter()
    page = browser.new_page(viewport={"width": 1000, "height": 1400}, color_scheme="light")
    for path, title in pages_in_order(front).items():
        page.goto(path.as_uri())
        page.evaluate("dispatchEvent(new Event('beforeprint'))")  # predictions show what they hide
        page.evaluate(LINKS, page.locator("link[rel=canonical]").get_attribute("href"))
        page.wait_for_timeout(500)  # figures measure themselves
        first = len(book.pages)
        book.append(PdfReader(BytesIO(page.pdf(format="A4", margin=MARGIN))), import_outline=False)
        book.add_outline_item(title=title, page_number=first)
    page.close()
    book.add_metadata({"/Title": "Learning to learn: MAML and MAML++"})
    made = target / "learning-to-learn.pdf"
    book.write(made)
    return made


def main() -> None:
    """With the browser of the system."""
    from chromium import find_chromium

    executable = find_chromium()
    if executable is None:
        sys.exit("expected Chromium or Chrome to print with, got none: install one, or name it in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        made = write_pdf(Path(sys.argv[1]), browser, ROOT / "_build" / "html")
        browser.close()
    print(f"{made}: {made.stat().st_size / 2**20:.1f} MB, {len(PdfReader(made).pages)} pages")


if __name__ == "__main__":
    main()
