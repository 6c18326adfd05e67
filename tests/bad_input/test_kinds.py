"""Kinds of mistakes, over everything that is public: one line that begins with "expected" and says what came.

Each kind once: an object of another kind, a text for a switch, a number for a list, shapes that do not fit, parts of one's own
that give something odd, things that would do nothing, and records that are whole but of something else.
"""

from __future__ import annotations

import json
import math
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from test_command_line import SMALL, call
from torch import nn
from torch.nn import functional as F

import mamlkit as m
from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.runs import image_shape

X, Q = torch.randn((2, 3, 5, 6), generator=torch.Generator().manual_seed(0))
Y = torch.arange(15).view(3, 5) % 4
TASKS = m.TaskBatch(X, Y, Q, Y)
SINUSOIDS = m.Sinusoids(3, 3)
OPTIONS = m.TrainingOptions(epochs=1, steps_per_epoch=2, meta_batch=2, validation_tasks=2)
IMAGES = torch.zeros(6, 4, 1, 3, 3, dtype=torch.uint8)
ARRAYS = np.zeros((24, 3, 3), np.uint8)


def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 4))


def with_batch_norm():
    return nn.Sequential(net(), nn.BatchNorm1d(4))


def learner(**keywords):
    return m.maml(net(), inner_steps=1, **keywords)


def regressor():
    return m.maml(m.mlp((1, 4, 1), seed=0), loss=F.mse_loss, inner_steps=1)


def composed(**keywords):
    parts = {"loss": F.cross_entropy, "inner_steps": 2, "step_sizes": m.FixedStepSize(["0.weight"], 0.1)}
    return m.Learner(net(), **parts | keywords).meta_backward(TASKS)


def system(**keywords):
    return m.ModelAgnosticMetaLearning(net(), inner_steps=1, **keywords)


def adapt(**keywords):
    given = {"loss": F.cross_entropy, "steps": 1, "step_sizes": 0.1} | keywords
    return m.adapt(net(), given.pop("x", X[0]), given.pop("y", Y[0]), **given)


def fit(of=None, tasks=SINUSOIDS, **keywords):
    return m.fit(of or regressor(), tasks, **{"options": OPTIONS} | keywords)


class Rates(m.StepSizes):
    def __init__(self, rates):
        super().__init__()
        self.rates = rates

    def forward(self, step):
        return self.rates


class Weights:
    def __init__(self, given):
        self.given = given

    def weights(self, steps, epoch):
        return self.given


class Draws:
    def __init__(self, given):
        self.given = given

    def sample(self, num_tasks, generator):
        return self.given(num_tasks, generator)


OTHER_KINDS = {
    "evaluate a module": (lambda: m.evaluate(net(), TASKS), "learner to be of type Learner, got Sequential"),
    "evaluate a facade": (lambda: m.evaluate(system(), TASKS), ": pass its learner"),
    "an ensemble that is one": (lambda: m.evaluate_ensemble(learner(), TASKS), "at least one learner in a list"),
    "an ensemble with None": (lambda: m.evaluate_ensemble([None], TASKS), "got NoneType None"),
    "fit a module": (lambda: fit(net()), "got Sequential; maml(model), for instance, makes one"),
    "fit a facade": (lambda: fit(system()), ": pass its learner"),
    "no tasks": (lambda: fit(tasks=None), "expected tasks with sample(num_tasks, generator), as Sinusoids() has it, got NoneType"),
    "a batch for tasks": (lambda: fit(tasks=TASKS), "expected tasks with sample("),
    "a stream for tasks": (lambda: fit(tasks=m.TaskStream(SINUSOIDS, 2)), "got TaskStream"),
    "a class for tasks": (lambda: fit(tasks=m.Sinusoids), "got type"),
    "validation on a batch": (lambda: fit(validation=TASKS), "expected tasks with sample("),
    "options as a dict": (lambda: fit(options={}), "options to be of type TrainingOptions, got dict {}"),
    "the class of options": (lambda: fit(options=m.TrainingOptions), "of type TrainingOptions, got type"),
    "a folder as a number": (lambda: fit(folder=5), "folder to be of type str or Path, got int 5"),
    "the facade is a learner": (lambda: m.train_maml(learner(), [TASKS], 1), "system to be of type ModelAgnosticMetaLearning"),
    "evaluate_maml of a learner": (lambda: m.evaluate_maml(learner(), TASKS), "take fit and evaluate"),
    "one batch for batches": (lambda: m.train_maml(system(), TASKS, 1), "got one TaskBatch"),
    "a number for batches": (lambda: m.train_maml(system(), 5, 1), "batches to be of type Iterable, got int 5"),
    "three parts a batch": (lambda: m.train_maml(system(), [TASKS[:3]], 1), "expected meta-batches as TaskBatch"),
    "a text as outer loss": (lambda: composed(outer_loss="final"), "outer_loss to be of type OuterLoss, got str 'final'"),
    "a class as outer loss": (lambda: composed(outer_loss=m.FinalStep), "of type OuterLoss, got type"),
    "True as batch norm": (lambda: composed(batch_norm=True), "batch_norm to be of type PerStepBatchNorm"),
    "batch norm of another model": (
        lambda: composed(batch_norm=m.PerStepBatchNorm(with_batch_norm(), 2, weights=True, statistics=True)), "got '1.bias'"),
    "no module for batch norm": (lambda: m.PerStepBatchNorm(None, 2, weights=True, statistics=True), "model to be of type Module"),
    "parameters of None": (lambda: m.parameters_of(None), "model to be a torch.nn.Module, got NoneType"),
    "prefetched tasks": (lambda: m.prefetched([TASKS]), "stream to be of type TaskStream, got list"),
    "a run's tasks that are neither": (lambda: image_shape(m.TaskList([TASKS])), "tasks of a run to be of type ImageTasks, got TaskList"),
    "a number of select": (lambda: TASKS.select(0), "tasks to be of type slice, got int 0"),
    "a generator that is None": (lambda: SINUSOIDS.sample(2, None), "generator to be of type Generator, got NoneType"),
    "a seed for a generator": (lambda: m.ImageTasks(IMAGES, ways=2, queries=1).sample(2, 5), "of type Generator, got int 5"),
    "images of None": (lambda: m.ImageClasses.of(None), "expected images as a tensor or a list of tensors"),
    "names as a number": (lambda: m.ImageClasses.of(IMAGES, 5), "names to be of type list or tuple, got int 5"),
    "lists for a sinusoid": (lambda: m.sinusoid([1], [2], [3]), "x to be of type Tensor, got list [1]"),
    "a checkpoint of None": (lambda: m.load_learner(learner(), None), "checkpoint to be of type str or Path"),
    "a root as a number": (lambda: m.image_folder(5), "root to be of type str or PathLike, got int 5"),
    "Omniglot at a number": (lambda: m.omniglot(root=5), "root to be of type str or PathLike, got int 5"),
    "a fraction for fractions": (lambda: m.image_arrays(ARRAYS, np.arange(24) % 6, fractions=0.5), "of type list or tuple"),
    "a figure of numbers": (lambda: m.plots.plot_adaptation({"MAML": 3}), "each result to be of type Evaluation, got int 3"),
    "sizes as a number": (lambda: m.mlp(5), "expected sizes as a list of whole numbers, got int 5"),
    "a weight for weights": (lambda: m.MultiStep(1), "expected one weight, a number, for each inner step, got int 1"),
    "texts for weights": (lambda: m.MultiStep("ab"), "for each inner step, got str 'ab'"),
    "a name for names": (lambda: m.FixedStepSize("0.weight", 0.1), "expected the names of parameters, got str '0.weight'"),
    "step sizes of a list": (lambda: m.LearnedStepSizes([X], 0.1, "tensor", 1), "parameters to be of type Mapping, got list"),
    "a text as outputs": (lambda: learner().predict(X[0].numpy()), "inputs to be a tensor, got ndarray"),
    "autocast as a text": (lambda: learner(autocast="bfloat16"), "torch.bfloat16 or torch.float16, got str 'bfloat16'"),
    "autocast to integers": (lambda: learner(autocast=torch.int64), "torch.float16, got dtype torch.int64"),
    "a loss of one argument": (lambda: adapt(loss=lambda outputs: outputs.mean()), "function of outputs and targets, got function"),
    "a metric of one argument": (lambda: m.evaluate(learner(), TASKS, metric=lambda o: 1.0), "metric to be a function of outputs"),
}  # fmt: skip

NO_SWITCHES = {
    "dropout": lambda no: learner(dropout=no),
    "keep_statistics": lambda no: learner(keep_statistics=no),
    "per_step_weights": lambda no: m.maml_plus_plus(with_batch_norm(), per_step_weights=no),
    "per_step_statistics": lambda no: m.maml_plus_plus(with_batch_norm(), per_step_statistics=no),
    "weights": lambda no: m.PerStepBatchNorm(with_batch_norm(), 2, weights=no, statistics=True),
    "plus_plus": lambda no: system(plus_plus=no),
    "mixed_precision": lambda no: system(mixed_precision=no),
    "cosine": lambda no: m.TrainingOptions(cosine=no),
    "resume": lambda no: fit(resume=no),
    "progress": lambda no: fit(progress=no),
    "rotations": lambda no: m.ImageTasks(IMAGES, ways=2, queries=1, rotations=no),
    "colour": lambda no: m.image_folder(".", colour=no),
    "invert": lambda no: m.image_arrays(ARRAYS, np.arange(24) % 6, "all", ways=2, queries=1, invert=no),
    "download": lambda no: m.omniglot(root=".", download=no),
}

SEEDS = {
    "learner": lambda seed: learner(seed=seed),
    "stream": lambda seed: m.TaskStream(SINUSOIDS, 2, seed=seed),
    "mlp": lambda seed: m.mlp(seed=seed),
    "conv4": lambda seed: m.conv4(5, seed=seed),
    "options": lambda seed: m.TrainingOptions(seed=seed),
    "split": lambda seed: m.image_arrays(ARRAYS, np.arange(24) % 6, ways=2, queries=1, seed=seed),
}

DO_NOT_FIT = {
    "inputs of another width": (lambda: adapt(x=X[0, :, :3]), "got support inputs (5, 3) of torch.float32"),
    "inputs without points": (lambda: learner().predict(torch.tensor(1.0)), "got inputs () of torch.float32"),
    "a regression on another width": (
        lambda: m.maml(net(), loss=F.mse_loss, inner_steps=1).meta_backward(m.TaskBatch(X[..., :3], Y, Q[..., :3], Y)),
        "tasks with support_x (3, 5, 3) of torch.float32, tasks with support_y (3, 5) of torch.int64"),
    "a batch of another width": (
        lambda: learner().meta_backward(TASKS._replace(support_x=X[..., :3], query_x=Q[..., :3])), "take, got inputs (5, 3) of torch.float32"),
    "evaluated, another width": (
        lambda: m.evaluate(learner(), TASKS._replace(support_x=X[..., :3], query_x=Q[..., :3])), "take, got inputs (5, 3) of torch.float32"),
    "fit on others": (lambda: fit(learner()), "take, got inputs (3, 1) of torch.float32"),
    "parameters of another shape": (
        lambda: adapt(parameters={"0.weight": torch.ones(2, 2)}), "of the model's shape (4, 6) of torch.float32, got (2, 2)"),
    "parameters of another type": (
        lambda: learner().predict(X[0], {"0.weight": torch.ones(4, 6).double()}), "got (4, 6) of torch.float64"),
    "parameters as numbers": (lambda: adapt(parameters={"0.weight": 1.0}), "parameter '0.weight' to be a tensor, got float 1.0"),
    "no parameters": (lambda: adapt(parameters={}), "parameters by name, such as 0.weight, 0.bias, got none"),
    "predict on float64": (lambda: learner().predict(X[0].double()), "expected inputs of the model's type torch.float32"),
    "a step before the first": (lambda: learner().predict(X[0], step=-5), "expected step >= 0, got -5"),
    "a task before the first": (lambda: learner().meta_backward(TASKS, first_task=-1), "expected first_task >= 0, got -1"),
    "a batch before the first": (lambda: m.TaskStream(SINUSOIDS, 2).batch(-1), "expected number >= 0, got -1"),
    "half a batch": (lambda: m.TaskStream(SINUSOIDS, 2).batch(0.5), "number to be a whole number, got float 0.5"),
    "a step beyond the last": (lambda: m.evaluate(learner(), TASKS).loss(9), "an inner step from 0 to 1, got 9"),
    "a share as a text": (lambda: m.evaluate(learner(), TASKS).share_above("80 %"), "fraction from 0 to 1, got '80 %'"),
    "complex values": (lambda: m.interval(torch.ones(3) * 1j), "expected real values, got torch.complex64"),
    "a complex loss": (lambda: adapt(loss=lambda o, y: F.cross_entropy(o, y) + 1j), "to give a real number, got torch.complex64"),
    "a class beyond the last": (lambda: m.ImageClasses.of(IMAGES).select([99]), "number of a class from 0 to 5, got 99"),
    "a name beyond the last": (lambda: m.ImageTasks(IMAGES, ways=2, queries=1).class_name(6), "from 0 to 5, got 6"),
    "labels of no order": (lambda: m.image_arrays(ARRAYS, [None, 1] * 12), "labels that are numbers or strings, got list of object"),
    "labels of two lengths": (lambda: m.image_arrays(ARRAYS, [[1], [1, 2]] * 12), "expected one label per image"),
    "labels that are not numbers": (lambda: m.image_arrays(ARRAYS, np.full(24, np.nan)), "labels that are numbers or strings"),
    "lists of other lengths": (lambda: m.TaskList.of([X[0]], [Y[0]] * 2, [Q[0]], [Y[0]]), "as many tasks in each list, got 1, 2, 1, 1"),
    "learners with other outputs": (
        lambda: m.evaluate_ensemble([learner(), m.maml(m.mlp((6, 3), seed=0), inner_steps=1)], TASKS.select(slice(1))._replace(
            query_y=Y[:1] % 3, support_y=Y[:1] % 3)), "outputs of one shape, got (2, 1, 5, 3), (2, 1, 5, 4)"),
    "whole numbers as parameters": (
        lambda: m.LearnedStepSizes({"a": Y}, 0.1, "tensor", 1), "parameters of floating point, got 'a' of torch.int64"),
    "a text as dropout": (lambda: m.conv4(5, dropout="a"), "expected 0 <= dropout < 1, got 'a'"),
    "an unknown switch": (lambda: system(per_step_weights=True), "got 'per_step_weights'"),
}  # fmt: skip

OWN_PARTS = {
    "no rates": (lambda: composed(step_sizes=Rates({})), "by parameter name, at least one, got dict {}"),
    "rates as a number": (lambda: composed(step_sizes=Rates(0.1)), "got float 0.1"),
    "rates of what stays": (lambda: composed(adapted=["0.bias"]), "a step size of what is adapted, such as '0.bias', got '0.weight'"),
    "a rate as a text": (lambda: composed(step_sizes=Rates({"0.weight": "a"})), "finite number as step size of '0.weight', got str 'a'"),
    "a rate that is none": (lambda: composed(step_sizes=Rates({"0.weight": math.nan})), "got float nan"),
    "a rate of another shape": (lambda: composed(step_sizes=Rates({"0.weight": torch.ones(3)})), "shape () or (4, 6) for '0.weight', got (3,)"),
    "rates of adapt": (lambda: adapt(step_sizes=Rates({})), "at least one, got dict {}"),
    "weights as a list": (lambda: composed(outer_loss=Weights([1.0])), "weights of the query losses to be of type Tensor"),
    "too many weights": (lambda: composed(outer_loss=Weights(torch.ones(3))), "expected 2 finite weights"),
    "no weight": (lambda: composed(outer_loss=Weights(torch.zeros(2))), "not all 0, one per step, got [0.0, 0.0]"),
    "weights that are none": (lambda: composed(outer_loss=Weights(torch.full((2,), math.nan))), "got [nan, nan]"),
    "tasks that are none": (lambda: fit(tasks=Draws(lambda n, g: None)), "what sample() gives to be of type TaskBatch or TaskList"),
    "tasks as a tuple": (lambda: fit(tasks=Draws(lambda n, g: tuple(SINUSOIDS.sample(n, g)))), "TaskList, got tuple"),
    "too few tasks": (lambda: fit(tasks=Draws(lambda n, g: SINUSOIDS.sample(1, g))), "sample(2, ...) to give that many tasks, got 1"),
}  # fmt: skip

NOTHING = {
    "metric": (lambda: fit(metric=lambda o, y: 1.0), "expected validation tasks for metric, which looks at them, got none"),
    "patience": (lambda: fit(options=m.TrainingOptions(patience=1)), "expected validation tasks for patience"),
    "rows of nothing": (
        lambda: m.PerStepBatchNorm(with_batch_norm(), 2, weights=False, statistics=False), "weights or statistics, or both"),
    "no folder": (lambda: fit(folder=""), "expected the name of a folder, got an empty string"),
    "nobody's folder": (lambda: fit(folder="~nosuchuser/x"), "a folder of a user that exists, got ~nosuchuser/x"),
}  # fmt: skip

ALL = {**OTHER_KINDS, **DO_NOT_FIT, **OWN_PARTS, **NOTHING}


def refused(call, message=""):
    state = torch.random.get_rng_state()
    with pytest.raises((TypeError, ValueError, RuntimeError, OSError)) as error:
        call()
    text = str(error.value)
    assert text.startswith("expected ") and "got" in text and "\n" not in text and len(text) < 400 and message in text
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ALL)
def test_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(*ALL[name])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("no", ["no", 0, None], ids=str)
@pytest.mark.parametrize("name", NO_SWITCHES)
def test_switches_are_true_or_false(name, no, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(lambda: NO_SWITCHES[name](no), f"expected {name} to be True or False, got")


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", True], ids=str)
@pytest.mark.parametrize("name", SEEDS)
def test_seeds(name, seed):
    refused(lambda: SEEDS[name](seed), "expected seed ")


def test_what_looks_odd_and_is_right():
    assert math.isnan(learner().meta_backward(TASKS._replace(query_x=X * math.nan)).item())  # a number that says so
    soft = TASKS._replace(support_y=F.one_hot(Y, 4).float(), query_y=F.one_hot(Y, 4).float())
    assert learner().meta_backward(soft).item() == pytest.approx(learner().meta_backward(TASKS).item(), rel=1e-5)
    assert m.interval(torch.tensor([1, 3])).mean == 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds") / "RUN"
    assert call(["train", "--out", str(folder), *SMALL])[0] == 0
    return folder


def put(*path, value=None):
    def change(record):
        for key in path[:-1]:
            record = record[key]
        record[path[-1]] = value

    return change


RECORDS = {
    "no history": lambda record: record.pop("history"),
    "no history but a number": put("history", value=3),
    "a step as a text": put("history", "step", value="4"),
    "rows as a text": put("history", "rows", value="x"),
    "no best": put("history", "best"),
    "a best elsewhere": put("history", "best", value=[[1.0, "../../x"]]),
    "an unknown entry": put("history", "luck", value=1),
    "no options": put("options"),
    "no optimiser": lambda record: record.pop("optimiser"),
    "an optimiser of nothing": put("optimiser", value={"state": {}, "param_groups": []}),
    "moments of another number": put("optimiser_tensors", value=3),
    "no schedule": put("schedule"),
    "an epoch as a text": put("epoch", value="x"),
    "no epoch": lambda record: record.pop("epoch"),
    "threads as a text": put("threads", value="x"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_that_are_whole_and_of_something_else(finished, tmp_path, name):
    run = tmp_path / "RUN"
    shutil.copytree(finished, run)
    for notes in (run / "checkpoints").glob("*.json"):
        tensors, record = load_checkpoint(notes.with_suffix(""))
        del record["sha256"]
        RECORDS[name](record)
        save_checkpoint(notes.with_suffix(""), tensors, record)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    commands = [["train", "--out", str(run), "--resume"]]
    commands += (
        [["evaluate", str(run), "--tasks", "3"]] if "history" in name or "best" in name or "epoch" in name else []
    )
    for command in commands:
        status, _, err = call(command)
        last = err.splitlines()[-1]
        assert status == 1 and last.startswith("mamlkit: expected ") and ", got " in last
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


ODD_VALUES = [("network", "dropout", "x"), ("learner", "inner_lr", None), ("optimiser", "optimiser", 3),
              ("optimiser", "optimiser_settings", [1]), ("optimiser", "schedule", 3), ("device", None)]  # fmt: skip


@pytest.mark.parametrize("path", ODD_VALUES, ids=str)
def test_values_of_a_recorded_run(finished, tmp_path, path):
    run = tmp_path / "RUN"
    shutil.copytree(finished, run)
    record = json.loads((run / "run.json").read_text())
    put("configuration", *path[:-1], value=path[-1])(record)
    (run / "run.json").write_text(json.dumps(record))
    status, _, err = call(["train", "--out", str(run), "--resume"])
    assert status == 1 and err.startswith("mamlkit: expected ") and ", got " in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", ["fly", "info x y", "train --epochs many --out x", "evaluate RUN --split all", ""]
)
def test_the_parser_s_words_say_that_something_else_was_expected(arguments):
    status, _, err = call(arguments.split())
    assert status and err.startswith("mamlkit: expected options as --help lists them, got: ") and err.count("\n") == 1


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/x"])
def test_places_that_cannot_be_written(place):
    status, _, err = call(["train", "--out", place, *SMALL])
    assert status == 1 and err.startswith("mamlkit: expected ") and place in err and err.count("\n") == 1


@pytest.mark.parametrize("kind", ["folder", "pipe", "broken link"])
def test_names_of_pictures_that_are_no_files_are_said(tmp_path, kind):
    for letter in "ab":
        (tmp_path / letter).mkdir()
        for number in range(2):
            Image.new("L", (8, 8)).save(tmp_path / letter / f"{number}.png")
    path = tmp_path / "a" / "x.png"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "broken link": lambda: path.symlink_to("nowhere")}[kind]()
    with pytest.warns(RuntimeWarning, match=r"left out a/x\.png$"):
        assert m.image_folder(tmp_path, "all", ways=2, queries=1).classes.counts.tolist() == [2, 2]
