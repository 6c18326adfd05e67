"""The script behind chapter 12's record: the same runs give the same rows, and the record that ships is whole."""

from __future__ import annotations

import json
import shlex
import sys

import oracles
import pytest
import torch

import mamlkit
from mamlkit.recipes import find_the_bug as recipe
from mamlkit.recipes.frame import InFloat64


@pytest.fixture
def small(monkeypatch):
    """Few outer steps on few held-out tasks."""
    monkeypatch.setattr(recipe, "OUTER_STEPS", 4)
    monkeypatch.setattr(recipe, "BLOCK", 2)
    monkeypatch.setattr(recipe, "HELD_OUT_TASKS", 5)


def tasks(count=3):
    return InFloat64(mamlkit.Sinusoids(10, 10)).sample(count, torch.Generator().manual_seed(5))


def gradient(name, theta, batch):
    return torch.autograd.grad(recipe.meta_loss(name, theta, batch), theta, materialize_grads=True)


def test_the_same_run_gives_the_same_row(small):
    first, again, other = (recipe.train(seed, "leak") for seed in (3, 3, 4))
    assert first == again != other
    assert len(first["training"]) == 2 and len(first["first"]) == 4
    assert len(first["steps"]) == 2 * recipe.INNER_STEPS + 1


def test_the_right_one_is_maml():
    theta, batch = recipe.initial_weights(1), tasks()
    expected, slopes = oracles.meta_gradient(
        recipe.network, oracles.mean_squared_error, theta, batch, recipe.INNER_LR, recipe.INNER_STEPS
    )
    assert recipe.meta_loss("right", theta, batch).item() == pytest.approx(float(expected))
    assert oracles.relative_error(gradient("right", theta, batch), slopes) < 1e-9


def test_each_wrong_one_is_wrong_in_its_own_way():
    theta, batch = recipe.initial_weights(1), tasks()
    losses = {name: recipe.meta_loss(name, theta, batch).item() for name in recipe.LEARNERS}
    right, slopes = losses["right"], gradient("right", theta, batch)
    assert losses["no graph"] == losses["copy"] == right and losses["two losses"] == pytest.approx(right)
    assert losses["sum"] == pytest.approx(3 * right)
    assert losses["chain"] != pytest.approx(right) and losses["leak"] < right
    assert oracles.relative_error(gradient("no graph", theta, batch), slopes) > 1e-3
    assert all(slope.abs().max() == 0 for slope in gradient("copy", theta, batch))
    assert oracles.relative_error(gradient("two losses", theta, batch), slopes) < 1e-9
    one = tasks(1)
    assert recipe.meta_loss("chain", theta, one).item() == pytest.approx(recipe.meta_loss("right", theta, one).item())
    usual, slow = (recipe.evaluate(name, theta, batch) for name in ("right", "two losses"))
    assert usual[recipe.INNER_STEPS] == pytest.approx(right) and usual[0] == slow[0]
    assert abs(slow[10] - slow[0]) < 0.5 * abs(usual[10] - usual[0])


def test_numbers_kept_grow_with_the_steps_where_there_is_a_graph():
    for name in recipe.LEARNERS:
        one, two, four = (recipe.kept(name, steps) for steps in (1, 2, 4))
        assert (one == two == four) if name == "no graph" else (four - two == 2 * (two - one) > 0), name


def test_the_record_is_whole_and_its_command_is_understood(monkeypatch, tmp_path):
    record = mamlkit.recorded("find-the-bug")
    found = [(row["seed"], row["learner"]) for row in record["rows"]]
    assert all(len(row["training"]) * record["block"] == record["outer_steps"] for row in record["rows"])
    arguments = shlex.split(record["command"])[3:]
    assert arguments[0] == "--out"
    seen = []

    def pretend(*run):
        seen.append(run)
        return {"run": run}

    monkeypatch.setattr(recipe, "train", pretend)
    monkeypatch.setattr(sys, "argv", ["find_the_bug", "--out", str(tmp_path), *arguments[2:], "--processes", "1"])
    recipe.main()
    assert found == seen
    written = json.loads((tmp_path / "find-the-bug.json").read_text(encoding="utf-8"))
    same = set(record) - {"command", "rows", "versions"}
    assert {name: written[name] for name in same} == {name: record[name] for name in same}
