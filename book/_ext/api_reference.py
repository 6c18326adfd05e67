"""Sphinx extension for the API reference.

The build fails when a public name of mamlkit, or of one of its modules, is missing there. Docstrings are written for
readers of the source: an indented block in them (a formula, an example) becomes a literal block without the marks that
Sphinx wants.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import mamlkit

logger = logging.getLogger(__name__)

NOT_BEFORE_A_BLOCK = re.compile(r"\s*([*-] |\d+\. |\.\. |\w+:$)|.*::$")  # lists, directives, sections, marked already


# What is no part of the library that a reader calls: the programs that made the records, and what checks arguments.
NOT_FOR_READERS = ("mamlkit.bench", "mamlkit.recipes", "mamlkit.arguments")


def public_modules() -> list[str]:
    """The package and its modules for readers, by name."""
    found = [module.name for module in pkgutil.walk_packages(mamlkit.__path__, "mamlkit.")]
    return [
        "mamlkit",
        *(name for name in found if not re.search(r"\._", name) and not name.startswith(NOT_FOR_READERS)),
    ]


def resolve(name: str) -> object:
    """The object that a full name stands for, or None."""
    module, _, last = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), last, None)
    except ModuleNotFoundError:  # an attribute of a class
        return None


def undocumented(public: Iterable[str], documented: Iterable[str]) -> list[str]:
    """Full names of public objects that no page documents, neither under this name nor where they come from."""
    documented = set(documented)
    elsewhere: dict[str, list[object]] = {}
    for name in documented:
        elsewhere.setdefault(name.rpartition(".")[2], []).append(resolve(name))
    missing = []
    for name in public:
        last, thing = name.rpartition(".")[2], resolve(name)
        known = thing is not None and any(thing is other for other in elsewhere.get(last, []))
        if not (last.startswith("__") or name in documented or known):
            missing.append(name)
    return sorted(missing)


def check_coverage(app: Sphinx, env: BuildEnvironment) -> None:
    """Compare the `__all__` of every module for readers with the objects and modules that the pages document."""
    python = env.get_domain("py")
    public = [
        f"{name}.{own}" for name in public_modules() for own in getattr(importlib.import_module(name), "__all__", ())
    ]
    missing = undocumented(public, [*python.objects, *python.modules])
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
