"""Which notebooks there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
NOTEBOOKS = [*CHAPTERS, *sorted((ROOT / "book" / "exercises").glob("*.ipynb"))]


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> Iterator[nbformat.NotebookNode]:
    return (cell for cell in read(path).cells if cell.cell_type == "code")
