"""Every notebook runs alone and gives the outputs that are stored in it, in .ci/run a chapter with the lowest instruction sets
too; and the comparison can fail."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from notebook_files import CHAPTERS, NOTEBOOKS
from tolerance import same

# What any processor of the last fifteen years can do: torch, oneDNN and MKL then add in another order than they do with
# the newest instructions. They choose when they are loaded. On arm64 only torch's own setting has a meaning.
LOWEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}

PRINTED = "loss 0.123456 after 10 steps\n"
STORED = {  # what a notebook might hold for it, and whether that is accepted
    PRINTED: True,
    "loss 0.1234561 after 10 steps\n": True,  # another processor
    "loss 0.124456 after 10 steps\n": False,
    "loss 0.123456 after 11 steps\n": False,
    "loss 0.123456 after 10 tasks\n": False,
}


def write(path: Path, cells: dict[str, str]) -> Path:
    """Write a notebook of cells, each given as what is stored for it and its source."""
    notebook = nbformat.v4.new_notebook()
    for number, (stored, source) in enumerate(cells.items(), start=1):
        output = nbformat.v4.new_output("stream", text=stored)
        notebook.cells.append(nbformat.v4.new_code_cell(source, execution_count=number, outputs=[output]))
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_runs_alone_and_gives_what_is_stored(path, run_notebook):
    result = run_notebook(path)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


@pytest.mark.skipif(
    "MAMLKIT_LOWEST" not in os.environ, reason="a second run of every chapter: .ci/run sets MAMLKIT_LOWEST"
)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_gives_the_same_with_the_lowest_instruction_sets(path, run_notebook):
    result = run_notebook(path, **LOWEST)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


def test_the_kernel_has_the_lowest_instruction_sets(run_notebook, tmp_path):
    ask = "import os, torch\nprint(torch.backends.cpu.get_cpu_capability(), *map(os.environ.get, {}))"
    answer = " ".join(["DEFAULT", *LOWEST.values()]) + "\n"
    notebook = write(tmp_path / "asks.ipynb", {answer: ask.format(list(LOWEST))})
    result = run_notebook(notebook, **LOWEST)
    assert result.returncode == 0, result.stdout


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN and MKL have these names on x86 only")
def test_onednn_and_mkl_know_the_lowest_instruction_sets(reader_environment):
    """A name that a library does not know, it ignores."""
    work = "import torch; x = torch.ones(9, 9, 9, 9); torch.conv2d(x, x); x[0, 0] @ x[0, 0]"
    environment = {**reader_environment, **LOWEST, "ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"}
    said = subprocess.run([sys.executable, "-c", work], env=environment, capture_output=True, text=True).stdout
    assert "isa:Intel SSE4.1\n" in said and "CNR:COMPATIBLE " in said, said


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
    source = f"print({PRINTED.strip()!r})\n5;"  # nothing is shown for the 5: a trailing `;` is silent
    notebook = write(tmp_path / "perturbed.ipynb", {stored: source for stored in STORED})
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
