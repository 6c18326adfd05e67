"""What make says where the book cannot be built."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def make(tmp_path):
    """`make book` in a copy without a virtual environment, with an interpreter that answers as it is told to."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "make_venv.sh", tmp_path / ".ci")
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).touch()

    def run(script: str) -> list[str]:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        python.chmod(0o755)
        command = ["make", "-s", "-C", str(tmp_path), "book", f"PYTHON={python}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert result.returncode != 0 and not (tmp_path / ".venv").exists()
        return [line for line in result.stderr.splitlines() if "***" not in line]

    return run


def test_another_python(make):
    (line,) = make("echo 3.10")
    assert "needs Python 3.11, 3.12 or 3.13" in line and "is Python 3.10" in line


def test_no_python(make):
    (line,) = make("exit 127")
    assert "needs Python 3.11, 3.12 or 3.13" in line and "does not run" in line


def test_python_without_venv(make):
    (line,) = make('case "$2" in *ensurepip*) exit 1 ;; *) echo 3.11 ;; esac')
    assert "has no venv module" in line and "python3.11-venv" in line


def test_make_alone_lists_the_targets():
    result = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("book", "test", "serve", "notebooks", "lint"):
        assert f"make {target} " in result.stdout
