"""The script behind the short trainings of chapters 6 and 13: it trains as it says, and the files that ship are whole."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys

import oracles
import pytest
import torch

import mamlkit
from mamlkit.recipes import short_runs as recipe


@pytest.fixture
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_two_outer_steps_against_a_plain_loop(float64):
    way = dataclasses.replace(recipe.WAYS["sinusoid-short-rate-0.01"], outer_steps=2)
    found = recipe.train(way, seed=3)
    theta = [parameter.detach().clone().requires_grad_() for parameter in mamlkit.mlp(seed=3).parameters()]
    stream = mamlkit.TaskStream(mamlkit.Sinusoids(shots=10, queries=10), 10, seed=3)
    optimiser = torch.optim.Adam(theta, lr=3e-3)
    for number in range(2):
        _, gradients = oracles.meta_gradient(
            oracles.mlp_forward, oracles.mean_squared_error, theta, stream.batch(number), way.inner_lr, way.inner_steps
        )
        for parameter, gradient in zip(theta, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
    assert oracles.relative_error([found[name] for name, _ in mamlkit.mlp().named_parameters()], theta) < 1e-9


def test_ways_that_are_compared_begin_alike_and_part():
    for names in (recipe.RATES, ("maml", "imaml")):
        ways = [recipe.WAYS[f"sinusoid-short-{'rate-' if name in recipe.RATES else ''}{name}"] for name in names]
        starts, ends = (
            [recipe.train(dataclasses.replace(way, outer_steps=steps), 1)["0.weight"] for way in ways]
            for steps in (0, 1)
        )
        assert all(torch.equal(starts[0], other) for other in starts[1:])
        assert not any(torch.equal(ends[0], other) for other in ends[1:])
        assert torch.get_default_dtype() == torch.float32
        assert len({(way.seeds, way.outer_steps, way.outer_lr) for way in ways}) == 1


@pytest.mark.parametrize("name", recipe.WAYS)
def test_the_weights_that_ship_are_whole(name):
    way, record = recipe.WAYS[name], mamlkit.pretrained_record(name)
    settings = {key: value for key, value in dataclasses.asdict(way).items() if key not in ("make", "options")}
    assert {**settings, **way.options}.items() <= record.items()
    shapes = {key: (way.seeds, *value.shape) for key, value in mamlkit.mlp().state_dict().items()}
    weights = mamlkit.pretrained(name)
    assert {key: tuple(value.shape) for key, value in weights.items()} == shapes
    assert {value.dtype for value in weights.values()} == {torch.float64}


def test_the_recorded_command_is_understood(monkeypatch, tmp_path, capsys):
    program, _, module, *arguments = shlex.split(mamlkit.pretrained_record("sinusoid-short-imaml")["command"])
    assert (program, module) == ("python", recipe.__name__)
    arguments[arguments.index("--out") + 1] = str(tmp_path)
    monkeypatch.setattr(sys, "argv", ["short_runs", *arguments])
    monkeypatch.setattr(recipe, "train", lambda way, seed: mamlkit.mlp(seed=seed).state_dict())
    recipe.main()
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == sorted(recipe.WAYS)
    written = json.loads((tmp_path / "sinusoid-short-imaml.json").read_text(encoding="utf-8"))
    assert written.keys() == mamlkit.pretrained_record("sinusoid-short-imaml").keys()
