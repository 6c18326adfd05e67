"""The script behind chapter 4's record: the same runs give the same rows, and the record that ships is whole."""

from __future__ import annotations

import pytest
from recorded_runs import run_again

from mamlkit.recipes import first_order as recipe


@pytest.fixture
def small(monkeypatch):
    """Few outer steps on few held-out tasks."""
    monkeypatch.setattr(recipe, "STOPS", (1, 2, 4))
    monkeypatch.setattr(recipe, "HELD_OUT_TASKS", 5)


def test_the_same_run_gives_the_same_rows(small):
    first, again, other = (recipe.train(seed, "fomaml") for seed in (3, 3, 4))
    assert first == again != other
    assert [row["outer_step"] for row in first] == [1, 2, 4]
    assert all(len(row["loss"]) == 2 * recipe.INNER_STEPS + 1 for row in first)


def test_the_three_start_from_the_same_weights_and_part(small):
    ends = [recipe.train(3, name)[-1]["loss"] for name in recipe.LEARNERS]
    assert ends[0] != ends[1] != ends[2] != ends[0]


def test_each_stop_has_its_longer_one_beside_it():
    assert {(stop, stop * 3 // 2) for stop in (200, 400, 600, 1000)} <= {
        (a, b) for a in recipe.STOPS for b in recipe.STOPS
    }


def test_the_record_is_whole_and_its_command_is_understood(monkeypatch, tmp_path):
    seen = []
    record, _ = run_again(recipe, "first-order", lambda *run: seen.append(run) or [], monkeypatch, tmp_path)
    found = [(row["seed"], row["learner"], row["outer_step"]) for row in record["rows"]]
    assert found == [(*run, stop) for run in seen for stop in recipe.STOPS]
