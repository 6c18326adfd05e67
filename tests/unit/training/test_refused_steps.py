"""A step that would ruin the parameters is refused, and leaves everything as it was."""

from __future__ import annotations

import copy

import plain_loop
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit


def distances(outputs, targets):
    """Finite, with an infinite slope: the distance of a point from itself."""
    return F.mse_loss(outputs, targets) + (outputs[:, None] - outputs[None]).norm(dim=-1).mean()


@pytest.mark.parametrize("plus_plus", [False, True])
def test_a_finite_loss_with_a_gradient_that_is_not(plus_plus):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)).double()
    switches = {"per_step_statistics": True} if plus_plus else {}
    system = mamlkit.ModelAgnosticMetaLearning(
        model, inner_steps=2, inner_lr=0.1, loss=F.mse_loss, plus_plus=plus_plus, **switches
    )
    system.meta_train_step(*plain_loop.tasks())
    before = copy.deepcopy(system.learner.state_dict())
    system.learner.loss = distances
    with pytest.raises(
        ValueError, match=r"^expected a finite meta-gradient, got nan in .*0\.weight.* meta-loss is "
    ) as raised:
        system.meta_train_step(*plain_loop.tasks(seed=2))
    assert len(str(raised.value)) < 250
    assert all(torch.equal(value, before[key]) for key, value in system.learner.state_dict().items())
    assert all(p.grad is None for p in system.learner.parameters())


def test_fit_puts_running_statistics_back():
    class Bad(mamlkit.Sinusoids):
        def sample(self, num_tasks, generator):
            return mamlkit.TaskBatch(*(1e30 * v for v in super().sample(num_tasks, generator)))

    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    learner = mamlkit.maml_plus_plus(model, loss=F.mse_loss, inner_steps=2, per_step_statistics=True)
    before = copy.deepcopy(learner.state_dict())
    options = mamlkit.TrainingOptions(epochs=1, steps_per_epoch=2, meta_batch=2)
    with pytest.raises(mamlkit.TrainingDiverged):
        mamlkit.fit(learner, Bad(), options=options)
    assert all(torch.equal(value, before[key]) for key, value in learner.state_dict().items())
