"""Write the first code cell of notebooks, which finds mamlkit or installs it; nothing else in them changes.

    python book/_ext/first_cell.py [NOTEBOOK ...]      without arguments: every chapter and every exercise

The cell asks for the release that `mamlkit/_version.py` names, by its tag. `FROM_PYPI = True` takes it from PyPI instead.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

FROM_PYPI = False

ROOT = Path(__file__).resolve().parents[2]
RELEASE = runpy.run_path(str(ROOT / "mamlkit" / "_version.py"))["__version__"]


def first_cell(from_pypi: bool = FROM_PYPI) -> str:
    """The cell, with one of the two sources."""
    source, needs = 'f"git+https://github.com/mamlkit/learning-to-learn@v{RELEASE}"', "git and a network"
    if from_pypi:
        source, needs = 'f"mamlkit=={RELEASE}"', "a network"
    # A UsageError is shown as one line, with no traceback, and ends "Run all" there.
    return f"""\
# @title Find mamlkit, or install it where it is missing
from importlib.util import find_spec

from IPython.core.error import UsageError
from IPython.utils.capture import capture_output

RELEASE = "{RELEASE}"
SOURCE = {source}
if not find_spec("mamlkit"):
    with capture_output():
        %pip install {{SOURCE}}
    if not find_spec("mamlkit"):
        raise UsageError("mamlkit is missing: pip needs {needs}.")
    print(f"Installed mamlkit {{RELEASE}}.")
import mamlkit

if mamlkit.__version__ != RELEASE:
    raise UsageError(
        f"This notebook needs mamlkit {{RELEASE}}, not {{mamlkit.__version__}}: "
        f"run %pip install {{SOURCE}}, then restart the kernel."
    )"""


CELL = first_cell()
METADATA = {"cellView": "form", "tags": ["setup", "hide-input"]}


def write(path: Path) -> bool:
    """Put the cell in place of the first code cell of a notebook; whether that changed anything."""
    before = path.read_text(encoding="utf-8")
    notebook = json.loads(before)
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first["source"] = CELL.splitlines(keepends=True)
    first["metadata"] = METADATA
    after = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    path.write_text(after, encoding="utf-8")
    return after != before


def main(arguments: list[str]) -> None:
    book = ROOT / "book"
    for path in [Path(name) for name in arguments] or sorted([*book.glob("*.ipynb"), *book.glob("exercises/*.ipynb")]):
        print(f"{path}: {'changed' if write(path) else 'the same as before'}")


if __name__ == "__main__":
    main(sys.argv[1:])
