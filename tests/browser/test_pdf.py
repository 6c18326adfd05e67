"""The book on paper: every page of the sidebar in order, what predictions hide in plain view, links to the published pages."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[2]
PDF = runpy.run_path(str(ROOT / "book" / "_ext" / "pdf.py"))
PAGE = """<!doctype html><title>{title}</title><link rel="canonical" href="https://example.org/book/{name}.html">
<script>addEventListener("beforeprint", () => document.getElementById("veiled").hidden = false)</script>
<div class="bd-sidebar-primary"><nav class="bd-links"><a class="reference internal" href="#">Front</a>
<a class="reference internal" href="one.html">1. One</a> <a class="reference internal" href="two.html">2. Two</a></nav></div>
<h1>{title}</h1><p id="veiled" hidden>result of {name}</p><p><a href="two.html#here">to two</a></p>"""


def test_pages_outline_results_and_links(tmp_path, browser):
    folder = tmp_path / "book"
    folder.mkdir()
    for name, title in {"index": "Front", "one": "One", "two": "Two"}.items():
        (folder / f"{name}.html").write_text(PAGE.format(name=name, title=title), encoding="utf-8")
    found = PdfReader(PDF["write_pdf"](tmp_path, browser, tmp_path))
    assert [item.title for item in found.outline] == ["Front page", "1. One", "2. Two"]
    assert [found.get_destination_page_number(item) for item in found.outline] == [0, 1, 2]
    for page, name in zip(found.pages, ("index", "one", "two"), strict=True):
        assert f"result of {name}" in page.extract_text()
        links = [note.get_object()["/A"]["/URI"] for note in page["/Annots"] if "/A" in note.get_object()]
        assert "https://example.org/book/two.html#here" in links


def test_a_book_that_is_not_built_is_named(tmp_path, browser):
    with pytest.raises(FileNotFoundError, match="run make book first"):
        PDF["write_pdf"](tmp_path, browser, tmp_path)


def test_folded_code_is_not_printed(browser, site):
    page = browser.new_page()
    page.goto(f"{site}/book/03_a_gradient_of_gradients.html")
    folded = page.locator(".cell.tag_hide-input details.hide").first
    assert folded.is_visible()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not folded.is_visible() and page.locator(".bd-article .cell_output img").first.is_visible()
    page.close()
