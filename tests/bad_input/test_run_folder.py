"""The folder of a run is guarded: against a second training, bits that flip, files of the user, and options that do nothing."""

from __future__ import annotations

import json
import random
import shutil

import pytest
import torch
from test_command_line import SMALL, call
from torch.nn import functional as F

import mamlkit
from mamlkit.checkpoint import latest_checkpoint, load_checkpoint, locked, save_checkpoint
from mamlkit.configuration import Configuration

TASKS = mamlkit.Sinusoids(3, 3)
OPTIONS = mamlkit.TrainingOptions(epochs=2, steps_per_epoch=2, meta_batch=2, validation_tasks=2)


def learner():
    return mamlkit.maml(mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "RUN"
    assert call(["train", "--out", str(folder), *SMALL])[0] == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "RUN")
    return tmp_path / "RUN"


def test_two_trainings_do_not_share_a_folder(tmp_path):
    class Second(mamlkit.Sinusoids):
        def sample(self, num_tasks, generator):
            with pytest.raises(ValueError, match=r"^expected a folder that no other training writes to, got"):
                mamlkit.fit(learner(), TASKS, options=OPTIONS, folder=tmp_path, resume=True)
            return super().sample(num_tasks, generator)

    mamlkit.fit(learner(), Second(3, 3), options=OPTIONS, folder=tmp_path)
    with locked(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "curves.csv"]


def test_no_bit_of_a_checkpoint_flips_unnoticed(tmp_path):
    mamlkit.fit(learner(), TASKS, options=OPTIONS, folder=tmp_path)
    path = latest_checkpoint(tmp_path / "checkpoints")
    notes = path.with_suffix(".json")
    whole, (_, record) = notes.read_bytes(), load_checkpoint(path)
    draw = random.Random(0)
    for _ in range(400):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        notes.write_bytes(bytes(data))
        try:
            _, again = load_checkpoint(path)
        except ValueError as error:
            assert str(error).startswith("expected ") and "got" in str(error) and "\n" not in str(error)
        else:
            assert again == record  # a space between two values


@pytest.mark.parametrize("moment", ["exp_avg", "exp_avg_sq"])
def test_moments_of_another_shape_are_refused_though_the_checksum_is_right(tmp_path, moment):
    mamlkit.fit(learner(), TASKS, options=OPTIONS, folder=tmp_path)
    path = latest_checkpoint(tmp_path / "checkpoints")
    tensors, record = load_checkpoint(path)
    tensors[f"optimiser.0.{moment}"] = torch.zeros(1)  # would be broadcast
    save_checkpoint(path, tensors, record)
    with pytest.raises(ValueError, match=rf"^expected .* to hold what fit wrote, got .*{moment} of shape \(1,\)"):
        mamlkit.fit(learner(), TASKS, options=OPTIONS, folder=tmp_path, resume=True)


def test_the_last_whole_checkpoint_is_taken(run):
    newest = latest_checkpoint(run / "checkpoints")
    notes = newest.with_suffix(".json")
    notes.write_text(notes.read_text().replace('"step": 4', '"step": 3', 1))
    assert latest_checkpoint(run / "checkpoints") != newest


def test_a_checkpoint_of_before_is_still_read(run):
    newest = latest_checkpoint(run / "checkpoints")
    notes = newest.with_suffix(".json")
    record = json.loads(notes.read_text())
    del record["record_sha256"], record["learner"]
    notes.write_text(json.dumps(record))
    assert latest_checkpoint(run / "checkpoints") == newest


@pytest.mark.parametrize("target", ["run.json", "curves.csv", "checkpoints/step-00000004.json", "../RUN/run.json"])
def test_a_result_does_not_overwrite_the_run(run, target):
    before = (run / target).read_bytes()
    status, _, err = call(["evaluate", str(run), "--tasks", "3", "--json", str(run / target)])
    assert status and err.startswith("mamlkit: expected --json to name a file that is not part of the run, got")
    assert (run / target).read_bytes() == before


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("learner", "learner", "mamll"),
        ("learner", "per_step_weights", "no"),
        ("learner", "inner_steps", 1.5),
        ("learner", "inner_steps", True),
        ("learner", "step_sizes", ["fixed"]),
        ("tasks", "data", "mnist"),
        ("tasks", "rotations", 1),
        ("tasks", "ways", "5"),
        ("network", "activation", None),
    ],
)
def test_values_of_a_recorded_run_that_cannot_be(run, part, name, value):
    record = json.loads((run / "run.json").read_text())
    record["configuration"][part][name] = value
    (run / "run.json").write_text(json.dumps(record))
    status, _, err = call(["evaluate", str(run), "--tasks", "3"])
    assert status and err.startswith(f"mamlkit: expected {name} to be ") and ", got " in err and err.count("\n") == 1


IDLE = {
    "--per-step-statistics": "--learner maml",
    "--step-sizes fixed": "--learner meta-sgd",
    "--multi-step-loss uniform": "--learner fomaml",
    "--first-order-epochs 3": "--learner reptile",
    "--annealing-epochs 3": "--multi-step-loss final",
    "--ways 3": "--data sinusoids",
    "--rotations": "--data sinusoids",
    "--filters 8": "--data sinusoids",
    "--dropout 0.1": "--data sinusoids",
    "--protocol alphabets": "--data glyphs",
    "--image-size 20": "--data glyphs",
    "--colour": "--data glyphs",
    "--root .": "--data glyphs",
    "--final-outer-lr 0.1": "--no-cosine",
}


@pytest.mark.parametrize("option", IDLE)
def test_options_that_would_do_nothing_are_refused(tmp_path, option):
    status, _, err = call(["train", "--out", str(tmp_path / "new"), *option.split(), *IDLE[option].split()])
    assert (
        status
        and err.startswith(f"mamlkit: expected {option.split()[0]} only with ")
        and not (tmp_path / "new").exists()
    )


def test_folders_with_odd_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call(["train", "--out", "~/x", *SMALL])[0] == 0
    assert (tmp_path / "x" / "run.json").is_file()
    for name in ("", "~nosuchuser/x"):
        status, _, err = call(["train", "--out", name, *SMALL])
        assert status and err.startswith("mamlkit: expected ") and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]


def test_out_of_memory_is_one_line(tmp_path, monkeypatch):
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory.\nTried ..."),
                  RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")):  # fmt: skip

        def fails(*_, error=error, **__):
            raise error

        monkeypatch.setattr("mamlkit.__main__.fit", fails)
        status, _, err = call(["train", "--out", str(tmp_path / type(error).__name__), *SMALL])
        assert status and err.startswith("mamlkit: expected enough memory, got: ") and err.count("\n") == 1


def test_fractions_in_a_record_are_numbers():
    values = Configuration().to_json()
    values["tasks"]["fractions"] = ["half", 0.25, 0.25]
    with pytest.raises(ValueError, match=r"^expected fractions to be numbers, got \['half', 0.25, 0.25\]"):
        Configuration.from_json(values)
