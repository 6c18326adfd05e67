"""When each notebook was last run, how long that took and with which versions: written by execute.py, shown by a page.

The record is a file of the repository, so that two builds of one commit give the same page. A run counts for the code that
was run: a notebook whose code has changed since says so.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BOOK = Path(__file__).resolve().parents[1]
RECORD = BOOK / "results" / "notebooks.json"
PACKAGES = ("mamlkit", "torch", "numpy", "matplotlib", "ipywidgets")


def notebooks(book: Path = BOOK) -> list[Path]:
    """Every chapter and every exercise, in order."""
    return [*sorted(book.glob("*.ipynb")), *sorted(book.glob("exercises/*.ipynb"))]


def record_run(path: Path, seconds: float, record: Path = RECORD, book: Path = BOOK) -> None:
    """Note that a notebook of the book ran now, to its end."""
    if book not in path.resolve().parents:
        return
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {"runs": {}}
    known["runs"][path.resolve().relative_to(book).as_posix()] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(seconds),
        "code": digest(path),
        "versions": {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    content = {"command": "make notebooks", "runs": dict(sorted(known["runs"].items()))}
    record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    """Of a notebook's code, whatever its text and its outputs are."""
    return hashlib.sha256("\n\n".join(sources(path, "code")).encode()).hexdigest()[:16]


def sources(path: Path, kind: str) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def as_markdown(record: Path = RECORD, book: Path = BOOK) -> str:
    """A table for each set of versions, of the notebooks in order; those without a run last."""
    runs = json.loads(record.read_text(encoding="utf-8"))["runs"]
    rows = [(runs.get(path.relative_to(book).as_posix()), path) for path in notebooks(book)]

    def versions(row: tuple[dict | None, Path]) -> str:
        return ", ".join(f"{name} {number}" for name, number in row[0]["versions"].items()) if row[0] else ""

    lines = []
    for used, group in groupby(sorted(rows, key=versions, reverse=True), key=versions):
        lines += [f"With {used}:" if used else "Not run yet:", "", "| notebook | run on | seconds | since then |"]
        lines.append("| --- | --- | ---: | --- |")
        for run, path in group:
            title = sources(path, "markdown")[0].splitlines()[0].lstrip("# ")
            link = f"[{title}](../{path.relative_to(book).as_posix()})"
            when = f"{run['date']} | {run['seconds']}" if run else " | "
            same = "the same code" if run and run["code"] == digest(path) else "its code has changed" if run else ""
            lines.append(f"| {link} | {when} | {same} |")
        lines.append("")
    return "\n".join(lines)


class NotebookRuns(SphinxDirective):
    """The tables, in the place of the directive ``notebook-runs``."""

    def run(self) -> list[nodes.Node]:
        for path in (RECORD, *notebooks()):
            self.env.note_dependency(str(path))
        holder = nodes.container()
        self.state.nested_parse(StringList(as_markdown().splitlines()), self.content_offset, holder)
        return holder.children


def setup(app: Sphinx) -> dict:
    """Add the directive."""
    app.add_directive("notebook-runs", NotebookRuns)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
