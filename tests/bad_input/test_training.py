"""What is wrong around ``fit``: one line that begins with "expected", before any step, and no file."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedules

import mamlkit

TASKS = mamlkit.Sinusoids(3, 3)
OPTIONS = mamlkit.TrainingOptions(epochs=2, steps_per_epoch=2, meta_batch=2, validation_tasks=2)


def make():
    return mamlkit.maml_plus_plus(mamlkit.mlp((1, 4, 1), seed=0), loss=F.mse_loss, inner_steps=2)


def sgd(learner, **keywords):
    return torch.optim.SGD(learner.parameters(), **{"lr": 0.1} | keywords)


def other():
    return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)


class WithState(torch.optim.SGD):
    def __init__(self, learner):
        super().__init__(learner.parameters(), lr=0.1)
        self.param_groups[0]["memory"] = torch.ones(3)


OPTIMISERS = {
    "a word": (lambda _: "adam", "expected optimiser to be a torch.optim.Optimizer, got str 'adam'"),
    "a class": (lambda _: torch.optim.Adam, "expected optimiser to be a torch.optim.Optimizer, got type"),
    "a closure": (lambda m: torch.optim.LBFGS(m.parameters()), "step() needs no closure, got LBFGS"),
    "weights alone": (lambda m: torch.optim.SGD(m.model.parameters(), lr=0.1), "without 'step_sizes._alpha.0/weight' and 3 more"),
    "another model": (lambda _: other(), "without 'model.0.weight' and 7 more"),
    "more than the learner": (
        lambda m: torch.optim.SGD([*m.parameters(), nn.Parameter(torch.ones(1))], lr=0.1), "1 tensors of something else"
    ),
    "a rate as a tensor": (lambda m: torch.optim.Adam(m.parameters(), lr=torch.tensor(0.1)), "got a tensor of shape () for 'lr'"),
    "a setting as a tensor": (WithState, "got a tensor of shape (3,) for 'memory'"),
}  # fmt: skip
SCHEDULES = {
    "a word": (lambda _: "cosine", "LRScheduler, got str 'cosine'"),
    "of another": (lambda _: schedules.StepLR(other(), 3), "got StepLR of another one"),
    "too short": (lambda o: schedules.OneCycleLR(o, 0.1, total_steps=3), "for 4 outer steps, got OneCycleLR with total_steps=3"),
    "no validation": (lambda o: schedules.ReduceLROnPlateau(o), "expected validation tasks for ReduceLROnPlateau"),
}  # fmt: skip


def refused(message, folder, learner, **keywords):
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    with pytest.raises((TypeError, ValueError)) as error:
        mamlkit.fit(learner, TASKS, options=keywords.pop("options", OPTIONS), folder=folder / "new", **keywords)
    text = str(error.value)
    assert text.startswith("expected ") and ", got " in text and "\n" not in text and message in text
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert not list(folder.rglob("*.*"))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(name, tmp_path):
    learner = make()
    refused(OPTIMISERS[name][1], tmp_path, learner, optimiser=OPTIMISERS[name][0](learner))


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name, tmp_path):
    learner = make()
    optimiser = sgd(learner)
    refused(SCHEDULES[name][1], tmp_path, learner, optimiser=optimiser, schedule=SCHEDULES[name][0](optimiser))


def test_a_schedule_without_its_optimiser_and_a_rate_that_nothing_has(tmp_path):
    learner = make()
    refused("got StepLR of another one", tmp_path, learner, schedule=schedules.StepLR(sgd(learner), 3))
    options = mamlkit.TrainingOptions(epochs=2, steps_per_epoch=2, outer_lr=0.3)
    refused("expected outer_lr only without an optimiser", tmp_path, learner, optimiser=sgd(learner), options=options)
