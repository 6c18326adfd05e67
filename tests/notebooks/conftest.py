"""Run a notebook as a reader does: alone in an empty folder, in a fresh kernel, with nothing but the wheel of mamlkit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120  # a notebook should take less than 60; the rest is for busy machines

# Hides the checkout, which is installed in editable mode, from the kernel: only the wheel is left to import.
HIDE_CHECKOUT = f"""
import os, sys
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != {str(ROOT)!r}]
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
sys.path_hooks[:] = [hook for hook in sys.path_hooks if "__editable__" not in getattr(hook, "__module__", "")]
"""


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel of mamlkit, and nothing else, is installed."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "mamlkit", source / "mamlkit", ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source / "dist"), str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = (source / "dist").glob("*.whl")
    install = ["install", "-qq", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True, text=True)
    (target / "sitecustomize.py").write_text(HIDE_CHECKOUT, encoding="utf-8")
    return target


@pytest.fixture(scope="session")
def reader_environment(installed_wheel: Path) -> dict[str, str]:
    """Environment variables of a process that sees the wheel and not the checkout."""
    pythonpath = os.pathsep.join([str(installed_wheel), str(Path(__file__).parent)])
    unwanted = ("PYTEST", "COV_", "PYTHONWARNINGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "PYTHONPATH": pythonpath, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run_notebook(tmp_path: Path, reader_environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a copy of a notebook under nbval, with these variables too; the folder must stay as empty."""

    def run(notebook: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / "alone"
        folder.mkdir()
        copy = Path(shutil.copy(notebook, folder))
        nbval = ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={SECONDS}", "-p", "tolerance"]
        quiet = ["-c", os.devnull, "-p", "no:cacheprovider", "-q", "--color=no", f"--rootdir={folder}"]
        command = [sys.executable, "-m", "pytest", *nbval, *quiet, str(copy)]
        environment = {**reader_environment, **variables}
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=4 * SECONDS
        )
        assert [path.name for path in folder.iterdir()] == [copy.name], "a notebook must write no file"
        return result

    return run
