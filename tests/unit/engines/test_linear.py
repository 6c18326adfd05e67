"""Networks of linear layers without vmap: the plain loop's meta-gradient for every such network, and others are left alone."""

from __future__ import annotations

import copy

import plain_loop
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit
from mamlkit.engines import linear
from mamlkit.meta_gradient import AllAtOnce
from mamlkit.task_groups import each_task


def real(*support, out=3, queries=6):
    """Two tasks of inputs ``(points, *support)`` in float64."""
    g = torch.Generator().manual_seed(2)
    shapes = [(5, *support), (5, out), (queries, *support), (queries, out)]
    return tuple(torch.randn(2, *shape, generator=g, dtype=torch.float64) for shape in shapes)


def words():
    """Points that are sequences: linear layers act on the last axis."""
    x, _, query_x, _ = real(7, 4)
    targets = [torch.randn(2, points, 7, 3, generator=torch.Generator().manual_seed(3)).double() for points in (5, 6)]
    return x, targets[0], query_x, targets[1]


def frozen(model, *names):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in names)
    return model


def shared():
    first = nn.Linear(4, 4)
    return nn.Sequential(first, nn.Tanh(), first, nn.Tanh(), nn.Linear(4, 3))


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model[2].weight = model[0].weight
    return model


MODELS = {
    "mlp": lambda: mamlkit.mlp((4, 8, 3)),
    "one layer": lambda: nn.Sequential(nn.Linear(4, 3)),
    "no bias": lambda: nn.Sequential(nn.Linear(4, 8, bias=False), nn.GELU(), nn.Linear(8, 3, bias=False), nn.Sigmoid()),
    "flat": lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ELU(), nn.Identity(), nn.Linear(8, 3)),
    "in place": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)),
    "words": lambda: nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 3)),
    "words, no bias": lambda: nn.Sequential(nn.Linear(4, 8, bias=False), nn.Softplus(), nn.Linear(8, 3, bias=False)),
    "frozen layer": lambda: frozen(mamlkit.mlp((4, 8, 3)), "0.weight", "0.bias"),
    "frozen weights": lambda: frozen(mamlkit.mlp((4, 8, 3)), "0.weight", "2.weight"),
    "frozen bias": lambda: frozen(mamlkit.mlp((4, 8, 3)), "0.bias"),
    "one layer twice": shared,
    "tied weights": tied,
}
TASKS = {"flat": lambda: real(3, 4), "words": words, "words, no bias": words}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss", [F.mse_loss, F.smooth_l1_loss])
def test_equals_the_plain_loop(name, loss):
    torch.manual_seed(0)
    model, tasks = MODELS[name]().double(), TASKS.get(name, lambda: real(4))()
    value, gradient, _ = plain_loop.maml(
        copy.deepcopy(model), tasks, loss, steps=3
    )  # which a layer under two names damages
    learner = mamlkit.maml(model, loss=loss, inner_steps=3, inner_lr=0.1)
    assert type(learner.engine) is linear.LinearAllAtOnce
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*tasks)).item() - value) < 1e-10
    assert plain_loop.off(gradient, model) < 1e-8


@pytest.mark.parametrize("name", ["mlp", "flat", "frozen weights"])
def test_some_tensors_adapted_and_evaluation(name):
    torch.manual_seed(0)
    model, tasks = MODELS[name]().double(), mamlkit.TaskBatch(*TASKS.get(name, lambda: real(4))())
    found = []
    for engine in ("auto", "task_by_task"):
        learner = mamlkit.maml(
            model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, adapted=lambda n: n.endswith("bias"), engine=engine
        )
        model.zero_grad()
        learner.meta_backward(tasks)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([mamlkit.evaluate(learner, tasks).losses, *gradients])
    for fast, plain in zip(*found, strict=True):
        assert torch.allclose(fast, plain, rtol=1e-9, atol=1e-12)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked():
    model = nn.Sequential(nn.Linear(4, 3))
    model[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


OTHERS = {
    "no linear layer": lambda: nn.Sequential(nn.Tanh()),
    "a normalising layer": lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 3)), nn.Tanh()),
    "a class of its own": lambda: nn.Sequential(Doubled(4, 3)),
    "a hook": hooked,
    "flat from another axis": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(4, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout()),
    "a layer alone": lambda: nn.Linear(4, 3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_left_to_other_engines(name):
    assert not linear.knows(OTHERS[name]())


@pytest.mark.parametrize("name", ["a normalising layer", "nested"])
def test_vmap_takes_the_others_and_equals_the_plain_loop(name):
    torch.manual_seed(0)
    model, tasks = OTHERS[name]().double(), real(4)
    value, gradient, _ = plain_loop.maml(model, tasks, F.mse_loss)
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1)
    assert type(learner.engine) is AllAtOnce and learner.engine_name == "all_at_once"
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*tasks)).item() - value) < 1e-10
    assert plain_loop.off(gradient, model) < 1e-8


def test_squared_errors_of_each_task():
    outputs, targets = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0)), torch.ones(3, 5, 2)
    expected = torch.stack([F.mse_loss(out, y) for out, y in zip(outputs, targets, strict=True)])
    assert torch.allclose(each_task(F.mse_loss)(outputs, targets), expected)
    assert torch.allclose(each_task(nn.MSELoss())(outputs, targets), expected)


def test_targets_of_another_shape_are_named():
    x, y, query_x, query_y = real(4, out=1)
    learner = mamlkit.maml(mamlkit.mlp((4, 8, 1)).double(), loss=F.mse_loss)
    with pytest.raises(ValueError, match=r"expected targets of the outputs' shape \(5, 1\), got \(5,\)"):
        learner.meta_backward(mamlkit.TaskBatch(x, y[..., 0], query_x, query_y[..., 0]))
