"""The glossary has each term once, in order, with the chapter that introduces it; notation names no symbol twice."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

BOOK = Path(__file__).resolve().parents[3] / "book"
GLOSSARY, NOTATION = (
    (BOOK / "appendix" / f"{name}.md").read_text(encoding="utf-8") for name in ("glossary", "notation")
)
ENTRIES = re.findall(
    r"^(\S[^\n]*)\n  (.+)$", GLOSSARY.partition("```{glossary}\n")[2].partition("\n```\n")[0], re.MULTILINE
)


def plain(text: str) -> str:
    """Lower case, without marks, hyphens or the ending of a plural, so that a term is found in a sentence."""
    words = re.sub(r"[`*$\\_]", "", text.casefold()).replace("-", " ").split()
    return " ".join(word.removesuffix("s") for word in words)


def chapter_text(path: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def test_terms_are_in_order_and_each_stands_once():
    terms = [term.strip("`").casefold() for term, _ in ENTRIES]
    assert len(terms) > 40 and terms == sorted(set(terms))


@pytest.mark.parametrize(("term", "meaning"), ENTRIES, ids=[term for term, _ in ENTRIES])
def test_a_term_leads_to_the_chapter_that_introduces_it(term, meaning):
    number, name = re.search(r"\[Chapter (\d+)\]\(\.\./(\d\d_\w+\.ipynb)\)\.$", meaning).groups()
    assert int(number) == int(name[:2]) and (BOOK / name).exists()
    missing = [word for word in plain(term).split() if word not in plain(chapter_text(BOOK / name))]
    assert not missing, f"chapter {number} does not say {' '.join(missing)}"


def test_terms_named_in_an_entry_are_entries():
    """A word in italics is another entry, or a second name that stands nowhere else."""
    terms = {plain(term) for term, _ in ENTRIES}
    seen: list[str] = []
    for term, meaning in ENTRIES:
        for other in map(plain, re.findall(r"\*([^*]+)\*", meaning)):
            assert other not in terms or other != plain(term)
            seen += [other] if other not in terms else []
    assert len(seen) == len(set(seen))


def test_a_symbol_has_one_meaning():
    tables = NOTATION.partition("## Letters with a second use")[0]
    symbols = [
        symbol
        for cell in re.findall(r"^\| ([^|]*) \|", tables, re.MULTILINE)
        for symbol in re.findall(r"\$[^$]+\$", cell)
    ]
    assert len(symbols) > 20 and len(symbols) == len(set(symbols))
    seconds = re.findall(r"^\| ([^|]*) \|", NOTATION.partition("## Letters with a second use")[2], re.MULTILINE)
    assert len(seconds) == len(set(seconds))


@pytest.mark.parametrize("page", [GLOSSARY, NOTATION], ids=["glossary", "notation"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page):
        assert (BOOK / "appendix" / target).exists(), target
