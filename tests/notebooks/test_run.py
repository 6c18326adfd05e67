"""Every notebook runs alone and gives the outputs that are stored in it; and the comparison can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from notebook_files import NOTEBOOKS
from tolerance import same

PRINTED = "loss 0.123456 after 10 steps\n"
STORED = {  # what a notebook might hold for it, and whether that is accepted
    PRINTED: True,
    "loss 0.1234561 after 10 steps\n": True,  # another processor
    "loss 0.124456 after 10 steps\n": False,
    "loss 0.123456 after 11 steps\n": False,
    "loss 0.123456 after 10 tasks\n": False,
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_runs_alone_and_gives_what_is_stored(path, run_notebook):
    result = run_notebook(path)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


def test_only_the_wheel_can_be_imported(reader_environment, installed_wheel, tmp_path):
    where = "import sys, mamlkit; print(mamlkit.__file__); print(*sys.path, sep='\\n')"
    result = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=reader_environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    origin, *path = result.stdout.splitlines()
    assert Path(origin).is_relative_to(installed_wheel)
    assert str(Path(__file__).resolve().parents[2]) not in path


def test_nbval_refuses_another_output(run_notebook, tmp_path):
    cells = [
        nbformat.v4.new_code_cell(
            f"print({PRINTED.strip()!r})\n5;",  # nothing is shown for the 5: a trailing `;` is silent
            execution_count=number,
            outputs=[nbformat.v4.new_output("stream", text=stored)],
        )
        for number, stored in enumerate(STORED, start=1)
    ]
    notebook = tmp_path / "perturbed.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
    output = run_notebook(notebook).stdout
    refused = [f"perturbed.ipynb::Cell {number}" in output for number in range(len(STORED))]
    assert refused == [not accepted for accepted in STORED.values()], output


@pytest.mark.parametrize(
    ("stored", "computed", "expected"),
    [
        ("tensor([0.3333, 0.6667])", "tensor([0.3333, 0.6668])", True),
        ("1e-7", "2e-7", True),  # both are next to nothing
        ("1e-3", "2e-3", False),
        ("loss  9.999", "loss 10.000", True),  # padding follows the width
        ("-0.5", "0.5", False),
        ("torch 2.13.0", "torch 2.13.1", False),
        ("nan", "0.0", False),
        ("<object at 0x7f00ab>", "<object at 0x7f11cd>", True),
        ("3 tasks", "3.0 tasks", False),
        ("a\nb", "a b", False),
    ],
)
def test_same(stored, computed, expected):
    assert same(stored, computed) is expected
