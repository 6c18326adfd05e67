"""A configuration survives its record, and every option of it arrives where it should."""

from __future__ import annotations

import dataclasses
import inspect
import json
import textwrap
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import mamlkit
from mamlkit.algorithms import ALGORITHMS
from mamlkit.configuration import (
    Configuration,
    LearnerOptions,
    NetworkOptions,
    OptimiserOptions,
    TaskOptions,
    parameter_count,
)
from mamlkit.data.sources import SOURCES, options_of, sources_with
from mamlkit.runs import image_shape
from mamlkit.training import TrainingOptions

IMAGE = (1, 16, 16)


def learner_for(**options):
    network = NetworkOptions(filters=4, dropout=options.pop("dropout", 0.0))
    return Configuration(network=network, learner=LearnerOptions(**options)).build_learner(IMAGE)


def test_round_trip_through_json():
    configuration = Configuration(
        TaskOptions(data="folder", root=Path("some/where"), ways=7, colour=True, fractions=(0.5, 0.25, 0.25)),
        NetworkOptions(filters=3, dropout=0.25),
        LearnerOptions(learner="anil", inner_lr=0.3, bfloat16=True),
        TrainingOptions(epochs=2, clip_norm=1.5, patience=3, seed=9),
        "cpu",
    )
    for case in (configuration, Configuration()):
        assert Configuration.from_json(json.loads(json.dumps(case.to_json()))) == case


@pytest.mark.parametrize("change", ["missing part", "missing option", "unknown option", "bad value"])
def test_a_record_that_does_not_fit_is_refused(change):
    values = Configuration().to_json()
    if change == "missing part":
        del values["learner"]
    elif change == "missing option":
        del values["tasks"]["root"]
    elif change == "unknown option":
        values["network"]["depth"] = 5
    else:
        values["training"]["epochs"] = "many"
    with pytest.raises(ValueError, match=r"^expected a recorded configuration, got one that does not fit"):
        Configuration.from_json(values)


def test_an_algorithm_gets_the_options_that_its_signature_names(monkeypatch):
    """Under a name that the command line offered when mamlkit was imported; a line of one's own adds another."""

    def biases(model, *, inner_steps, inner_lr, loss, first_order_epochs, **switches):
        names = [name for name, _ in model.named_parameters() if name.endswith("bias")]
        return mamlkit.Learner(
            model,
            loss=loss,
            inner_steps=inner_steps,
            step_sizes=mamlkit.FixedStepSize(names, inner_lr),
            first_order_epochs=first_order_epochs,
            **switches,
        )

    monkeypatch.setitem(ALGORITHMS, "anil", biases)
    learner = learner_for(learner="anil", inner_steps=2, first_order_epochs=3, bfloat16=True)
    assert all(name.endswith("bias") for name in learner.step_sizes(0)) and learner.first_order_epochs == 3
    system = mamlkit.ModelAgnosticMetaLearning(mamlkit.mlp(), algorithm="anil", first_order_epochs=0)
    assert list(system.alpha) == ["0.bias", "2.bias", "4.bias"]


def test_every_learner_by_name(same_rng):
    orders = {"maml": 2, "fomaml": 1, "reptile": 0, "anil": 2, "meta-sgd": 2, "imaml": 2, "maml++": 2}
    assert orders.keys() == ALGORITHMS.keys()
    for name, order in orders.items():
        learner = learner_for(learner=name, inner_steps=3, inner_lr=0.07)
        assert learner.order == order and learner.inner_steps == 3
        rates = learner.step_sizes(0)
        assert all(torch.as_tensor(rate).detach().flatten()[0].item() == pytest.approx(0.07) for rate in rates.values())
    assert set(learner_for(learner="anil").step_sizes(0)) == {"14.weight", "14.bias"}
    assert learner_for(learner="meta-sgd").step_sizes.per == "parameter"


def test_every_switch_of_maml_plus_plus_arrives():
    default = learner_for()
    assert isinstance(default.outer_loss, mamlkit.AnnealedMultiStep) and default.outer_loss.epochs == 10
    assert default.step_sizes.per == "tensor_and_step" and default.is_transductive
    assert isinstance(learner_for(multi_step_loss="final").outer_loss, mamlkit.FinalStep)
    assert isinstance(learner_for(multi_step_loss="uniform").outer_loss, mamlkit.MultiStep)
    assert learner_for(annealing_epochs=3).outer_loss.epochs == 3
    assert isinstance(learner_for(step_sizes="fixed").step_sizes, mamlkit.FixedStepSize)
    assert learner_for(per_step_weights=False).batch_norm is None
    assert not learner_for(per_step_statistics=True).is_transductive
    assert learner_for(first_order_epochs=2).current_order == 1
    assert (
        learner_for(bfloat16=True)._support_train.autocast == torch.bfloat16 and default._support_train.autocast is None
    )
    assert learner_for(dropout=0.3).dropout and not default.dropout
    assert sum(isinstance(m, nn.Dropout) and m.p == 0.3 for m in learner_for(dropout=0.3).model.modules()) == 4


def test_weights_follow_from_the_seed(same_rng):
    first, same, other = (
        Configuration(training=TrainingOptions(seed=seed)).build_learner(None).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert not torch.equal(first["model.0.weight"], other["model.0.weight"])


def test_parameter_count():
    learner = Configuration(learner=LearnerOptions(inner_steps=2)).build_learner(None)
    theta = 1 * 40 + 40 + 40 * 40 + 40 + 40 + 1
    assert parameter_count(learner) == (theta, theta + 6 * 2)  # a rate for each of 6 tensors and 2 steps


def test_tasks_by_name():
    options = TaskOptions(data="sinusoids", shots=4, queries=3, test_queries=9)
    for split, queries in (("train", 3), ("validation", 9), ("test", 9)):
        tasks = Configuration(dataclasses.replace(options)).build_tasks(split)
        assert (tasks.shots, tasks.queries) == (4, queries)
    with pytest.raises(ValueError, match="expected a root folder"):
        Configuration(TaskOptions(data="folder")).build_tasks("train")
    with pytest.raises(ValueError, match="expected a device that torch can compute on here, got 'toaster'"):
        Configuration(device="toaster").build_learner(None)


def test_a_source_gets_the_options_that_its_signature_names(monkeypatch):
    """Under a name that the command line offered when mamlkit was imported; a line of one's own adds another."""

    def blots(split, *, ways, shots, queries, image_size):
        images = torch.zeros(ways, shots + queries, 1, image_size, image_size, dtype=torch.uint8)
        return mamlkit.ImageTasks(images, ways=ways, shots=shots, queries=queries)

    monkeypatch.setitem(SOURCES, "glyphs", blots)
    chosen = Configuration(TaskOptions(ways=3, image_size=16, queries=2, test_queries=4))
    chosen.expect_used()
    assert chosen.build_tasks("train").queries == 2
    assert (test := chosen.build_tasks("test")).queries == 4 and image_shape(test) == IMAGE
    with pytest.raises(ValueError, match="expected --rotations only with --data omniglot or folder, where"):
        Configuration(TaskOptions(rotations=True)).expect_used()
    assert sources_with("image_size") == ["glyphs", "folder"]


def test_the_docstring_names_every_default_that_python_has_otherwise():
    sources = (mamlkit.glyphs, mamlkit.image_folder, mamlkit.omniglot, mamlkit.Sinusoids)
    learners = sorted(ALGORITHMS.values(), key=lambda make: make.__name__)
    rows = [["option", "command line", "Python"]]
    for part, functions in ((TaskOptions, sources), (NetworkOptions, (mamlkit.conv4,)), (LearnerOptions, learners)):
        for item in dataclasses.fields(part):
            others = {}
            for function in functions:
                own = inspect.signature(function).parameters.get(item.name)
                if own is not None and own.default not in (inspect.Parameter.empty, item.default):
                    others.setdefault(own.default, []).append(function.__name__)
            if others:
                python = "; ".join(f"{default!r} in {', '.join(names)}" for default, names in others.items())
                rows.append([item.name, repr(item.default), python])
    table = "\n".join(f"{option:13}{command:14}{python}" for option, command, python in rows)
    assert textwrap.indent(table, "    ") in mamlkit.configuration.__doc__


def test_every_option_of_tasks_has_a_source():
    options = {item.name for item in dataclasses.fields(TaskOptions)}
    assert options - {"data", "test_queries"} == set().union(*map(options_of, SOURCES)) & options
    assert all(options_of(name) >= {"split", "shots", "queries"} for name in SOURCES)


def test_optimiser_and_schedule_by_name():
    options = OptimiserOptions(
        "AdamW", ("betas=(0.8, 0.9)", "amsgrad=True"), 1e-4, 0.0, "MultiStepLR", ("milestones=[2,5]", "gamma=0.5")
    )
    chosen = Configuration(
        learner=LearnerOptions(inner_steps=2), training=TrainingOptions(outer_lr=0.01), optimiser=options
    )
    assert Configuration.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen
    learner = chosen.build_learner(None)
    optimiser, schedule = chosen.build_optimiser(learner)
    weights, rates = optimiser.param_groups
    assert type(optimiser) is torch.optim.AdamW and weights["betas"] == (0.8, 0.9) and weights["amsgrad"] is True
    assert (weights["lr"], rates["lr"], weights["weight_decay"], rates["weight_decay"]) == (0.01, 1e-4, 0.01, 0.0)
    assert {id(p) for p in rates["params"]} == {id(p) for p in learner.step_sizes.parameters()}
    assert {id(p) for p in weights["params"]} == {id(p) for p in learner.model.parameters()}
    assert type(schedule) is torch.optim.lr_scheduler.MultiStepLR and schedule.gamma == 0.5
    assert Configuration().build_optimiser(learner) == (None, None)


def test_fractions_decide_how_the_classes_of_a_folder_are_split(tmp_path):
    for number in range(8):
        for image in range(2):
            file = tmp_path / str(number) / f"{image}.png"
            file.parent.mkdir(exist_ok=True)
            Image.new("L", (16, 16), number).save(file)
    options = TaskOptions(data="folder", root=tmp_path, ways=2, fractions=(0.5, 0.25, 0.25))
    chosen = Configuration(options)
    chosen.expect_used()
    assert [len(chosen.build_tasks(split).classes) for split in ("train", "validation", "test")] == [4, 2, 2]


def test_a_record_of_before_has_no_optimiser_and_no_fractions():
    values = Configuration().to_json()
    del values["optimiser"], values["tasks"]["fractions"]
    assert Configuration.from_json(values) == Configuration()
