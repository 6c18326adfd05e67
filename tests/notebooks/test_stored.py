"""What is stored in the notebooks, read without running them."""

from __future__ import annotations

import importlib
import re
import runpy

import nbformat
import pytest
from notebook_files import CHAPTERS, NOTEBOOKS, ROOT, code_cells, read

OPENER = ["minutes", "You will be able to", "You need", "colab.research.google.com"]
CLOSER = ["## What you learnt", "## Check yourself", "## Exercises", "## The next question"]
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
FIRST = runpy.run_path(str(ROOT / "book" / "_ext" / "first_cell.py"))
PHONE = 42  # characters of printed text that fit next to each other on a narrow phone


EXERCISES = [path for path in NOTEBOOKS if path.parent.name == "exercises"]


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_exercises_say_how_to_open_them(path):
    first = read(path).cells[0].source
    assert "make lab" in first and f"main/book/exercises/{path.name}" in first


def test_there_are_notebooks():
    assert CHAPTERS, "no chapter was found in book/"
    assert len(NOTEBOOKS) > len(CHAPTERS), "no exercises were found in book/exercises/"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_chapter_has_exercises(path):
    assert (path.parent / "exercises" / path.name).exists()


def test_each_notebook_is_in_the_table_of_contents():
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    listed = {line.split("file:")[1].strip() for line in contents.splitlines() if "file:" in line}
    assert {str(path.relative_to(ROOT).with_suffix("")) for path in NOTEBOOKS} <= listed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
class TestNotebook:
    def test_is_valid(self, path):
        nbformat.validate(read(path))

    def test_every_code_cell_ran_in_order(self, path):
        """A cell without a count is run but not compared by nbval."""
        counts = [cell.execution_count for cell in code_cells(path)]
        assert counts == list(range(1, len(counts) + 1))

    def test_no_error_and_no_warning_is_stored(self, path):
        for cell in code_cells(path):
            for output in cell.outputs:
                assert output.output_type != "error", cell.id
                assert output.get("name") != "stderr", cell.id

    def test_pictures_have_a_description(self, path):
        for cell in code_cells(path):
            if any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {})):
                alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
                assert len(alt.split()) >= 5, f"cell {cell.id}: say in mystnb.image.alt what is seen"

    def test_cells_are_short(self, path):
        for cell in code_cells(path):
            most = 40 if "hide-input" in cell.metadata.get("tags", []) else 25
            assert len(cell.source.splitlines()) <= most, cell.id

    def test_first_code_cell_finds_mamlkit(self, path):
        first = next(code_cells(path))
        right = first.source == FIRST["CELL"] and first.metadata == FIRST["METADATA"] and not first.outputs
        assert right, f"python book/_ext/first_cell.py {path.relative_to(ROOT)} writes it"

    def test_controls_wait_for_a_reader(self, path):
        """A control is there beside live figures, says that it needs a kernel, and did nothing by itself."""
        cells = read(path).cells
        controls = [
            number for number, cell in enumerate(cells) if "interact_manual" in cell.source and ")(" in cell.source
        ]
        figures = [cell.id for cell in cells if cell.cell_type == "code" and "mamlkit.widgets" in cell.source]
        assert controls or not figures, "beside a live figure stands a control for a reader with a kernel"
        for number in controls:
            cell, text = cells[number], cells[number - 1]
            assert "nbval-ignore-output" in cell.metadata.get("tags", []), cell.id
            assert text.cell_type == "markdown" and "needs a kernel" in text.source, cell.id
            (output,) = cell.outputs
            assert WIDGET_VIEW in output.get("data", {}), (
                f"cell {cell.id}: decorate the function, and let nothing else show"
            )

    def test_figures_are_those_of_the_library(self, path):
        """A page shows what is stored, and a reader with a kernel what the library has."""
        stored = read(path).metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
        figures = [model["state"] for model in stored.values() if "_anywidget_id" in model["state"]]
        for figure in figures:
            module, _, name = figure["_anywidget_id"].rpartition(".")
            own = getattr(importlib.import_module(module), name)
            same = figure["_esm"] == own._esm and figure["_css"] == own._css
            assert same, f"{name} has changed: run the notebook again, with book/_ext/execute.py"

    def test_uses_public_names_only(self, path):
        for cell in code_cells(path):
            private = re.search(r"(?:import|from) mamlkit[\w.]*\._(?!_version)|book/|sys\.path", cell.source)
            assert not private, f"cell {cell.id}: {private}"

    def test_imports_what_is_in_the_reference(self, path):
        """The build of the book sees that all of `__all__` is there."""
        for cell in code_cells(path):
            lines = [line for line in cell.source.splitlines() if not line.lstrip().startswith("%")]
            for module, names in re.findall(r"^from (mamlkit[\w.]*) import ([\w, ]+)$", "\n".join(lines), re.MULTILINE):
                missing = {name.partition(" as ")[0] for name in names.split(", ")} - {
                    *importlib.import_module(module).__all__
                }
                assert not missing, f"cell {cell.id}: {missing} of {module}"

    def test_no_formula_and_no_markdown_in_a_summary(self, path):
        """Pages do not typeset what stands in raw HTML: a reader would see the dollar signs and asterisks."""
        for cell in read(path).cells:
            if cell.cell_type == "markdown":
                for summary in re.findall(r"<summary>(.*?)</summary>", cell.source, re.DOTALL):
                    assert not set("$*`") & set(summary), f"cell {cell.id}: {summary}"

    def test_links_to_other_pages_lead_somewhere(self, path):
        for cell in read(path).cells:
            if cell.cell_type == "markdown":
                for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", cell.source):
                    assert (path.parent / target).exists(), f"cell {cell.id}: {target}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
class TestChapter:
    def test_opens_as_every_chapter(self, path):
        first = read(path).cells[0].source
        assert first.startswith("# ")
        for part in OPENER:
            assert part.lower() in first.lower(), part
        assert f"book/{path.name}" in first and f"exercises/{path.name}" in first

    def test_closes_as_every_chapter(self, path):
        text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
        places = [text.find(part) for part in CLOSER]
        assert -1 not in places and places == sorted(places), dict(zip(CLOSER, places, strict=True))

    def test_asks_for_predictions_that_one_commits_to(self, path):
        """A reader chooses an answer, and is told what speaks for or against it; the result comes after that."""
        questions = [
            cell for cell in read(path).cells if cell.cell_type == "markdown" and "**Predict.**" in cell.source
        ]
        assert questions
        for cell in questions:
            for question in cell.source.split("**Predict.**")[1:]:
                answers = re.findall(r"<details>\s*<summary>(.*?)</summary>\s*(.*?)</details>", question, re.DOTALL)
                assert len(answers) >= 2 and all(said.strip() for _, said in answers), cell.id

    def test_what_only_draws_is_folded(self, path):
        """Code that teaches stays open; what draws, imports or sets up is one click away."""
        for cell in code_cells(path):
            draws = re.search(r"\bplt\.|^use_style\(\)", cell.source, re.MULTILINE)
            if draws or "setup" in cell.metadata.get("tags", []):
                assert "hide-input" in cell.metadata.get("tags", []), f"cell {cell.id}: tag it hide-input"

    def test_quiz_says_why(self, path):
        text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
        quiz = text.partition("## Check yourself")[2].partition("\n## ")[0]
        answers = re.findall(r"<details>\s*<summary>.*?</summary>\s*(.*?)</details>", quiz, re.DOTALL)
        right = sum(answer.startswith("Right.") for answer in answers)
        assert 3 <= right <= 5
        assert all(re.match(r"(Right|No)\.\s+\S", answer) for answer in answers), answers

    def test_printed_lines_fit_a_phone(self, path):
        """Wider lines scroll sideways; what a page folds away may."""
        for cell in code_cells(path):
            if "hide-output" not in cell.metadata.get("tags", []):
                for output in cell.outputs:
                    wide = [line for line in output.get("text", "").splitlines() if len(line) > PHONE]
                    assert not wide, f"cell {cell.id}: {wide}"
