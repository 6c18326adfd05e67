"""The script behind the networks of chapters 6 to 8: runs repeat, go on where they stopped, and the record is whole."""

from __future__ import annotations

import pytest
import torch

import mamlkit
from mamlkit.recipes import five_steps as recipe


@pytest.fixture
def small(monkeypatch):
    """Epochs of two outer steps."""
    monkeypatch.setattr(recipe, "EPOCH", 2)
    monkeypatch.setattr(recipe, "BLOCK", 1)
    monkeypatch.setattr(recipe, "ANNEALING_EPOCHS", 2)


def trained(epochs, *, outer_loss="annealed", seed=0):
    run = recipe.Run(outer_loss, 2, seed, engine="auto")
    for _ in range(epochs):
        run.train_epoch(6)
    return run


def test_a_run_that_goes_on_is_the_run_that_never_stopped(small):
    whole, first, rest = trained(3), trained(2), recipe.Run("annealed", 2, 0, engine="auto")
    rest.resume(first.state())
    rest.train_epoch(6)
    assert rest.course == whole.course and len(whole.course["loss"]) == 6
    for ours, theirs in zip(rest.learner.parameters(), whole.learner.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert trained(1, seed=1).course != trained(1).course


def test_the_outer_loss_follows_the_epoch(small):
    runs = {name: trained(2, outer_loss=name) for name in recipe.OUTER_LOSSES}
    early = {name: run.learner.outer_loss.weights(2, run.learner.epoch)[0].item() for name, run in runs.items()}
    assert early == {"last": 0, "mean": 0.5, "annealed": 0.25}  # in epoch 1 of 2
    assert runs["last"].optimiser.param_groups[0]["lr"] == recipe.OUTER_LR


def test_the_record_and_the_weights_fit_each_other():
    record = mamlkit.recorded("five-steps")
    seeds = range(record["seeds"])
    wanted = {(name, record["inner_steps"], seed) for name in recipe.OUTER_LOSSES for seed in seeds}
    wanted |= {("last", steps, seed) for steps in (1, 2) for seed in seeds}
    found = {(row["outer_loss"], row["inner_steps"], row["seed"]): row for row in record["rows"]}
    assert set(found) == wanted
    for (_, steps, _), row in found.items():
        outer_steps = record["outer_steps" if steps == record["inner_steps"] else "outer_steps_short"]
        assert {len(row[key]) for key in ("loss", "norm", "largest", "spikes")} == {outer_steps // record["block"]}
    shapes = {name: tuple(p.shape) for name, p in mamlkit.mlp().named_parameters()}
    for name in recipe.OUTER_LOSSES:
        weights = mamlkit.pretrained(f"sinusoid-five-steps-{name}")
        assert {key: tuple(w.shape[1:]) for key, w in weights.items()} == shapes
        assert {len(w) for w in weights.values()} == {len(seeds)}
