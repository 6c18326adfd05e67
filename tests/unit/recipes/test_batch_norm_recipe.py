"""The script behind chapter 9's networks: the same run gives the same weights, and what ships fits the learners it is for."""

from __future__ import annotations

import json
import shlex
import sys

import pytest
import torch
from safetensors.torch import load_file

import mamlkit
from mamlkit.pretrained import pretrained_record
from mamlkit.recipes import batch_norm as recipe


@pytest.mark.parametrize("version", recipe.VERSIONS)
def test_the_same_run_gives_the_same_weights(version):
    first, again, other = (recipe.train(version, seed, 1) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert {tensor.dtype for tensor in first.values()} <= {torch.float32, torch.int64}


def test_what_the_inner_loop_adapts():
    adapted = {version: set(recipe.learner_with(version, 0).initialisation()) for version in recipe.VERSIONS}
    norms = {f"{layer}.{kind}" for layer in (1, 4, 7, 10) for kind in ("weight", "bias")}
    assert norms <= adapted["adapted"] and not norms & adapted["per-step"]
    assert adapted["adapted"] - norms == adapted["per-step"]


@pytest.mark.parametrize("version", recipe.VERSIONS)
def test_the_weights_that_ship_tell_new_characters_apart(version):
    name = f"glyph-batch-norm-{version}"
    weights, record = mamlkit.pretrained(name), pretrained_record(name)
    assert {len(tensor) for tensor in weights.values()} == {record["seeds"]}
    tasks = mamlkit.glyphs("test").sample(20, torch.Generator().manual_seed(3))
    tasks = tasks._replace(support_x=tasks.support_x.double(), query_x=tasks.query_x.double())
    for seed in (0, record["seeds"] - 1):
        learner = recipe.learner_with(record["version"], seed)
        learner.load_state_dict({key: tensor[seed] for key, tensor in weights.items()})  # strict
        assert mamlkit.evaluate(learner, tasks).accuracy().mean > 0.4  # one in five by chance


def test_the_recorded_command_is_one_that_the_script_understands(monkeypatch, tmp_path):
    records = {version: pretrained_record(f"glyph-batch-norm-{version}") for version in recipe.VERSIONS}
    (command,) = {record["command"] for record in records.values()}
    program, _, module, *arguments = shlex.split(command)
    assert (program, module) == ("python", recipe.__name__)
    arguments[arguments.index("--out") + 1] = str(tmp_path)
    seen = []

    def pretend(version, seed, outer_steps):
        seen.append((version, seed, outer_steps))
        return {"x": torch.tensor([float(seed)])}

    monkeypatch.setattr(recipe, "train", pretend)
    monkeypatch.setattr(sys, "argv", ["batch_norm", *arguments, "--processes", "1"])
    recipe.main()
    for version, record in records.items():
        runs = [(version, seed, record["outer_steps"]) for seed in range(record["seeds"])]
        assert [run for run in seen if run[0] == version] == runs
        stacked = load_file(tmp_path / f"glyph-batch-norm-{version}.safetensors")["x"]
        assert stacked.tolist() == [[float(seed)] for seed in range(record["seeds"])]
        written = json.loads((tmp_path / f"glyph-batch-norm-{version}.json").read_text(encoding="utf-8"))
        same = set(record) - {"command", "versions"}
        assert {key: written[key] for key in same} == {key: record[key] for key in same}
