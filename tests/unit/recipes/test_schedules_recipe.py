"""The script behind chapter 10's record: the loop is the library's, plans share what they have in common, the record is whole."""

from __future__ import annotations

import pytest
import torch
from recorded_runs import run_again
from torch.nn import functional as F

import mamlkit
from mamlkit.recipes import schedules as recipe
from mamlkit.recipes.frame import InFloat64, outer_loop


@pytest.fixture
def small(monkeypatch):
    """Two seeds, few outer steps, few held-out tasks."""
    monkeypatch.setattr(recipe, "SEEDS", 2)
    monkeypatch.setattr(recipe, "TIMES", (1, 2, 4))
    monkeypatch.setattr(recipe, "PLANS", {"2 + 3": (2, 3), "all first": (8, 0)})
    monkeypatch.setattr(recipe, "HELD_OUT_TASKS", 5)
    recipe.batch.cache_clear()
    yield
    recipe.batch.cache_clear()


def test_a_seed_ends_where_the_library_ends(small):
    (found,) = recipe.train(4, 2, lambda i: 2, lambda i: 0.01, [4])
    model = mamlkit.mlp(seed=1).double()
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=recipe.INNER_RATE)
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.01)
    source = InFloat64(mamlkit.Sinusoids(recipe.SHOTS, recipe.SHOTS))
    stream = mamlkit.TaskStream(source, recipe.META_BATCH, seed=1)
    for _ in outer_loop(learner.meta_backward, optimiser, stream, 4):
        pass
    held_out = InFloat64(mamlkit.Sinusoids(recipe.SHOTS, recipe.HELD_OUT_QUERIES)).sample(
        5, torch.Generator().manual_seed(recipe.HELD_OUT_SEED)
    )
    assert found[1] == pytest.approx(mamlkit.evaluate(learner, held_out).loss().mean, abs=2e-6)


def test_plans_are_the_same_until_they_switch(small):
    switched, first = (recipe.order_rows(plan, 0.01) for plan in recipe.PLANS)
    assert [row["outer_step"] for row in switched] == [2, 3, 5]
    assert [row["outer_step"] for row in first] == [2, 4, 8]
    assert switched[0]["loss"] == first[0]["loss"] and switched[1]["loss"] != first[1]["loss"]


def test_a_cosine_begins_like_a_constant_rate_and_moves_less_later(small, monkeypatch):
    monkeypatch.setattr(recipe, "OUTER_STEPS", 4)
    monkeypatch.setattr(recipe, "BEFORE_THE_END", (3, 1, 0))
    constant, cosine = (recipe.rate_rows(name, 0.01) for name in ("constant", "cosine"))
    assert constant[0]["loss"] == cosine[0]["loss"]  # after step 1
    assert constant[2]["loss"] != cosine[2]["loss"]
    assert constant == recipe.rate_rows("constant", 0.01)


def test_the_record_is_whole_and_its_command_is_understood(monkeypatch, tmp_path):
    def pretend(outer_steps, inner_steps, order_at, rate_at, judged):
        return [[0.0] * recipe.SEEDS for _ in judged]

    record, written = run_again(recipe, "schedules", pretend, monkeypatch, tmp_path)
    for own, again in zip(record["rows"], written["rows"], strict=True):
        assert own | {"loss": again["loss"]} == again and len(own["loss"]) == record["seeds"]
