"""What is typed wrong ends in one line on the error stream, an exit status that is not 0, and nothing written.

The table holds (what is wrong, arguments, what the line must say); ``RUN`` stands for a small finished run.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import sys

import pytest
import torch

from mamlkit.__main__ import main

SMALL = shlex.split(
    "--data sinusoids --shots 3 --queries 3 --epochs 2 --steps-per-epoch 2 --meta-batch 2 --validation-tasks 2"
)
NEW = ["train", "--out", "new", *SMALL]


def call(arguments):
    """Exit status, output and error stream of ``python -m mamlkit``, as the interpreter would report them."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["mamlkit", *arguments])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
            if isinstance(status, str):
                print(status, file=sys.stderr)
                status = 1
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder that holds one finished run, ``RUN``."""
    folder = tmp_path_factory.mktemp("finished")
    status, _, err = call(["train", "--out", str(folder / "RUN"), *SMALL])
    assert status == 0, err
    other = [*SMALL, "--inner-lr", "0.05", "--seed", "3", "--no-cosine"]
    status, _, err = call(["train", "--out", str(folder / "other"), *other])
    assert status == 0, err
    return folder


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A working folder with a copy of that run and a few things that stand in the way."""
    for name in ("RUN", "other"):
        shutil.copytree(finished / name, tmp_path / name)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    damaged = tmp_path / "damaged"
    shutil.copytree(finished / "RUN", damaged)
    for weights in (damaged / "checkpoints").glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    for name, text in (
        ("torn", '{"configuration": {"tas'),
        ("foreign", '{"configuration": {"tasks": {}}}'),
        ("list", "[]"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAMLKIT_DATA", raising=False)
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


BAD_COMMANDS = [
    ("nothing", [], "train, evaluate, info"),
    ("an unknown command", ["fly"], "fly"),
    ("an unknown option", [*NEW, "--fast", "1"], "--fast"),
    ("no folder", ["train", *SMALL], "--out"),
    ("a word for a number", [*NEW, "--epochs", "many"], "--epochs: invalid literal for int() with base 10: 'many'"),
    ("a fraction for a whole number", [*NEW, "--inner-steps", "2.5"], "'2.5'"),
    ("a number missing", [*NEW, "--epochs"], "--epochs"),
    ("epochs 0", [*NEW, "--epochs", "0"], "expected epochs >= 1, got 0"),
    ("no outer steps", [*NEW, "--steps-per-epoch", "0"], "expected steps_per_epoch >= 1, got 0"),
    ("an empty meta-batch", [*NEW, "--meta-batch", "0"], "expected meta_batch >= 1, got 0"),
    ("no rate", [*NEW, "--outer-lr", "0"], "expected outer_lr to be a finite number > 0, got 0.0"),
    ("a rate that is no number", [*NEW, "--inner-lr", "nan"], "inner step size to be a finite number > 0, got nan"),
    ("a negative rate", [*NEW, "--final-outer-lr", "-1"], "final_outer_lr to be a finite number >= 0, got -1.0"),
    ("a norm of 0", [*NEW, "--clip-norm", "0"], "clip_norm to be a finite number > 0, got 0.0"),
    ("no patience", [*NEW, "--patience", "0"], "expected patience >= 1, got 0"),
    ("one validation task", [*NEW, "--validation-tasks", "1"], "expected validation_tasks >= 2, got 1"),
    ("a negative seed", [*NEW, "--seed", "-1"], "expected seed >= 0, got -1"),
    ("a seed too large", [*NEW, "--seed", "9" * 30], "expected seed < 2**63, got 999"),
    ("no inner step", [*NEW, "--inner-steps", "0"], "expected inner_steps >= 1, got 0"),
    ("annealing over 0 epochs", [*NEW, "--annealing-epochs", "0"], "expected epochs >= 1, got 0"),
    ("first order for -1 epochs", [*NEW, "--first-order-epochs", "-1"], "expected first_order_epochs >= 0, got -1"),
    ("an unknown learner", [*NEW, "--learner", "sgd"], "'maml', 'fomaml', 'reptile', 'anil', 'meta-sgd', 'imaml', 'maml++'"),
    ("an unknown loss", [*NEW, "--multi-step-loss", "last"], "'annealed', 'uniform', 'final'"),
    ("unknown step sizes", [*NEW, "--step-sizes", "layer"], "'fixed', 'tensor', 'tensor_and_step', 'parameter'"),
    ("an unknown engine", [*NEW, "--engine", "fast"], "expected engine to be one of 'auto'"),
    ("unknown data", [*NEW, "--data", "mnist"], "'glyphs', 'omniglot', 'folder', 'sinusoids'"),
    ("an unknown device", [*NEW, "--device", "toaster"], "a device that torch can compute on here, got 'toaster'"),
    ("a device without data", [*NEW, "--device", "meta"], "a device that torch can compute on here, got 'meta'"),
    ("no shots", [*NEW, "--shots", "0"], "expected shots >= 1, got 0"),
    ("no queries to validate on", [*NEW, "--test-queries", "0"], "expected queries >= 1, got 0"),
    ("no folder of images", ["train", "--out", "new", "--data", "folder"], "expected a root folder with one folder"),
    ("a folder of images that is not there", ["train", "--out", "new", "--data", "folder", "--root", "nowhere"], "nowhere"),
    ("a folder without images", ["train", "--out", "new", "--data", "folder", "--root", "empty"], "empty"),
    ("a split of no folder", [*NEW, "--fractions", "0.5", "0.2", "0.3"], "--fractions only with --data folder, where it does something"),
    ("Omniglot that is not there", ["train", "--out", "new", "--data", "omniglot", "--root", "empty"], "images_background"),
    ("a run in the way", ["train", "--out", "RUN", *SMALL], "a new or empty folder for --out, got RUN"),
    ("a file in the way", ["train", "--out", "file", *SMALL], "a new or empty folder for --out, got file"),
    ("a file above", ["train", "--out", "file/new", *SMALL], "file"),
    ("nothing to resume", ["train", "--out", "new", "--resume"], "that `python -m mamlkit train` wrote, got new"),
    ("an empty folder to resume", ["train", "--out", "empty", "--resume"], "got empty without run.json"),
    ("another batch on resume", ["train", "--out", "RUN", "--resume", "--meta-batch", "9"], "--meta-batch 2 with --resume, got 9"),
    ("another learner on resume", ["train", "--out", "RUN", "--resume", "--learner", "maml"], "--learner maml++"),
    ("the default learner rate, typed, on resume", ["train", "--out", "other", "--resume", "--inner-lr", "0.1"], "--inner-lr 0.05 with --resume, got 0.1"),
    ("the default seed, typed, on resume", ["train", "--out", "other", "--resume", "--seed", "0"], "--seed 3 with --resume, got 0"),
    ("a switch that is the default on resume", ["train", "--out", "other", "--resume", "--cosine"], "--cosine False with --resume, got True"),
    ("fewer epochs on resume", ["train", "--out", "RUN", "--resume", "--epochs", "1"], "--epochs 2 with --resume, got 1"),
    ("other settings on resume", ["train", "--out", "RUN", "--resume", "--optimiser-settings", "eps=1e-6"], "--optimiser-settings () with"),
    ("an unknown optimiser", [*NEW, "--optimiser", "Lion2"], "expected optimiser to be one of 'ASGD', 'Adadelta'"),
    ("an optimiser that is none", [*NEW, "--optimiser", "Optimizer"], "expected optimiser to be one of"),
    ("an optimiser with a closure", [*NEW, "--optimiser", "LBFGS"], "expected settings that LBFGS of torch takes, got: "),
    ("settings it does not know", [*NEW, "--optimiser-settings", "momentum=1"], "Adam of torch takes, got: Adam.__init__() got an"),
    ("settings that cannot be", [*NEW, "--optimiser", "SGD", "--optimiser-settings", "momentum=-1"], "got: Invalid momentum value: -1"),
    ("settings without a value", [*NEW, "--optimiser-settings", "amsgrad"], "--optimiser-settings as NAME=VALUE, got 'amsgrad'"),
    ("settings without a name", [*NEW, "--schedule", "StepLR", "--schedule-settings", "=3"], "--schedule-settings as NAME=VALUE, got '=3'"),
    ("a schedule that lacks a setting", [*NEW, "--schedule", "StepLR"], "settings that StepLR of torch takes, got: "),
    ("an unknown schedule", [*NEW, "--schedule", "cosine"], "expected schedule to be one of 'ChainedScheduler'"),
    ("a schedule that ends early", [*NEW, "--schedule", "OneCycleLR", "--schedule-settings", "max_lr=1", "total_steps=2"], "for 4 outer steps"),
    ("settings of no schedule", [*NEW, "--schedule-settings", "gamma=1"], "expected --schedule-settings only with --schedule"),
    ("a last rate beside a schedule", [*NEW, "--schedule", "StepLR", "--final-outer-lr", "0.1"], "--final-outer-lr only with --cosine"),
    ("a rate for fixed step sizes", [*NEW, "--learner", "maml", "--step-size-lr", "0.1"], "only where these are learned"),
    ("a decay that it does not know", [*NEW, "--optimiser", "Rprop", "--step-size-decay", "0.1"], "with weight_decay for step sizes, got Rprop"),
    ("no rate for step sizes", [*NEW, "--step-size-lr", "0"], "step_size_lr to be a finite number > 0, got 0.0"),
    ("damaged checkpoints on resume", ["train", "--out", "damaged", "--resume"], "got damaged ones only"),
    ("a torn run.json", ["train", "--out", "torn", "--resume"], "to hold a recorded configuration, got a damaged file"),
    ("a run.json that is a list", ["info", "list"], "to hold a recorded configuration, got a damaged file"),
    ("a run.json of something else", ["evaluate", "foreign"], "expected a recorded configuration"),
    ("a run to evaluate that is not there", ["evaluate", "nowhere"], "got nowhere without run.json"),
    ("no run to evaluate", ["evaluate"], "The folder that `train` wrote"),
    ("damaged checkpoints", ["evaluate", "damaged"], "expected a run with a checkpoint, got damaged"),
    ("one task", ["evaluate", "RUN", "--tasks", "1"], "expected tasks >= 2, got 1"),
    ("no steps", ["evaluate", "RUN", "--tasks", "2", "--steps", "0"], "expected steps >= 1, got 0"),
    ("an unknown split", ["evaluate", "RUN", "--split", "dev"], "'train', 'validation', 'test'"),
    ("no learner", ["evaluate", "RUN", "--ensemble", "0"], "expected ensemble >= 1, got 0"),
    ("more learners than were kept", ["evaluate", "RUN", "--ensemble", "3"], "at most 2 kept checkpoints, got 3"),
    ("another device", ["evaluate", "RUN", "--device", "toaster"], "compute on here, got 'toaster'"),
    ("a folder that is not there", ["evaluate", "RUN", "--json", "no/result.json"], "got no/result.json"),
    ("a folder for a file", ["evaluate", "RUN", "--json", "empty"], "to name a file in a folder that exists, got empty"),
    ("a run to describe that is not there", ["info", "nowhere"], "got nowhere without run.json"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "fragment"), [row[1:] for row in BAD_COMMANDS], ids=[row[0] for row in BAD_COMMANDS]
)
def test_one_line_and_nothing_written(here, arguments, fragment):
    before, state = contents(here), torch.random.get_rng_state()
    status, out, err = call(arguments)
    assert status != 0
    assert out == ""
    assert err.startswith("mamlkit: ") and err.count("\n") == 1 and len(err) < 400
    assert fragment in err
    assert contents(here) == before, "something was written"
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.skipif(torch.cuda.is_available(), reason="only without a GPU")
def test_a_gpu_that_is_not_there(here):
    status, _, err = call([*NEW, "--device", "cuda"])
    assert status == 1 and err.count("\n") == 1 and "got 'cuda'" in err and not (here / "new").exists()


def test_divergence_names_step_seed_and_checkpoint(here):
    """What training found is kept, and the last line says where."""
    status, _, err = call([*NEW, "--inner-lr", "1e30", "--seed", "7"])
    last = err.splitlines()[-1]
    assert status == 1 and "Traceback" not in err
    assert last.startswith("mamlkit: expected a finite meta-loss") and "outer step 1 (seed 7)" in last
    assert "last good checkpoint: none" in last


def test_the_check_on_files_would_notice_a_file(here):
    before = contents(here)
    assert call(NEW)[0] == 0
    assert contents(here) != before


@pytest.mark.parametrize("command", ["train", "evaluate", "info"])
def test_help_names_every_default(command):
    status, out, err = call([command, "--help"])
    assert status == 0 and err == "" and "--help" in out
    if command == "train":
        assert out.count("default:") >= 30 and "(default: maml++)" in out


def test_what_is_typed_again_may_be_the_run_s_own(here):
    arguments = ["--resume", "--inner-lr", "0.05", "--seed", "3", "--no-cosine", "--epochs", "2"]
    before = contents(here)
    status, out, _ = call(["train", "--out", "other", *arguments])
    assert status == 0 and "4 outer steps in" in out and contents(here) == before
    status, out, _ = call(["train", "--out", "other", "--resume", "--epochs", "3"])
    assert status == 0 and "6 outer steps in" in out
    record = json.loads((here / "other" / "run.json").read_text())
    assert record["configuration"]["training"]["epochs"] == 3 and record["threads"] == torch.get_num_threads()
    assert [entry["command"] for entry in record["resumed"]] == [
        "python -m mamlkit train --out other --resume --epochs 3"
    ]
    assert call(["train", "--out", "other", "--resume"])[0] == 0


INTERRUPTED = {
    "a new run": (NEW, "mamlkit.__main__.Configuration.build_tasks", "before anything was written"),
    "its first step": (NEW, "mamlkit.__main__.fit",
                       "python -m mamlkit train --out new --resume starts again: there is no checkpoint yet"),
    "a run that goes on": (["train", "--out", "RUN", "--resume"], "mamlkit.__main__.fit",
                           "python -m mamlkit train --out RUN --resume goes on after step-00000004"),
    "evaluate": (["evaluate", "RUN"], "mamlkit.__main__.evaluate_ensemble", "nothing was written"),
    "evaluate into a file": (["evaluate", "RUN", "--json", "r.json"], "mamlkit.__main__.evaluate_ensemble",
                             "r.json is as it was or whole"),
    "info": (["info"], "mamlkit.__main__.versions", "nothing was written"),
    "the reading of the command line": (["info"], "mamlkit.__main__.tyro.cli", "nothing was done yet"),
}  # fmt: skip


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_command_says_what_is_true_of_it(here, name, monkeypatch):
    arguments, place, message = INTERRUPTED[name]

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    status, _, err = call(arguments)
    assert status == 1 and err == f"mamlkit: interrupted: {message}\n"
