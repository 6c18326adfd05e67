"""Bad input to iMAML, ProtoNet and nearest neighbours: one line that says what was expected, before any work."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit
from mamlkit.directions import Proximal


def tasks_of():
    """Three tasks of images ``(2, 4, 4)``, two of each of three classes."""
    generator = torch.Generator().manual_seed(0)
    sets = [torch.randn(3, n, 2, 4, 4, generator=generator, dtype=torch.float64) for n in (6, 5)]
    support_y = torch.tensor([0, 1, 2, 2, 1, 0]).repeat(3, 1)
    return mamlkit.TaskBatch(sets[0], support_y, sets[1], torch.randint(3, (3, 5), generator=generator))


def embedding():
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 4)).double()


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"regularisation": 0.0}, ValueError, "expected the regularisation"),
        ({"regularisation": -1.0}, ValueError, "expected the regularisation"),
        ({"regularisation": "strong"}, (TypeError, ValueError), "expected the regularisation"),
        ({"conjugate_gradient_steps": -1}, ValueError, "expected conjugate_gradient_steps"),
        ({"conjugate_gradient_steps": 1.5}, (TypeError, ValueError), "expected conjugate_gradient_steps"),
        ({"direction": "momentum"}, TypeError, "expected direction"),
        ({"direction": [3]}, TypeError, "expected direction"),
    ],
)
def test_imaml(keywords, error, words):
    with pytest.raises(error, match=words):
        mamlkit.imaml(mamlkit.mlp(), loss=F.mse_loss, **keywords)


def test_proximal_term():
    with pytest.raises(ValueError, match="expected the strength of the proximal term"):
        Proximal(-1.0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"support_y": lambda y: y.double()}, TypeError, "torch.int64"),
        (
            {"support_y": lambda y: torch.where(y == 1, 0, y)},
            ValueError,
            "every class from 0 to 2, got none of class 1",
        ),
        ({"support_y": lambda y: y - 1}, ValueError, "got -1"),
        ({"query_y": lambda y: y + 3}, ValueError, "class numbers from 0 to 2"),
        ({"support_x": lambda x: x.float()}, TypeError, "support inputs of the model's type"),
    ],
)
def test_tasks_of_a_proto_net(change, error, words):
    tasks, learner = tasks_of(), mamlkit.ProtoNet(embedding())
    tasks = tasks._replace(**{name: function(getattr(tasks, name)) for name, function in change.items()})
    with pytest.raises(error, match=words):
        learner.meta_backward(tasks)
    assert all(p.grad is None for p in learner.parameters())


def test_calls_of_a_proto_net():
    learner, tasks = mamlkit.ProtoNet(embedding()), tasks_of()
    for call in (
        lambda: learner.query_outputs(tasks, 3),
        lambda: learner.adapt(tasks.support_x[0], tasks.support_y[0], 1),
        lambda: mamlkit.evaluate(learner, tasks, steps=2),
    ):
        with pytest.raises(ValueError, match="no inner steps"):
            call()
    with pytest.raises(ValueError, match="expected parameters with prototypes"):
        learner.predict(tasks.query_x[0])
    with pytest.raises(TypeError, match="expected model"):
        mamlkit.ProtoNet("conv4")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"support_y": lambda y: y.double()}, ValueError, "expected class numbers"),
        ({"query_x": lambda x: x[:, :, :1]}, ValueError, "support and query inputs of one shape"),
        ({"support_x": lambda x: (x, x)}, (TypeError, ValueError), "expected"),
    ],
)
def test_neighbours(change, error, words):
    tasks = tasks_of()
    tasks = tasks._replace(**{name: function(getattr(tasks, name)) for name, function in change.items()})
    with pytest.raises(error, match=words):
        mamlkit.nearest_neighbour(tasks)
    with pytest.raises(TypeError, match="expected features to be a function"):
        mamlkit.nearest_neighbour(tasks_of(), features=3)
