"""The record of when notebooks ran, and the page that shows it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import last_runs  # noqa: E402


@pytest.fixture
def book(tmp_path):
    """A book of one chapter and one exercise."""
    for name in ("01_one.ipynb", "exercises/01_one.ipynb"):
        cells = [
            nbformat.v4.new_markdown_cell(f"# Title of {name[:3]}", id="a"),
            nbformat.v4.new_code_cell("x = 1", id="b"),
        ]
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / name)
    return tmp_path


def test_a_run_is_recorded_and_shown(book):
    record = book / "runs.json"
    last_runs.record_run(book / "01_one.ipynb", 12.3, record, book)
    (run,) = json.loads(record.read_text())["runs"].values()
    assert run["seconds"] == 12 and {"Python", "torch", "mamlkit"} <= run["versions"].keys()
    ran, rest = last_runs.as_markdown(record, book).split("Not run yet:")
    assert f"| [Title of 01_](../01_one.ipynb) | {run['date']} | 12 | the same code |" in ran
    assert f"torch {run['versions']['torch']}" in ran and "(../exercises/01_one.ipynb)" in rest


def test_code_that_has_changed_is_seen_and_text_does_not_count(book):
    path, record = book / "01_one.ipynb", book / "runs.json"
    last_runs.record_run(path, 1, record, book)
    path.write_text(path.read_text().replace("# Title", "# New title"))
    assert "the same code" in last_runs.as_markdown(record, book)
    path.write_text(path.read_text().replace("x = 1", "x = 2"))
    assert "its code has changed" in last_runs.as_markdown(record, book)


def test_other_notebooks_are_not_recorded(book, tmp_path_factory):
    record = book / "runs.json"
    last_runs.record_run(tmp_path_factory.mktemp("elsewhere") / "a.ipynb", 1, record, book)
    assert not record.exists()


def test_the_record_is_of_notebooks_that_are_there():
    names = json.loads(last_runs.RECORD.read_text(encoding="utf-8"))["runs"]
    assert names and all((last_runs.BOOK / name).is_file() for name in names)
