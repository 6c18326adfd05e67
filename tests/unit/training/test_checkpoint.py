"""Checkpoints: everything comes back, nothing half-written or damaged is taken for one."""

from __future__ import annotations

import json
import os

import pytest
import torch
from torch.nn import functional as F

import mamlkit
from mamlkit import checkpoint
from mamlkit._files import write_atomically


def tensors():
    shared = torch.arange(6.0)
    return {
        "a": torch.randn((2, 3), generator=torch.Generator().manual_seed(0)),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "half": shared[:3],
        "whole": shared,  # storage that is shared
        "double": torch.tensor([1e-300, -0.0, 3.0], dtype=torch.float64),
        "bfloat16": torch.ones(2, dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 4),
    }


def test_round_trip(tmp_path, same_rng):
    record = {"epoch": 3, "history": {"rows": [{"a": None, "b": 0.1}]}, "best": [[0.5, "x"]]}
    checkpoint.save_checkpoint(tmp_path / "step-00000001", tensors(), record)
    found, notes = checkpoint.load_checkpoint(tmp_path / "step-00000001")
    assert found.keys() == tensors().keys()
    for name, value in tensors().items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype
    assert notes.pop("sha256") and notes == record
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001.json", "step-00000001.safetensors"]


def test_a_learner_with_its_optimiser(tmp_path):
    def make():
        learner = mamlkit.maml_plus_plus(mamlkit.mlp((1, 4, 1), seed=0), loss=F.mse_loss, inner_steps=2, inner_lr=0.01)
        return learner, torch.optim.Adam(learner.meta_parameters().values(), lr=1e-2)

    stream = mamlkit.TaskStream(mamlkit.Sinusoids(3, 3), 2)

    def train(learner, optimiser, batches):
        for number in batches:
            optimiser.zero_grad()
            learner.meta_backward(stream.batch(number))
            optimiser.step()

    learner, optimiser = make()
    train(learner, optimiser, range(3))
    learner.epoch = 1
    moments, rest = checkpoint.optimiser_tensors(optimiser)
    saved = {f"learner.{key}": value for key, value in learner.state_dict().items()} | moments
    notes = {"epoch": learner.epoch, "meta_steps": learner.meta_steps, "optimiser": rest}
    checkpoint.save_checkpoint(tmp_path / "step-00000003", saved, notes)
    other, fresh = make()
    record = mamlkit.load_learner(other, tmp_path / "step-00000003")
    found, _ = checkpoint.load_checkpoint(tmp_path / "step-00000003")
    checkpoint.restore_optimiser(fresh, {key: found[key] for key in moments}, record["optimiser"])
    assert (other.epoch, other.meta_steps) == (1, 3)
    train(learner, optimiser, range(3, 6))
    train(other, fresh, range(3, 6))
    for name, value in learner.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_a_checkpoint_of_another_learner_is_refused(tmp_path):
    small = mamlkit.maml(mamlkit.mlp((1, 4, 1), seed=0), loss=F.mse_loss)
    tensors = {f"learner.{key}": value for key, value in small.state_dict().items()}
    checkpoint.save_checkpoint(tmp_path / "step-1", tensors, {"epoch": 0, "meta_steps": 0})
    for model, fragment in (
        (mamlkit.mlp((1, 5, 1), seed=0), r"model.0.bias of shape \(5,\), got \(4,\)"),
        (mamlkit.mlp((1, 4, 4, 1), seed=0), r"model.2.bias of shape \(4,\), got \(1,\)"),
    ):
        learner = mamlkit.maml(model, loss=F.mse_loss)
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        with pytest.raises(ValueError, match=fragment):
            mamlkit.load_learner(learner, tmp_path / "step-1")
        assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


def damage(path, kind):
    weights, notes = path.with_suffix(".safetensors"), path.with_suffix(".json")
    if kind == "one bit":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif kind == "cut off":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif kind == "empty":
        weights.write_bytes(b"")
    elif kind == "torn notes":
        notes.write_text(notes.read_text()[:-5])
    elif kind == "notes of nothing":
        notes.write_text("[]")
    elif kind == "no notes":
        notes.unlink()
    elif kind == "no tensors":
        weights.unlink()


@pytest.mark.parametrize(
    "kind", ["one bit", "cut off", "empty", "torn notes", "notes of nothing", "no notes", "no tensors"]
)
def test_damage_is_noticed_and_an_older_whole_one_found(kind, tmp_path):
    for step in (2, 10):
        checkpoint.save_checkpoint(tmp_path / f"step-{step:08d}", tensors(), {"step": step})
    newest = tmp_path / "step-00000010"
    assert checkpoint.latest_checkpoint(tmp_path) == newest
    damage(newest, kind)
    with pytest.raises(ValueError, match=r"^expected .*step-00000010.*, got "):
        checkpoint.load_checkpoint(newest)
    assert checkpoint.latest_checkpoint(tmp_path) == tmp_path / "step-00000002"


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_crash_while_writing_leaves_no_half(call, tmp_path, monkeypatch):
    """The n-th call fails, for every n: what is found afterwards is the old checkpoint, or the new one, whole."""
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        checkpoint.save_checkpoint(folder / "step-00000001", tensors(), {"step": 1})
        calls = iter(range(100))
        owner = os if call == "fsync" else type(folder)
        original = getattr(owner, call)

        def fails(*args, number=number, calls=calls, original=original):
            if next(calls) == number:
                raise OSError("no space left on device")
            return original(*args)

        with monkeypatch.context() as patch:
            patch.setattr(owner, call, fails)
            try:
                checkpoint.save_checkpoint(folder / "step-00000002", tensors(), {"step": 2})
            except OSError:
                assert number < 2
            else:
                assert number >= 2
        found = checkpoint.latest_checkpoint(folder)
        assert found.name == ("step-00000002" if number >= 2 else "step-00000001")
        assert checkpoint.load_checkpoint(found)[1]["step"] == int(found.name[-1])
        assert not list(folder.glob("*.tmp"))


def test_text_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "curves.csv"
    write_atomically(path, "old\n")
    assert path.stat().st_mode & 0o777 == 0o644
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            write_atomically(path, "new\n")
    assert path.read_text() == "old\n" and list(tmp_path.iterdir()) == [path]
    write_atomically(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"


def test_only_its_own_names_count(tmp_path):
    assert checkpoint.latest_checkpoint(tmp_path) is None
    (tmp_path / "notes.json").write_text(json.dumps({}))
    (tmp_path / "step-00000009.safetensors").write_bytes(b"orphan")
    assert checkpoint.latest_checkpoint(tmp_path) is None
    checkpoint.save_checkpoint(tmp_path / "step-00000001", tensors(), {})
    checkpoint.remove_checkpoint(tmp_path / "step-00000001")
    assert checkpoint.latest_checkpoint(tmp_path) is None and not (tmp_path / "step-00000001.safetensors").exists()
