"""The programs that build the book: the API reference is complete, and notebooks run to the same bytes."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[3]
API = runpy.run_path(str(ROOT / "book" / "_ext" / "api_reference.py"))


def test_every_module_is_in_the_reference():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "book" / "appendix" / "api").glob("*.md"))
    package = ROOT / "mamlkit"
    paths = [*package.glob("*.py"), *package.glob("*/__init__.py")]
    paths += [path for room in ("engines", "data") for path in (package / room).rglob("*.py")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    unlisted = {name for name in modules if f"automodule:: {name}\n" not in f"{pages}\n"}
    private = ("", ".__main__", "._files", "._moved", "._processes", "._version", ".arguments", ".bench", ".recipes")
    assert unlisted == {f"mamlkit{name}" for name in private}


def test_every_record_is_on_the_page_of_results():
    page = (ROOT / "book" / "appendix" / "results.md").read_text(encoding="utf-8")
    records = [
        path
        for folder in ("mamlkit/weights", "mamlkit/records", "book/results")
        for path in (ROOT / folder).glob("*.json")
    ]
    assert records
    for path in records:
        name, command = str(path.relative_to(ROOT)), json.loads(path.read_text(encoding="utf-8"))["command"]
        rows = [re.findall("`([^`]*)`", line) for line in page.splitlines()]
        row = next(row for row in rows if any(fnmatch(name, word) for word in row))  # a row may name many by a pattern
        assert any((word.startswith("python -m") and command.startswith(word)) or word == command for word in row), name


def test_a_missing_name_is_seen():
    public = [
        "mamlkit.adapt",
        "mamlkit.conv4",
        "mamlkit.engines.ENGINES",
        "mamlkit.inner_loop.Loss",
        "mamlkit.__version__",
    ]
    documented = ["mamlkit.inner_loop.adapt", "mamlkit.engines.conv4", "mamlkit.engines.choice.ENGINES", "other.Loss"]
    assert API["undocumented"](public, documented) == ["mamlkit.conv4", "mamlkit.inner_loop.Loss"]


def test_names_of_every_module_are_looked_for():
    modules = API["public_modules"]()
    assert {"mamlkit", "mamlkit.engines.conv4.block", "mamlkit.checking.chapter_01"} <= set(modules)
    assert not [name for name in modules if "._" in name or name.startswith("mamlkit.bench")]


@pytest.mark.parametrize(
    ("plain", "marked"),
    [
        ("It says:\n\n    x = 1\n\nThen.", "It says:\n\n::\n\n    x = 1\n\nThen."),
        ("Says::\n\n    x = 1", "Says::\n\n    x = 1"),
        ("Args:\n    x: one.\n\n    y: two.", "Args:\n    x: one.\n\n    y: two."),
        ("* item\n\n  more of it", "* item\n\n  more of it"),
        ("One.\n\n    a\n\n    b\n\nTwo.", "One.\n\n::\n\n    a\n\n    b\n\nTwo."),
    ],
)
def test_indented_blocks_are_marked(plain, marked):
    assert "\n".join(API["mark_blocks"](plain.split("\n"))) == marked


NOTEBOOK = """
import sys, warnings
import ipywidgets
warnings.warn("not kept")
print(object())
ipywidgets.IntSlider()
"""


def execute(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "book" / "_ext" / "execute.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_two_runs_give_the_same_bytes(tmp_path):
    path = tmp_path / "trial.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK, id="trial")]), path)
    first = execute(path)
    assert first.returncode == 0 and "not kept" in first.stderr
    once = path.read_bytes()
    assert "the same as before" in execute(path).stdout and path.read_bytes() == once
    cell = nbformat.read(path, as_version=4).cells[0]
    assert cell.execution_count == 1 and cell.outputs[0].text == "<object object at 0x0>\n"
    assert all(output.get("name") != "stderr" for output in cell.outputs)
    state = nbformat.read(path, as_version=4).metadata.widgets["application/vnd.jupyter.widget-state+json"].state
    slider = next(model.state for model in state.values() if model.model_name == "IntSliderModel")
    assert slider.value == 0 and slider.layout == "IPY_MODEL_00000000000000000000000000000000"
    assert all(value is not None for model in state.values() for value in model.state.values())


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    path = tmp_path / "trial.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0", id="trial")]), path)
    before = path.read_bytes()
    result = execute(path)
    assert result.returncode == 1 and "ZeroDivisionError" in result.stderr and path.read_bytes() == before


QUESTION, TEXT = "**Predict.** Which?", "That is why."


@pytest.mark.parametrize(
    ("cells", "closed"),
    [  # m: text, q: a question; o: code with an output, s: code without one
        ("oqo", [2]),
        ("qoosom", [1, 2, 4]),
        ("qoomo", [1, 2]),  # up to the next text
        ("qsoo", [2, 3]),
        ("qmomo", [2]),  # text before the result
        ("qoqoo", [1, 3, 4]),
        ("momo", []),
    ],
)
def test_all_that_answers_a_prediction_is_closed(cells, closed, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    close_predicted = runpy.run_path(str(ROOT / "book" / "_ext" / "execute.py"))["close_predicted"]
    new, output = nbformat.v4, nbformat.v4.new_output("stream", text="2")
    kinds = {
        "m": lambda: new.new_markdown_cell(TEXT),
        "q": lambda: new.new_markdown_cell(QUESTION),
        "o": lambda: new.new_code_cell("1 + 1", outputs=[output], metadata={"jupyter": {"outputs_hidden": True}}),
        "s": lambda: new.new_code_cell("x = 1", metadata={"collapsed": True, "jupyter": {"outputs_hidden": True}}),
    }
    made = [kinds[kind]() for kind in cells]
    close_predicted(made)
    both = {"collapsed": True, "jupyter": {"outputs_hidden": True}}
    assert [dict(cell.metadata) for cell in made] == [both if n in closed else {} for n in range(len(made))]
    assert all(cell.outputs == [output] for cell, kind in zip(made, cells, strict=True) if kind == "o")


def test_predictions_are_stored_closed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    close_predicted = runpy.run_path(str(ROOT / "book" / "_ext" / "execute.py"))["close_predicted"]
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        stored = json.dumps(cells)
        close_predicted(cells)
        assert json.dumps(cells, sort_keys=True) == json.dumps(json.loads(stored), sort_keys=True), path.name
