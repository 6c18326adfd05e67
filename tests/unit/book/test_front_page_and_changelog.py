"""The front page and the README lead to what a reader looks for, and the errata give the numbers that the chapters have."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

import mamlkit

ROOT = Path(__file__).resolve().parents[3]
BOOK = ROOT / "book"
README, INDEX, CHANGELOG = (
    path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", BOOK / "index.md", BOOK / "appendix" / "changelog.md")
)


@pytest.mark.parametrize("page", [README, INDEX], ids=["README", "front page"])
def test_says_how_to_open_an_exercise(page):
    assert "git clone" in page and "make lab" in page


@pytest.mark.parametrize("name", ["paths", "teaching", "bibliography", "changelog", "api/index"])
def test_leads_there(name):
    assert f"appendix/{name}.md" in INDEX
    assert re.search(rf"appendix/{name}\.(?:md|html)", README)


def test_every_page_of_the_back_matter_is_in_the_table_of_contents():
    listed = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    for path in BOOK.glob("appendix/**/*.md"):
        assert f"file: {path.relative_to(ROOT).with_suffix('')}\n" in listed, path.name


def test_the_newest_release_is_this_one():
    headings = re.findall(r"^## (\S+)", CHANGELOG, re.MULTILINE)
    assert headings[0] == mamlkit.__version__ and headings == sorted(headings, reverse=True)
    assert f"\nversion: {mamlkit.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_errata_have_the_numbers_of_the_chapters():
    rows = re.findall(r"^\| \[chapter \d+\]\(\.\./(\S+)\) \|.*\|(.*)\|$", CHANGELOG, re.MULTILINE)
    assert rows
    for name, says in rows:
        text = "\n".join(cell.source for cell in nbformat.read(BOOK / name, as_version=4).cells)
        for number in re.findall(r"[\d.]+ ± [\d.]+", says):
            assert number in text, f"{name} does not say {number}"
