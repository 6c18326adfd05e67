"""The script behind chapter 7's record: the same runs give the same rows, and the record that ships is whole."""

from __future__ import annotations

import pytest
from recorded_runs import run_again

import mamlkit
from mamlkit.recipes import multi_step as recipe


@pytest.fixture
def small(monkeypatch):
    """Few outer steps on few held-out tasks."""
    monkeypatch.setattr(recipe, "EPOCHS", 4)
    monkeypatch.setattr(recipe, "ANNEALING_EPOCHS", 2)
    monkeypatch.setattr(recipe, "HELD_OUT_TASKS", 5)


def test_the_same_run_gives_the_same_rows(small):
    first, again, other = (recipe.train(0.01, seed, "annealed", 1) for seed in (3, 3, 4))
    assert first == again != other
    assert [row["outer_step"] for row in first] == [1, 2, 4]
    assert all(len(row["loss"]) == len(row["deviation"]) == recipe.INNER_STEPS + 1 for row in first)
    assert all(0 <= row["rises"] <= 1 for row in first)


def test_the_outer_losses_differ_as_their_names_say(small):
    learners = {name: recipe.learner_with(name, 0.01, 0) for name in recipe.OUTER_LOSSES}
    weights = {
        name: [learner.outer_loss.weights(5, e)[0].item() for e in (0, 1, 2)] for name, learner in learners.items()
    }
    assert weights["last step"] == [0, 0, 0]
    assert weights["plain mean"] == pytest.approx([0.2, 0.2, 0.2])
    assert weights["annealed"] == pytest.approx([0.2, 0.1, 0])


def test_the_record_is_whole_and_its_command_is_understood(monkeypatch, tmp_path):
    seen = []
    record, _ = run_again(recipe, "multi-step", lambda *run: seen.append(run) or [], monkeypatch, tmp_path)
    found = [tuple(row[name] for name in ("inner_lr", "seed", "outer_loss", "outer_step")) for row in record["rows"]]
    steps = record["epochs"] * record["steps_per_epoch"]
    assert found == [(*run[:3], step) for run in seen for step in (steps // 4, steps // 2, steps)]


def test_a_record_that_does_not_ship_is_named():
    with pytest.raises(ValueError, match=r"expected one of .*'multi-step'.*, got 'no-such'"):
        mamlkit.recorded("no-such")
