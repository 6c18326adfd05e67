"""The ways through the book and the plans of lessons: minutes are those of the chapters, links and headings exist."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[3]
APPENDIX = ROOT / "book" / "appendix"
PATHS, TEACHING = ((APPENDIX / f"{name}.md").read_text(encoding="utf-8") for name in ("paths", "teaching"))
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
LINK = re.compile(r"\(\.\./((\d\d)_\w+\.ipynb)\)")
EXERCISE = re.compile(r"(?<![\d.])(\d{1,2}\.\d)(?![\d.])")


def markdown(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


def number(path: Path) -> int:
    return int(path.name[:2])


HEADS = {number(path): markdown(path)[0] for path in CHAPTERS}
TITLES = {chapter: head.splitlines()[0].removeprefix("# ") for chapter, head in HEADS.items()}
TIMES = {
    chapter: tuple(
        map(int, re.search(r"\*\*Time\*\* (\d+) minutes to read, (\d+) minutes for the exercises", head).groups())
    )
    for chapter, head in HEADS.items()
}
MINUTES = {  # of every exercise
    name: int(minutes)
    for path in CHAPTERS
    for text in markdown(path.parent / "exercises" / path.name)
    for name, minutes in re.findall(r"## Exercise (\d+\.\d+) .*?· (\d+) minutes", text, re.DOTALL)
}
IMPORTANT = {
    name
    for path in CHAPTERS
    for text in markdown(path.parent / "exercises" / path.name)
    for name in re.findall(r"## Exercise (\d+\.\d+) .*?Importance 5/5", text, re.DOTALL)
}


def predicted(path: Path) -> set[str]:
    """The headings under which a chapter asks for a prediction, without dollar signs."""
    found, heading = set(), ""
    for line in "\n".join(markdown(path)).splitlines():
        heading = line.lstrip("# ").replace("$", "") if line.startswith("##") else heading
        if "**Predict.**" in line:
            found.add(heading)
    return found


def test_the_minutes_of_exercises_add_up_to_those_of_the_chapter():
    for chapter, (_, exercises) in TIMES.items():
        assert exercises == sum(minutes for name, minutes in MINUTES.items() if name.startswith(f"{chapter}."))


def test_every_chapter_has_its_row():
    rows = re.findall(r"^\| \[(.*?)\]\(\.\./(.*?)\) \|(.*?)\| (\d+) \| (\d+) \|$", PATHS, re.MULTILINE)
    assert [(title, name, int(read), int(own)) for title, name, _, read, own in rows] == [
        (TITLES[number(path)], path.name, *TIMES[number(path)]) for path in CHAPTERS
    ]
    for title, _, builds_on, _, _ in rows:
        needs = HEADS[int(title.split(".")[0])].partition("**You need**")[2]
        assert {int(n) for n in re.findall(r"\d+", builds_on)} == {int(n) for n in re.findall(r"\]\((\d\d)_", needs)}, (
            title
        )
    total = [sum(times) for times in zip(*TIMES.values(), strict=True)]
    assert [int(n) for n in re.search(r"^\| all \| \| (\d+) \| (\d+) \|$", PATHS, re.MULTILINE).groups()] == total
    assert [
        int(n) for n in re.search(r"all chapters, (\d+) minutes, and all exercises, (\d+) minutes", PATHS).groups()
    ] == total


def test_every_sum_is_right():
    """A way names chapters, exercises or both, and then their minutes."""
    evening = sum(TIMES[chapter][0] for chapter in (1, 2)) + MINUTES["2.1"] + MINUTES["2.2"]
    assert f"exercises 2.1 and 2.2, {evening} minutes" in PATHS and f"{evening} minutes, and seven votes" in TEACHING
    week = sum(TIMES[chapter][0] for chapter in range(1, 6))
    important = sorted(name for name in IMPORTANT if int(name.split(".")[0]) <= 5)
    (listed, minutes) = re.search(r"importance 5 of 5, which are (.*?), (\d+) minutes", PATHS, re.DOTALL).groups()
    assert f"{week} minutes, one a day" in PATHS
    assert EXERCISE.findall(listed) == important and int(minutes) == sum(MINUTES[name] for name in important)
    aims = PATHS.partition("## By aim")[2].partition("## Every chapter")[0]
    sums = 0
    for aim in re.split(r"\n\n", aims):
        for part, minutes in re.findall(r"((?:Chapters|Exercises) .*?)(?:,|:)? (\d+) minutes", aim, re.DOTALL):
            chapters = [int(chapter) for _, chapter in LINK.findall(part)]
            exercises = EXERCISE.findall(re.sub(r"\[.*?\]\(.*?\)", "", part))
            expected = sum(TIMES[c][0] for c in chapters) + sum(MINUTES[name] for name in exercises)
            assert int(minutes) == expected, aim
            sums += 1
    assert sums >= 5


def days() -> list[str]:
    return re.findall(r"^### Day \d+\n(.*?)(?=^##)", TEACHING, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("day", days(), ids=lambda day: f"chapter {LINK.search(day).group(2)}")
def test_a_lesson_agrees_with_its_chapters(day):
    chapters = [int(chapter) for _, chapter in LINK.findall(day)]
    for chapter in chapters:
        assert f"{TIMES[chapter][0]} minutes" in day
    set_ = []
    for where in ("In class", "At home"):
        names, minutes = re.search(rf"{where}: (.*?) \((\d+) minutes\)", day).groups()
        assert int(minutes) == sum(MINUTES[name] for name in EXERCISE.findall(names))
        set_ += EXERCISE.findall(names)
    assert sorted(set_) == sorted(name for name in MINUTES if int(name.split(".")[0]) in chapters)
    asked = re.findall(r"\*([^*]+)\*", re.search(r"^- Vote.*$", day, re.MULTILINE).group())
    known = set.union(*(predicted(path) for path in CHAPTERS if number(path) in chapters))
    assert asked and set(asked) <= known


def test_the_evening_agrees_with_its_chapters():
    evening = TEACHING.partition("## An evening")[2].partition("\n## ")[0]
    rows = re.findall(r"\| \[Chapter (\d+)\]\(.*?\) \| (\d+) \|", evening)
    assert rows and all(TIMES[int(chapter)][0] == int(minutes) for chapter, minutes in rows)
    names, minutes = re.search(r"\| Exercises (.*?) \| (\d+) \|", evening).groups()
    assert int(minutes) == sum(MINUTES[name] for name in EXERCISE.findall(names))
    votes = re.findall(r"^- Vote in chapter (\d+): (.*)$", evening, re.MULTILINE)
    assert sum(len(re.findall(r"\*[^*]+\*", asked)) for _, asked in votes) == 7
    for chapter, asked in votes:
        assert set(re.findall(r"\*([^*]+)\*", asked)) <= predicted(CHAPTERS[int(chapter) - 1])


def test_links_lead_somewhere():
    for path in (APPENDIX / "paths.md", APPENDIX / "teaching.md", ROOT / "book" / "index.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_front_page_leads_there():
    index = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    assert "appendix/paths.md" in index and "appendix/teaching.md" in index
