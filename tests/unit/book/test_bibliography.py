"""Every paper that a page cites is in the bibliography, with a link that lasts, and the bibliography says where it is cited."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[3]
BOOK = ROOT / "book"
NOTEBOOKS = sorted([*BOOK.glob("*.ipynb"), *BOOK.glob("exercises/*.ipynb")])
# Where a paper has neither a DOI nor an arXiv number, the page of the conference that published it.
LASTING = re.compile(
    r"https://(doi\.org/10\.|arxiv\.org/abs/\d{4}\.\d{4,5}$|openreview\.net/forum\?id=|proceedings\.mlr\.press/v\d+/)"
)
PAPER = re.compile(
    r"https?://(?:(?:dx\.)?doi\.org|(?:www\.)?arxiv\.org|openreview\.net|proceedings\.mlr\.press)/[^\s)\]>\"']+"
)


@dataclass(frozen=True)
class Work:
    """One entry of references.bib."""

    key: str
    label: str  # as the bibliography names it: Finn et al., 2017
    link: str
    note: str


def read_works() -> list[Work]:
    works = []
    for entry in re.split(r"^(?=@)", (BOOK / "references.bib").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        fields = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", entry, re.MULTILINE))
        names = [author.split(",")[0] for author in fields.get("author", fields.get("editor", "")).split(" and ")]
        first = " & ".join(names) if len(names) <= 2 and "others" not in names else f"{names[0]} et al."
        key = re.match(r"@\w+\{([^,]+),", entry).group(1)
        works.append(Work(key, f"{first}, {fields['year']}", fields.get("url", ""), fields.get("note", "")))
    return works


WORKS = read_works()
PAGE = (BOOK / "appendix" / "bibliography.md").read_text(encoding="utf-8")
ROWS = {work: where for work, where in re.findall(r"^\| (\S.*?, \d{4}) \| .*? \|(.*)\|$", PAGE, re.MULTILINE)}


def source(path: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


LINKS = {path: {link.rstrip(".,;") for link in PAPER.findall(source(path))} for path in NOTEBOOKS}


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.key)
class TestWork:
    def test_has_a_link_that_lasts(self, work):
        assert LASTING.match(work.link), work.link
        if "arxiv.org" in work.link:
            assert work.note.endswith(f"arXiv:{work.link.rpartition('/')[2]}")

    def test_its_row_says_where_it_is_cited(self, work):
        where = ROWS[work.label]
        named = {int(n) for listed in re.findall(r"chapters? ([\d, and]+)", where) for n in re.findall(r"\d+", listed)}
        cited = {int(path.name[:2]) for path in NOTEBOOKS if work.link in LINKS[path]}
        assert named == cited, f"{work.label} is cited in chapters {sorted(cited)}"
        modules = re.findall(r"`([\w.]+)`", where)
        assert cited or modules or where.strip() == "planned", f"nothing cites {work.label}"
        for module in modules:
            path = ROOT / "mamlkit" / module.replace(".", "/")
            files = [*path.rglob("*.py")] if path.is_dir() else [path.with_suffix(".py")]
            text = "\n".join(file.read_text(encoding="utf-8") for file in files)
            name = work.label.split(",")[0].split(" ")[0]
            assert name in text or (work.note and work.note.rpartition(" ")[2] in text), (
                f"mamlkit.{module} does not name {work.label}"
            )


def test_every_paper_that_a_notebook_links_is_listed():
    known = {work.link for work in WORKS}
    unlisted = {path.name: sorted(links - known) for path, links in LINKS.items() if links - known}
    assert not unlisted


def test_every_paper_that_the_library_or_a_page_names_is_listed():
    notes = {work.note.rpartition(" ")[2] for work in WORKS}
    pages = [*BOOK.glob("*.md"), *BOOK.glob("appendix/**/*.md"), ROOT / "README.md", *(ROOT / "mamlkit").rglob("*.py")]
    for path in pages:
        text = path.read_text(encoding="utf-8")
        named = {
            f"arXiv:{number}" for number in re.findall(r"arxiv(?:\.org/abs/|:)\s?(\d{4}\.\d{4,5})", text, re.IGNORECASE)
        }
        assert named <= notes, f"{path.relative_to(ROOT)}: {sorted(named - notes)}"


def test_no_row_without_a_work():
    assert set(ROWS) == {work.label for work in WORKS}
    assert len({work.key for work in WORKS}) == len({work.label for work in WORKS}) == len(WORKS)
