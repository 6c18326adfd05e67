"""The exercises for a class: copies without solutions, one solution at a time, and a mark for every answer.

    python book/_ext/classroom.py copies FOLDER      every exercise notebook, without its solutions
    python book/_ext/classroom.py solution 4.2       the solution of one exercise
    python book/_ext/classroom.py grade FOLDER       what the checks say of the notebooks in FOLDER, as CSV

`grade` takes from a notebook that was handed in only the cells that were blank, puts them into the exercises as they are
in the book, and runs these. So an edited check or an old output counts for nothing. It runs the code of others: use a
machine, or a container, that holds nothing of value.
"""

from __future__ import annotations

import copy
import csv
import re
import sys
import tempfile
from pathlib import Path

import nbformat

from execute import execute

EXERCISES = Path(__file__).resolve().parents[1] / "exercises"
SECONDS = 120  # for one cell; an answer that takes longer is stopped
HEADING = re.compile(r"^## Exercise (\d+\.\d+) ", re.MULTILINE)


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def name(cell: nbformat.NotebookNode) -> str:
    """The tag that a stub and its solution share."""
    return next((tag for tag in tags(cell) if tag.startswith("ex-")), "")


def numbers(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The number of each exercise, by its name."""
    found, number = {}, ""
    for cell in notebook.cells:
        heading = HEADING.search(cell.source) if cell.cell_type == "markdown" else None
        number = heading.group(1) if heading else number
        if "exercise" in tags(cell):
            found[name(cell)] = number
    return found


def chapter(number: str) -> Path:
    """The exercises of the chapter that an exercise belongs to."""
    return next(EXERCISES.glob(f"{int(number.partition('.')[0]):02d}_*.ipynb"))


def without_solutions(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy with neither the solutions nor the counts and outputs of a run; its first lines promise no solution."""
    stripped = copy.deepcopy(notebook)
    stripped.cells = [cell for cell in stripped.cells if "solution" not in tags(cell)]
    first = stripped.cells[0]
    first.source = re.sub(r"\bsolution( to unfold)?\.", "solution that your teacher has.", first.source)
    for cell in stripped.cells:
        if cell.cell_type == "code":
            cell.update(execution_count=None, outputs=[])
    stripped.metadata.pop("widgets", None)
    return stripped


def solution(number: str) -> str:
    """The source of one solution."""
    notebook = nbformat.read(chapter(number), as_version=4)
    wanted = {name for name, own in numbers(notebook).items() if own == number}
    return next(cell.source for cell in notebook.cells if "solution" in tags(cell) and name(cell) in wanted)


def answered(handed_in: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The book's exercises of the same chapter, with the answers of a notebook that was handed in."""
    answers = {name(cell): cell.source for cell in handed_in.cells if "exercise" in tags(cell)}
    own = next(filter(None, (HEADING.search(cell.source) for cell in handed_in.cells)), None)
    if own is None or not answers:
        raise ValueError("expected a notebook of exercises, with the tags that its cells had")
    notebook = without_solutions(nbformat.read(chapter(own.group(1)), as_version=4))
    for cell in notebook.cells:
        if "exercise" in tags(cell):
            cell.source = answers.get(name(cell), cell.source)
    return notebook


def verdicts(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What the check of each exercise prints when a notebook is run."""
    with tempfile.TemporaryDirectory() as folder:
        ran = execute(notebook, folder, allow_errors=True, timeout=SECONDS, interrupt_on_timeout=True)
    said: dict[str, str] = {number: "" for number in numbers(ran).values()}
    for cell in ran.cells:
        if cell.cell_type == "code" and "mamlkit.checking." in cell.source:
            text = "".join(output.get("text", "") for output in cell.outputs)
            for number, line in re.findall(r"^Exercise (\d+\.\d+): (.*)$", text, re.MULTILINE):
                said[number] = f"{said[number]} {line}".strip()
    return said


def points(said: str) -> int:
    """1 where the check says `correct` and nothing else."""
    return int(said.startswith("correct.") and said.count("correct.") == 1 and "not yet" not in said)


def main(arguments: list[str]) -> int:
    """Do what the first argument says; the exit status is 2 where that is nothing known."""
    if len(arguments) != 2 or arguments[0] not in ("copies", "solution", "grade"):
        print(__doc__, file=sys.stderr)
        return 2
    verb, what = arguments
    if verb == "copies":
        Path(what).mkdir(parents=True, exist_ok=True)
        for path in sorted(EXERCISES.glob("*.ipynb")):
            nbformat.write(without_solutions(nbformat.read(path, as_version=4)), Path(what) / path.name)
    elif verb == "solution":
        print(solution(what))
    else:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["notebook", "exercise", "points", "the check says"])
        for path in sorted(Path(what).rglob("*.ipynb")):
            try:
                said = verdicts(answered(nbformat.read(path, as_version=4)))
            except ValueError as error:
                table.writerow([path.relative_to(what), "", 0, error])
                continue
            table.writerows([path.relative_to(what), number, points(line), line] for number, line in said.items())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
