"""The checks of the exercises, run on the blank stub, on typical wrong answers, on the solution and on other right answers.

`wrong_answers_NN.py` lists for each exercise of chapter NN what may stand in the stub's place: in WRONG with a fragment of
what the check must then say, and in RIGHT (where a chapter has it) without.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "book" / "exercises").glob("*.ipynb"))


@dataclass(frozen=True)
class Exercise:
    """One exercise: what is run before it, its stub, what stands between stub and verdict, its solution, its text."""

    path: Path
    name: str
    before: tuple[str, ...]
    stub: str
    check: tuple[str, ...]
    solution: nbformat.NotebookNode | None
    text: str

    def verdict(self, answer: str) -> str:
        """What the check prints when `answer` stands in the stub's place."""
        namespace: dict[str, object] = {"__name__": "__main__"}
        printed = io.StringIO()
        with matplotlib.rc_context(), contextlib.redirect_stdout(io.StringIO()):
            for source in (*self.before, answer):
                run(source, namespace)
            with contextlib.redirect_stdout(printed):
                for source in self.check:
                    run(source, namespace)
        plt.close("all")
        return printed.getvalue()


def run(source: str, namespace: dict[str, object]) -> None:
    """Run a cell's source as IPython would, magics included."""
    exec(compile(TransformerManager().transform_cell(source), "<cell>", "exec"), namespace)


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def exercises_of(path: Path) -> list[Exercise]:
    """The exercises of a notebook. Cells before the first stub belong to all of them."""
    cells = nbformat.read(path, as_version=4).cells
    starts = [number for number, cell in enumerate(cells) if "exercise" in tags(cell)]
    found = []
    for start, end in zip(starts, [*starts[1:], len(cells)], strict=True):
        name = next(tag for tag in tags(cells[start]) if tag.startswith("ex-"))
        code = [cell for cell in cells[start + 1 : end] if cell.cell_type == "code"]
        last = next(number for number, cell in enumerate(code) if ".check_" in cell.source)
        solutions = [cell for cell in code if {"solution", name} <= set(tags(cell))]
        heading = max((n for n in range(start) if cells[n].source.startswith("## Exercise ")), default=0)
        # What a task sets up between its heading and its stub counts too.
        common = cells[: next((n for n, cell in enumerate(cells) if cell.source.startswith("## Exercise ")), starts[0])]
        before = [cell.source for cell in [*common, *cells[heading:start]] if cell.cell_type == "code"]
        text = "\n".join(cell.source for cell in cells[heading:start] if cell.cell_type == "markdown")
        check = tuple(cell.source for cell in code[: last + 1])
        solution = solutions[0] if len(solutions) == 1 else None
        found.append(Exercise(path, name, tuple(before), cells[start].source, check, solution, text))
    return found


EXERCISES = [exercise for path in NOTEBOOKS for exercise in exercises_of(path)]


def answers(path: Path, kind: str) -> dict[str, list]:
    """WRONG or RIGHT of the chapter that a notebook belongs to."""
    listed = Path(__file__).with_name(f"wrong_answers_{path.stem[:2]}.py")
    return runpy.run_path(str(listed)).get(kind, {}) if listed.exists() else {}


def per_exercise(exercise: Exercise) -> str:
    return f"{exercise.path.stem[:2]}-{exercise.name}"


def cases(kind: str) -> list:
    return [
        pytest.param(exercise, case, id=f"{per_exercise(exercise)}-{number}")
        for exercise in EXERCISES
        for number, case in enumerate(answers(exercise.path, kind).get(exercise.name, []))
    ]


@pytest.fixture(autouse=True)
def reader(monkeypatch):
    """Figures are not shown, and what a cell sets for the whole of PyTorch ends with the test."""
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: None)
    dtype, state = torch.get_default_dtype(), torch.get_rng_state()
    yield
    torch.set_default_dtype(dtype)
    torch.set_rng_state(state)


def test_there_are_exercises():
    assert EXERCISES, "no exercise was found in book/exercises/"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_three_to_six_each_with_its_own_name(path):
    names = [exercise.name for exercise in exercises_of(path)]
    assert 3 <= len(names) <= 6 and len(set(names)) == len(names)
    assert set(answers(path, "WRONG")) == set(names), "wrong_answers_NN.py and the notebook name other exercises"


@pytest.mark.parametrize("exercise", EXERCISES, ids=per_exercise)
class TestExercise:
    def test_says_what_it_asks_for(self, exercise):
        assert re.search(r"Difficulty [1-5]/5 · Importance [1-5]/5 · \d+ minutes", exercise.text)
        assert exercise.text.count("<details>") >= 2 and "Hint 1" in exercise.text and "Hint 2" in exercise.text

    def test_solution_is_folded(self, exercise):
        assert exercise.solution is not None, "one cell must be tagged `solution` and with the exercise's name"
        metadata = exercise.solution.metadata
        assert metadata.get("cellView") == "form" and metadata.get("jupyter", {}).get("source_hidden")
        assert "hide-cell" in tags(exercise.solution) and exercise.solution.source.startswith("# @title Solution")

    def test_blank_is_not_attempted(self, exercise):
        verdict = exercise.verdict(exercise.stub)
        assert "not attempted" in verdict and ": correct." not in verdict and "not yet" not in verdict

    def test_solution_is_correct(self, exercise):
        verdict = exercise.verdict(exercise.solution.source)
        assert ": correct." in verdict and "not yet" not in verdict

    def test_has_wrong_answers(self, exercise):
        assert len(answers(exercise.path, "WRONG").get(exercise.name, [])) >= 2


@pytest.mark.parametrize(("exercise", "case"), cases("WRONG"))
def test_wrong_answer_is_told_why(exercise, case):
    answer, fragment = case
    verdict = exercise.verdict(answer)
    assert fragment in verdict and ": correct." not in verdict, verdict


@pytest.mark.parametrize(("exercise", "answer"), cases("RIGHT"))
def test_other_right_answer_is_correct(exercise, answer):
    verdict = exercise.verdict(answer)
    assert ": correct." in verdict and "not yet" not in verdict, verdict
