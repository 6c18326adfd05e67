"""What the search looks through: the sections of all pages, written as a script, since a page that was opened as a file may
load scripts and nothing else. The search itself is book/_static/search.js; other pages load neither.

Sections are taken from what Sphinx has read, not from the pages: there formulas are TeX, and code and text are told apart.
Outputs, solutions and code that a page folds stay out.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

# Where a word is found counts: a chapter explains it, an exercise and a signature use it.
WEIGHTS = {"book/exercises/": 0.4, "book/appendix/glossary": 0.7, "book/appendix/": 0.4}
SILENT = (nodes.raw, nodes.comment, nodes.math_block, nodes.image, nodes.title, addnodes.desc_signature, nodes.term)
FOLDED = {"tag_solution", "tag_setup", "tag_hide-input"}


def sections(doctree: nodes.document) -> Iterator[tuple[str, str, str, str]]:
    """Anchor, heading, text and code of each place of a page that a link can lead to."""
    for place in doctree.findall(is_place):
        head = place[0]
        text: list[str] = []
        code: list[str] = []
        for child in place.children:
            gather(child, text, code)
        heading = head.get("fullname") or plain(head)
        yield anchor(place), squeezed(heading), squeezed(" ".join(text)), "\n".join(code)


def is_place(node: nodes.Node) -> bool:
    """Whether a link can lead to this section, this name of the API or this term of the glossary."""
    return isinstance(node, (nodes.section, addnodes.desc, nodes.definition_list_item)) and bool(anchor(node))


def anchor(place: nodes.Element) -> str:
    """A section carries its anchor itself, a name and a term do so in their first part."""
    ids = (place if isinstance(place, nodes.section) else place[0]).get("ids")
    return ids[0] if ids else ""


def gather(node: nodes.Node, text: list[str], code: list[str]) -> None:
    """Add what a node says to the text and the code of the place that it stands in."""
    element = node.get("nb_element", "") if isinstance(node, nodes.Element) else ""
    if isinstance(node, SILENT) or is_place(node) or element == "cell_code_output":
        return
    if isinstance(node, nodes.Element) and FOLDED & set(node["classes"]):
        return
    if isinstance(node, nodes.literal_block):
        code.append(node.astext())
    elif isinstance(node, nodes.TextElement):
        text.append(plain(node))
    else:
        for child in node.children:
            gather(child, text, code)


def plain(node: nodes.Node) -> str:
    """The text of a node, its formulas in letters."""
    if isinstance(node, nodes.math):
        return in_letters(node.astext())
    if isinstance(node, (nodes.raw, nodes.image)):
        return ""
    return node.astext() if not node.children else "".join(plain(child) for child in node.children)


def in_letters(tex: str) -> str:
    """A short formula without TeX's marks: what a line of a search result can show."""
    tex = re.sub(r"\\[td]?frac\s*(\w|{[^{}]*})\s*(\w|{[^{}]*})", r"\1/\2", tex)
    tex = re.sub(r"\\([A-Za-z]+)", letter, re.sub(r"\\[,;:! ]", " ", tex))
    return re.sub(r"\s*([_^])\s*", r"\1", re.sub(r"[{}$]", "", tex))


def letter(match: re.Match[str]) -> str:
    """A Greek letter for its name."""
    kind = "SMALL" if match[1].islower() else "CAPITAL"
    try:
        return unicodedata.lookup(f"GREEK {kind} LETTER {match[1].replace('lambda', 'lamda').upper()}")
    except KeyError:
        return {"pm": "±", "cdot": "·", "times": "×", "le": "≤", "ge": "≥", "approx": "≈", "nabla": "∇"}.get(
            match[1], " "
        )


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def write_sections(app: Sphinx, exception: Exception | None) -> None:
    """Write ``_static/sections.js``."""
    if exception or app.builder.format != "html":
        return
    pages = []
    for name in sorted(app.env.found_docs):
        weight = next((weight for start, weight in WEIGHTS.items() if name.startswith(start)), 1)
        found = list(sections(app.env.get_doctree(name)))
        pages.append([app.builder.get_target_uri(name), weight, app.env.titles[name].astext(), found])
    text = json.dumps(pages, ensure_ascii=False, separators=(",", ":"))
    Path(app.outdir, "_static", "sections.js").write_text(f"const SECTIONS = {text};\n", encoding="utf-8")


def setup(app: Sphinx) -> dict:
    """At the end of the build."""
    app.connect("build-finished", write_sections, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
