"""The exercises for a class: no solution is in a copy, one comes alone, and an answer gets the mark that its check gives."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[3]
EXERCISES = sorted((ROOT / "book" / "exercises").glob("*.ipynb"))


def classroom(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "book" / "_ext" / "classroom.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("class") / "copies"
    assert classroom("copies", str(folder)).returncode == 0
    return folder


def test_copies_have_everything_but_solutions(copies):
    assert [path.name for path in sorted(copies.iterdir())] == [path.name for path in EXERCISES]
    for path in EXERCISES:
        whole, copy = (nbformat.read(folder / path.name, as_version=4) for folder in (path.parent, copies))
        solutions = [cell.id for cell in whole.cells if "solution" in cell.metadata.get("tags", [])]
        assert solutions and [cell.id for cell in whole.cells if cell.id not in solutions] == [c.id for c in copy.cells]
        assert "# @title Solution" not in nbformat.writes(copy)
        assert not re.search(r"solution( to unfold)?\.", copy.cells[0].source), "there is none to unfold"
        assert not any(cell.get("outputs") for cell in copy.cells)


def test_one_solution_alone():
    source = classroom("solution", "4.3").stdout
    assert "def reptile_gradient(" in source and source.count("def ") == 1


def test_marks_are_those_of_the_checks(copies, tmp_path):
    """An old output, an edited check and a cell that prints `correct` count for nothing."""
    notebook = nbformat.read(copies / "10_schedules.ipynb", as_version=4)
    blank = [cell for cell in notebook.cells if "exercise" in cell.metadata.get("tags", [])]
    checks = [cell for cell in notebook.cells if "mamlkit.checking." in cell.source and "check_" in cell.source]
    blank[0].source = classroom("solution", "10.1").stdout
    blank[1].source = classroom("solution", "10.2").stdout.replace("return ", "return 2 * ", 1)
    blank[2].source = "1 / 0"
    blank[3].source += "\nprint('Exercise 10.4: correct.')"
    checks[4].source = "print('Exercise 10.5: correct.')"
    checks[4].outputs = [nbformat.v4.new_output("stream", text="Exercise 10.5: correct.\n")]
    nbformat.write(notebook, tmp_path / "student.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "other.ipynb")
    other, *rows = csv.DictReader(io.StringIO(classroom("grade", str(tmp_path)).stdout))
    assert other["notebook"] == "other.ipynb" and other["the check says"].startswith("expected a notebook of exercises")
    assert [(row["exercise"], row["points"]) for row in rows] == [
        (f"10.{number}", str(int(number == 1))) for number in range(1, 6)
    ]
    assert rows[1]["the check says"].startswith("not yet.") and rows[4]["the check says"] == "not attempted yet."


def test_says_what_it_can_do():
    assert classroom("everything").returncode == 2
