"""Runs in processes of their own: killed and resumed, shared by two processes, evaluated."""

from __future__ import annotations

import csv
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mamlkit.__main__ import main

MLP = "--data sinusoids --shots 5 --queries 5 --inner-lr 0.01 --inner-steps 2 --meta-batch 4 --validation-tasks 4"
CONV = (
    "--data folder --root images --image-size 16 --ways 3 --shots 1 --queries 2 --test-queries 2 --filters 4 "
    "--inner-lr 0.1 --inner-steps 2 --meta-batch 4 --validation-tasks 4 --downsample pool"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all runs of this file go, with a few images to train on: noisy blots, a class a folder."""
    folder = tmp_path_factory.mktemp("runs")
    generator = torch.Generator().manual_seed(0)
    for number in range(30):
        blot = torch.rand((4, 4), generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)
        place = folder / "images" / f"{number:02d}"
        place.mkdir(parents=True)
        for drawing in range(4):
            image = (blot + 0.3 * torch.randn((16, 16), generator=generator)).clamp(0, 1)
            Image.fromarray((255 * image).to(torch.uint8).numpy()).save(place / f"{drawing}.png")
    return folder


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def start(folder, *command):
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@contextmanager
def two_processes(folder, script):
    """A script in a pair of processes, while what is inside runs here; then what they printed."""
    output = []
    shared = start(folder, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script)
    try:
        yield output
        output.append(shared.communicate(timeout=240)[0])
    finally:
        if shared.poll() is None:
            shared.terminate()
            shared.communicate()
    assert shared.returncode == 0, output


def here(folder, arguments, monkeypatch):
    """The same without a process of its own."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["mamlkit", *arguments.split()])
    main()


def last(folder, run):
    """The tensors of the newest checkpoint of a run."""
    return load_file(max((folder / run / "checkpoints").glob("*.safetensors")))


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.01)


def test_killed_at_a_random_moment_and_resumed_bit_for_bit(folder, monkeypatch):
    options = f"{MLP} --epochs 3 --steps-per-epoch 20 --checkpoint-every 3"
    process = start(folder, "-m", "mamlkit", "train", "--out", "killed", *options.split())
    checkpoints = folder / "killed" / "checkpoints"
    step = 3 * random.SystemRandom().randint(
        1, 16
    )  # another moment each time: after this checkpoint, and a little later
    delay = random.SystemRandom().uniform(0, 0.02)
    try:
        wait_for(lambda: any(file.stem >= f"step-{step:08d}" for file in checkpoints.glob("step-*.json")), process)
        time.sleep(delay)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (checkpoints / "step-00000060.json").exists(), "it was too late"
    here(folder, "train --out killed --resume", monkeypatch)
    here(folder, f"train --out whole {options}", monkeypatch)
    one, other = last(folder, "killed"), last(folder, "whole")
    assert one.keys() == other.keys() and len(one) > 20
    for name, value in one.items():
        assert torch.equal(value, other[name]), f"{name} differs after a kill {delay:.3f} s after step {step}"


def test_two_processes_give_the_parameters_of_one(folder, monkeypatch):
    """Float32 sums in another order: 2e-6 for the small network; the convolutions amplify it a little."""
    runs = {
        "mlp": (f"{MLP} --epochs 2 --steps-per-epoch 6", 2e-6),
        "conv": (f"{CONV} --dropout 0.2 --epochs 2 --steps-per-epoch 3", 1e-3),
    }
    commands = [["train", "--out", f"two-{name}", *options.split()] for name, (options, _) in runs.items()]
    (folder / "both.py").write_text(  # both runs in one pair of processes, which take seconds to start
        "import contextlib, sys\n"
        "import mamlkit.__main__ as command_line\n"
        "with command_line.processes('cpu') as rank:\n"
        "    command_line.processes = lambda device: contextlib.nullcontext(rank)\n"
        f"    for sys.argv[1:] in {commands}:\n"
        "        command_line.main()\n"
    )
    with two_processes(folder, "both.py") as output:
        for name, (options, _) in runs.items():
            here(folder, f"train --out one-{name} {options}", monkeypatch)
    assert output[0].count("outer steps in") == 2  # one process speaks
    for name, (_, tolerance) in runs.items():
        one, two = last(folder, f"one-{name}"), last(folder, f"two-{name}")
        assert one.keys() == two.keys()
        learned = [key for key in one if key.startswith("learner.") and one[key].is_floating_point()]
        for key in learned:
            assert torch.allclose(one[key], two[key], rtol=0, atol=tolerance), (name, key)
        losses = [
            [float(row["meta_loss"]) for row in csv.DictReader((folder / run / "curves.csv").read_text().splitlines())]
            for run in (f"one-{name}", f"two-{name}")
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # Adam would forgive a sum where the mean is meant
        record = json.loads((folder / f"two-{name}" / "run.json").read_text())
        assert record["configuration"] == json.loads((folder / f"one-{name}" / "run.json").read_text())["configuration"]


def test_evaluate_and_info_say_what_is_in_a_run(folder, monkeypatch, capsys):
    here(folder, f"train --out shown {CONV} --epochs 3 --steps-per-epoch 2", monkeypatch)
    trained = capsys.readouterr().out
    assert "6 outer steps in" in trained and "best validation score" in trained
    here(folder, "evaluate shown --tasks 20 --steps 4 --json result.json", monkeypatch)
    table = capsys.readouterr().out
    result = json.loads((folder / "result.json").read_text())
    assert "transductive" in table and "tasks above 50 %" in table and len(table.splitlines()) == 8
    assert len(result["losses"]) == len(result["accuracies"]) == 5 and len(result["accuracies"][0]) == 20
    assert f"{100 * result['accuracy']:.2f} ± {100 * result['accuracy_ci95']:.2f}" in table.splitlines()[-2]
    here(folder, "evaluate shown --tasks 20 --ensemble 3 --json ensemble.json", monkeypatch)
    assert "checkpoints step-" in (out := capsys.readouterr().out) and out.count("step-0") == 3
    here(folder, "evaluate shown --tasks 20 --json again.json", monkeypatch)
    single, ensemble = (json.loads((folder / f"{name}.json").read_text()) for name in ("again", "ensemble"))
    assert single["losses"] != ensemble["losses"]
    assert single["losses"] == result["losses"][:3]  # the same tasks every time
    capsys.readouterr()
    here(folder, "info shown", monkeypatch)
    shown = capsys.readouterr().out
    record = json.loads((folder / "shown" / "run.json").read_text())
    assert json.dumps(record["configuration"], indent=2) in shown
    assert f"newest checkpoint: {max((folder / 'shown' / 'checkpoints').glob('*.json')).stem}" in shown
    tensors = {key: value for key, value in last(folder, "shown").items() if key.startswith("learner.")}
    theta = sum(v.numel() for k, v in tensors.items() if k.startswith("learner.model.") and k[-4:] in ("ight", "bias"))
    assert f"{theta} parameters in theta, " in shown
    assert record["versions"]["torch"] == torch.__version__ and "train --out shown" in record["command"]


STATISTICS = """
import sys
import torch
from torch import nn
from torch.nn import functional as F
import mamlkit
from mamlkit.runs import processes

class Wide(mamlkit.Sinusoids):
    def sample(self, num_tasks, generator):
        return mamlkit.TaskBatch(*(part.double() for part in super().sample(num_tasks, generator)))

def learner(kind):
    torch.manual_seed(0)
    momentum = None if kind == "mean" else 0.3
    first = nn.Linear(1, 4, bias=False)  # batch norm takes a bias off, and Adam would walk on the rounding of its gradient
    model = nn.Sequential(first, nn.BatchNorm1d(4, momentum=momentum), nn.Tanh(), nn.Linear(4, 1)).double()
    if kind == "rows":
        return mamlkit.maml_plus_plus(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.01, per_step_statistics=True)
    sizes = mamlkit.FixedStepSize(mamlkit.parameters_of(model), 0.01)
    return mamlkit.Learner(model, loss=F.mse_loss, inner_steps=2, step_sizes=sizes, query_statistics="running",
                           outer_loss=mamlkit.MultiStep([0.5, 0.5]))

def run(folder):
    options = mamlkit.TrainingOptions(epochs=2, steps_per_epoch=5, meta_batch=4)
    for kind in ("rows", "own", "mean"):
        mamlkit.fit(learner(kind), Wide(5, 5), options=options, folder=f"{folder}-{kind}")

if __name__ == "__main__":
    with processes("cpu"):
        run("statistics-two")
"""


def test_running_statistics_of_two_processes_are_those_of_one(folder, monkeypatch):
    """Of each inner step, the model's own, and the mean of all passes; in float64, so that nothing but the order is left."""
    (folder / "shared_statistics.py").write_text(STATISTICS)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    with two_processes(folder, "shared_statistics.py"), torch.random.fork_rng(devices=[]):
        importlib.import_module("shared_statistics").run("statistics-one")
    for kind in ("rows", "own", "mean"):
        one, two = last(folder, f"statistics-one-{kind}"), last(folder, f"statistics-two-{kind}")
        moved = [key for key in one if "running" in key or "num_batches" in key]
        assert len(moved) == (5 if kind == "rows" else 3)
        for key, value in one.items():
            assert torch.allclose(value, two[key], rtol=1e-9, atol=1e-12), (kind, key)
        assert one["learner.model.1.num_batches_tracked"] == 4 * 10 * 2
