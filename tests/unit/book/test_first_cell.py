"""The first code cell of every notebook: it finds mamlkit or installs it, and says in one sentence where it can do neither."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import mamlkit

PROGRAM = Path(__file__).resolve().parents[3] / "book" / "_ext" / "first_cell.py"
PARTS = runpy.run_path(str(PROGRAM))

# A reader's IPython; mamlkit is of the version `there`, and pip, if it is asked, brings `brings`. None is: there is none.
READER = """
import sys, types
from importlib.machinery import ModuleSpec
from IPython.core.interactiveshell import InteractiveShell

def module(version):
    found = types.ModuleType("mamlkit")
    found.__spec__, found.__version__ = ModuleSpec("mamlkit", None), version
    return version and found

def pip(line):
    print("pip", line)
    print("Note: you may need to restart the kernel")
    sys.modules["mamlkit"] = module({brings!r})

shell = InteractiveShell.instance(history_length=0)
shell.register_magic_function(pip, "line", "pip")
sys.modules["mamlkit"] = module({there!r})
sys.exit(0 if shell.run_cell({cell!r}).success else 3)
"""


def said(there: str | None, brings: str | None, folder: Path, cell: str = PARTS["CELL"]) -> tuple[bool, str]:
    """Whether a reader may go on to the next cell, and what is on the screen."""
    source = READER.format(there=there, brings=brings, cell=cell)
    ran = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        env={"IPYTHONDIR": str(folder), "HOME": str(folder), "NO_COLOR": "1"},
    )
    assert ran.returncode in (0, 3), ran.stderr
    return ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("there", "brings", "goes_on", "sentence"),
    [
        (mamlkit.__version__, None, True, ""),
        (None, mamlkit.__version__, True, f"Installed mamlkit {mamlkit.__version__}.\n"),
        (None, None, False, "UsageError: mamlkit is missing: pip needs git and a network.\n"),
        ("0.0.9", None, False, f"UsageError: This notebook needs mamlkit {mamlkit.__version__}, not 0.0.9: "),
    ],
)
def test_says_one_sentence_at_most(there, brings, goes_on, sentence, tmp_path):
    went_on, text = said(there, brings, tmp_path)
    assert went_on == goes_on and text.startswith(sentence), text
    assert text.count("\n") == bool(sentence), text


@pytest.mark.parametrize(
    ("from_pypi", "source", "needs"),
    [
        (False, "git+https://github.com/mamlkit/learning-to-learn@v{}", "git and a network"),
        (True, "mamlkit=={}", "a network"),
    ],
)
def test_takes_the_release_from_either_source(from_pypi, source, needs, tmp_path):
    """The switch of the program decides which of the two is stored."""
    cell = PARTS["first_cell"](from_pypi)
    assert (cell == PARTS["CELL"]) == (from_pypi == PARTS["FROM_PYPI"])
    assert said(None, None, tmp_path, cell)[1] == f"UsageError: mamlkit is missing: pip needs {needs}.\n"
    asked = f"run %pip install {source.format(mamlkit.__version__)}, then restart the kernel."
    assert asked in said("0.0.9", None, tmp_path, cell)[1]
    went_on, text = said(None, mamlkit.__version__, tmp_path, cell.replace("with capture_output():", "if True:"))
    assert went_on and text.startswith(f"pip install {source.format(mamlkit.__version__)}\n"), "what pip is asked for"


def test_asks_for_the_tag_of_this_release():
    assert f'RELEASE = "{mamlkit.__version__}"' in PARTS["CELL"] and "@v{RELEASE}" in PARTS["first_cell"](False)
    workflow = PROGRAM.parents[2] / ".github" / "workflows" / "release.yml"
    assert 'tags: ["v*"]' in workflow.read_text(encoding="utf-8")


def test_nothing_else_in_a_notebook_changes(tmp_path):
    path = tmp_path / "trial.ipynb"
    new = nbformat.v4
    cells = [new.new_markdown_cell("# Größe", id="a"), new.new_code_cell("old", id="b"), new.new_code_cell("1", id="c")]
    notebook = new.new_notebook(cells=cells)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    assert PARTS["write"](path)
    notebook.cells[1].update(source=PARTS["CELL"], metadata=PARTS["METADATA"])
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(nbformat.writes(notebook))
    before = path.read_bytes()
    assert not PARTS["write"](path) and path.read_bytes() == before
