"""The scripts behind chapter 15's record and weights: what they draw and train is what the chapter shows."""

from __future__ import annotations

import functools
import json
import shlex
import sys

import pytest
import torch

import mamlkit
from mamlkit.pretrained import pretrained_record
from mamlkit.recipes import data_sizes, languages


@pytest.fixture
def chapter(run_cells):
    """A function that runs cells of the chapter."""
    return functools.partial(run_cells, "15_bring_your_own_task.ipynb")


def test_the_chapter_draws_the_creatures_of_the_recipe(chapter):
    own = chapter("creatures", "pictures")
    for number in (0, 7, 31):
        generator = torch.Generator().manual_seed(number)
        kind = own["creature"](generator)
        drawn = torch.stack([own["picture"](kind, generator) for _ in range(3)])  # (3, 28, 28, 3)
        assert torch.equal(drawn.permute(0, 3, 1, 2), data_sizes.pictures_of(number, 3))


def test_a_part_has_so_many_kinds_and_no_kind_of_the_test():
    few, more = (data_sizes.part_of(4, count, 2).classes for count in (10, 20))
    assert more.counts.tolist() == [2] * 20 and torch.equal(few.images, more.images[:20])
    test_kind = data_sizes.pictures_of(data_sizes.KINDS, 2)
    assert not any(torch.equal(more.of_class(number), test_kind) for number in range(20))
    assert set(data_sizes.held_out().query_y.unique().tolist()) == set(range(5))


def test_the_same_run_gives_the_same_row(monkeypatch):
    monkeypatch.setattr(data_sizes, "HELD_OUT_TASKS", 3)
    data_sizes.held_out.cache_clear()
    first, again, other = (data_sizes.train(seed, (10, 2), 1) for seed in (3, 3, 4))
    data_sizes.held_out.cache_clear()
    assert first == again and first["test_loss"] != other["test_loss"]


def test_the_record_of_sizes_is_whole_and_its_command_is_understood(monkeypatch, tmp_path):
    record = mamlkit.recorded("data-sizes")
    arguments = shlex.split(record["command"])[3:]
    seen = []

    def pretend(seed, size, outer_steps):
        seen.append((seed, *size))
        return {"outer_steps": outer_steps}

    monkeypatch.setattr(data_sizes, "train", pretend)
    monkeypatch.setattr(sys, "argv", ["data_sizes", "--out", str(tmp_path), *arguments[2:], "--processes", "1"])
    data_sizes.main()
    assert [(row["seed"], row["classes"], row["pictures"]) for row in record["rows"]] == seen
    written = json.loads((tmp_path / "data-sizes.json").read_text(encoding="utf-8"))
    same = set(record) - {"command", "rows", "versions"}
    assert {name: written[name] for name in same} == {name: record[name] for name in same}


def test_the_chapter_has_the_languages_and_the_transformer_of_the_recipe(chapter):
    own = chapter("languages", "transformer", "language-learners")
    for split in ("train", "test"):
        theirs, ours = (
            kind(split).sample(4, torch.Generator().manual_seed(2)) for kind in (own["Languages"], languages.Languages)
        )
        assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
    for version in languages.VERSIONS:
        weights = mamlkit.pretrained(f"language-{version}")
        outputs = []
        for learner in (own["language_learner"](version), languages.learner_for(version, 0)):
            learner.load_state_dict({name: of_seeds[1] for name, of_seeds in weights.items()})  # strict
            outputs.append(learner.query_outputs(ours, 2))
        torch.testing.assert_close(*outputs)


@pytest.mark.parametrize("version", languages.VERSIONS)
def test_the_same_run_gives_the_same_weights(version):
    first, again, other = (languages.train(version, seed, 1) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_no_language_is_in_both_splits():
    train, test = ({tuple(pair) for pair in languages.Languages(split).steps.tolist()} for split in ("train", "test"))
    assert not train & test and len(train | test) == 100 and len(test) == 25


def test_the_recorded_command_of_the_languages_is_understood(monkeypatch, tmp_path):
    records = {version: pretrained_record(f"language-{version}") for version in languages.VERSIONS}
    (command,) = {record["command"] for record in records.values()}
    _, _, module, *arguments = shlex.split(command)
    assert module == languages.__name__
    arguments[arguments.index("--out") + 1] = str(tmp_path)
    monkeypatch.setattr(languages, "train", lambda version, seed, outer_steps: {"x": torch.tensor([float(seed)])})
    monkeypatch.setattr(sys, "argv", ["languages", *arguments, "--processes", "1"])
    languages.main()
    for version, record in records.items():
        written = json.loads((tmp_path / f"language-{version}.json").read_text(encoding="utf-8"))
        same = set(record) - {"command", "versions"}
        assert {key: written[key] for key in same} == {key: record[key] for key in same}
