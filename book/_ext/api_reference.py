"""Sphinx extension for the API reference.

The build fails when a public name of mamlkit is missing there. Docstrings are written for readers of the source: an
indented block in them (a formula, an example) becomes a literal block without the marks that Sphinx wants.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import mamlkit

logger = logging.getLogger(__name__)

NOT_BEFORE_A_BLOCK = re.compile(r"\s*([*-] |\d+\. |\.\. |\w+:$)|.*::$")  # lists, directives, sections, marked already


def undocumented(public: Iterable[str], documented: Iterable[str]) -> list[str]:
    """Public names that no documented object of the package ends in."""
    known = {name.rpartition(".")[2] for name in documented if name.startswith("mamlkit.")}
    return sorted(name for name in set(public) - known if not name.startswith("__"))


def check_coverage(app: Sphinx, env: BuildEnvironment) -> None:
    """Compare `mamlkit.__all__` with the objects and modules that the pages document."""
    python = env.get_domain("py")
    missing = undocumented(mamlkit.__all__, [*python.objects, *python.modules])
    if missing:
        logger.warning("not in book/appendix/api/: %s", ", ".join(missing), type="api", subtype="missing")


def mark_blocks(lines: list[str]) -> list[str]:
    """Put `::` before each block that is indented deeper than the paragraph it follows."""

    def indent(line: str) -> int:
        return len(line) - len(line.lstrip())

    marked: list[str] = []
    first, last = "", ""  # lines of the paragraph read most recently
    inside = False  # whether a marked block is being read
    for line, before in zip(lines, ["", *lines], strict=False):
        if line.strip() and not before.strip():  # a paragraph starts
            deeper = indent(line) > indent(first)
            plain = first and not any(NOT_BEFORE_A_BLOCK.match(text) for text in (first, last))
            if deeper and plain and not inside:
                marked += [" " * indent(first) + "::", ""]
                inside = True
            elif not deeper:
                inside = False
            if not inside:
                first = line
        last = line if line.strip() else last
        marked.append(line)
    return marked


def on_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Mark blocks before napoleon reads the docstring."""
    lines[:] = mark_blocks(lines)


def setup(app: Sphinx) -> dict:
    """Check once everything has been read; read docstrings before napoleon (priority 500) does."""
    app.connect("env-check-consistency", check_coverage)
    app.connect("autodoc-process-docstring", on_docstring, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
