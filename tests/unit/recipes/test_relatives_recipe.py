"""The script behind chapter 13's table: the same run gives the same learner, its command can be run, and its record is whole."""

from __future__ import annotations

import itertools
import json
import shlex
import sys

import pytest
import torch

import mamlkit
from mamlkit.recipes import relatives as recipe


@pytest.mark.parametrize("name", recipe.NAMES)
def test_the_same_run_gives_the_same_weights(name):
    rate = recipe.RATES.get(name, (0.0,))[0]
    first, again, other = (recipe.train(name, seed, 1, rate).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_proto_maml_without_a_step_is_a_proto_net():
    """The same answers at a rate that moves nothing, and a gradient that reaches the body through the prototypes."""
    tasks = recipe.held_out("validation", 4)
    maml, proto = recipe.ProtoMAML(recipe.network(0), 1e-12), mamlkit.ProtoNet(recipe.network(0)[:-1])
    expected = mamlkit.evaluate(proto, tasks).accuracies[-1]
    assert torch.equal(maml.accuracies(tasks), expected)
    loss = maml.meta_backward(tasks)
    assert loss.item() == pytest.approx(proto.meta_backward(tasks).item(), rel=1e-4)
    body = zip(maml.body.parameters(), proto.parameters(), strict=True)
    for ours, theirs in body:
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-2, atol=1e-4)


def test_reptile_sees_all_images():
    tasks = recipe.without_split(recipe.held_out("validation", 2))
    images = recipe.WAYS * (recipe.SHOTS + recipe.TEST_QUERIES)
    assert tasks.support_x.shape[1] == tasks.support_y.shape[1] == images


def test_the_recorded_command_is_one_that_the_script_understands(monkeypatch, tmp_path):
    record = mamlkit.recorded("relatives")
    program, _, module, *arguments = shlex.split(record["command"])
    assert (program, module) == ("python", recipe.__name__)
    arguments[arguments.index("--out") + 1] = str(tmp_path)
    arguments[arguments.index("--work") + 1] = str(tmp_path / "work.pt")
    seen = []

    def pretend(name, seed, outer_steps, rate):
        seen.append((name, seed, outer_steps, rate))
        return name

    monkeypatch.setattr(recipe, "train", pretend)
    monkeypatch.setattr(recipe, "accuracies", lambda learner, tasks: torch.tensor([0.25, 0.75]))
    monkeypatch.setattr(recipe, "cost", lambda name, rate: {"ms": 1.0, "mb": 1.0})
    for _ in range(2):  # the second time everything is there
        monkeypatch.setattr(sys, "argv", ["relatives", *arguments])
        recipe.main()
    written = json.loads((tmp_path / "relatives.json").read_text(encoding="utf-8"))
    runs = list(itertools.product(range(record["seeds"]), recipe.NAMES))
    assert [(name, seed) for name, seed, steps, _ in seen if steps == record["outer_steps"]] == [
        (name, seed) for seed, name in runs
    ]
    assert len(seen) == len(runs) + sum(map(len, recipe.RATES.values()))
    differ = {"command", "versions", "rows", "costs", "validation", "reptile_outer_lr", "anil_inner_lr"}
    for key in record.keys() - differ - {"proto_maml_inner_lr"}:
        assert written[key] == record[key], key
    assert [(row["seed"], row["learner"]) for row in record["rows"]] == runs
    assert record["costs"].keys() == set(recipe.NAMES)


def test_what_was_chosen_is_the_best_of_what_was_tried():
    record = mamlkit.recorded("relatives")
    for name, key in {
        "Reptile": "reptile_outer_lr",
        "ANIL": "anil_inner_lr",
        "ProtoMAML": "proto_maml_inner_lr",
    }.items():
        tried = dict(map(tuple, record["validation"][name]))
        assert tuple(tried) == recipe.RATES[name] and tried[record[key]] == max(tried.values())
