"""Results as a table: HTML in a page or a notebook, aligned text in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["Table"]


class Table:
    """A table with a caption, shown when it is the last line of a cell.

    Cells are shown as ``str`` gives them: format a number before, with the digits that mean something. The first column names
    the rows; the others are aligned to the right.

    Args:
        caption: what the table shows, in one line.
        columns: the head of each column.
        rows: a sequence of cells each, as long as ``columns``.

    Raises:
        ValueError: if there is no row, or a row has more or fewer cells than there are columns.

    Example:
        >>> Table("Accuracy on 100 test tasks", ["learner", "accuracy"], [["MAML", "0.91"], ["MAML++", "0.94"]])
        Accuracy on 100 test tasks
        learner  accuracy
        MAML         0.91
        MAML++       0.94
    """

    def __init__(self, caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        self.caption, self.columns = caption, list(columns)
        self.rows = [[str(cell) for cell in row] for row in rows]
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"expected {len(self.columns)} cells in each row, as there are columns, got {row}")
        if not self.rows:
            raise ValueError(f"expected at least one row for the table {caption!r}, got none")

    def __repr__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]

        def text(line: Sequence[str]) -> str:
            first, *others = zip(line, widths, strict=True)
            return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()

        return "\n".join([self.caption, *map(text, lines)])

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.columns)
        body = "\n".join(
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.caption)}</caption>"
        return (
            f'<table class="table results">{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
        )
