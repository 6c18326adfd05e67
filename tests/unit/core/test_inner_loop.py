"""Adaptation: K steps of gradient descent that change nothing but what they return."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import mamlkit


def one_task(problem):
    support_x, support_y, query_x, query_y = (part[0] for part in problem.tasks)
    return support_x, support_y, query_x, query_y


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", oracles.PROBLEMS)
def test_the_path_is_that_of_plain_gradient_descent(name, order):
    problem = oracles.problem(name)
    x, y, _, _ = one_task(problem)
    path = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=4, step_sizes=problem.alpha, order=order)
    theta = [parameter.detach().clone().requires_grad_() for parameter in problem.module.parameters()]
    truth = oracles.plain_inner_loop(problem.forward, problem.plain_loss, theta, x, y, problem.alpha, 4, True)
    assert len(path) == 5
    for found, true in zip(path, truth, strict=True):
        assert list(found) == [key for key, _ in problem.module.named_parameters()]
        assert oracles.relative_error(found.values(), true) < 1e-10


@given(
    points=st.integers(1, 6), width=st.integers(1, 5), steps=st.integers(1, 6),
    alpha=st.floats(1e-3, 0.1), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_linear_regression_against_numpy(points, width, steps, alpha, seed):
    random = np.random.default_rng(seed)
    theta, x, y = random.normal(size=width), random.normal(size=(points, width)), random.normal(size=points)
    model = nn.Linear(width, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(theta)[None])
    path = mamlkit.adapt(
        model, torch.from_numpy(x), torch.from_numpy(y)[:, None], loss=F.mse_loss, steps=steps, step_sizes=alpha
    )
    for step in range(steps + 1):
        assert np.allclose(path[step]["weight"].detach().numpy()[0], theta, rtol=1e-9, atol=1e-12)
        theta = theta - alpha * 2 / points * x.T @ (x @ theta - y)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", oracles.PROBLEMS)
def test_nothing_of_the_model_changes(name, order, training, same_rng):
    problem = oracles.problem(name)
    problem.module.train(training)
    problem.module[0].bias.requires_grad_(False)
    next(problem.module.parameters()).grad = torch.ones_like(next(problem.module.parameters()))
    x, y, _, _ = one_task(problem)
    with oracles.unchanged(problem.module):
        mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=3, step_sizes=0.1, order=order)


class Fails(nn.Module):
    """Raises in the forward pass after the first call."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(1, 1), []

    def forward(self, x):
        self.calls.append(x)
        if len(self.calls) > 1:
            raise RuntimeError("the model failed")
        return self.layer(x)


def test_nothing_of_the_model_changes_when_it_raises():
    model, x = Fails(), torch.ones(2, 1)
    with oracles.unchanged(model), pytest.raises(RuntimeError, match="the model failed"):
        mamlkit.adapt(model, x, x, loss=F.mse_loss, steps=3, step_sizes=0.1)


def test_order_decides_what_can_be_differentiated():
    problem = oracles.problem("tanh-mse")
    x, y, query_x, query_y = one_task(problem)
    theta = list(problem.module.parameters())

    def gradient(order):
        path = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=2, step_sizes=0.1, order=order)
        loss = problem.loss(functional_call(problem.module, path[-1], (query_x,)), query_y)
        return torch.autograd.grad(loss, theta)

    tasks = [part[:1] for part in problem.tasks]
    _, truth = oracles.meta_gradient(problem.forward, problem.plain_loss, theta, tasks, 0.1, 2)
    first = oracles.first_order_gradient(problem.forward, problem.plain_loss, theta, tasks, 0.1, 2)
    assert oracles.relative_error(gradient(2), truth) < 1e-8
    assert oracles.relative_error(gradient(1), first) < 1e-8
    path = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=2, step_sizes=0.1, order=0)
    for parameters in path[1:]:
        assert all(value.grad_fn is None and not value.requires_grad for value in parameters.values())


@pytest.mark.parametrize(("order", "kept"), [(0, 0), (1, 0), (2, 5)])
def test_only_second_order_keeps_the_activations_of_the_steps(order, kept):
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    activations = []
    model[1].register_forward_hook(lambda _, __, output: activations.append(weakref.ref(output)))
    x = torch.ones(3, 1)
    path = mamlkit.adapt(model, x, x, loss=F.mse_loss, steps=5, step_sizes=0.1, order=order)
    gc.collect()
    assert len(activations) == 5 and len(path) == 6
    assert sum(activation() is not None for activation in activations) == kept


def test_works_where_gradients_are_switched_off():
    problem = oracles.problem("mlp-mse")
    x, y, _, _ = one_task(problem)
    outside = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=3, step_sizes=0.1, order=0)
    with torch.no_grad():
        inside = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=3, step_sizes=0.1, order=0)
        assert not torch.is_grad_enabled()
    assert all(torch.equal(inside[-1][name], outside[-1][name]) for name in outside[-1])


def test_frozen_parameters_stay_and_are_not_returned_as_adapted():
    problem = oracles.problem("mlp-mse")
    problem.module[0].requires_grad_(False)
    x, y, _, _ = one_task(problem)
    path = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=2, step_sizes=0.1)
    assert {"0.weight", "0.bias"}.isdisjoint(path[-1])
    assert {"2.weight", "2.bias", "4.weight", "4.bias"} <= set(path[-1])


def test_a_step_size_that_names_some_parameters_moves_only_those():
    problem = oracles.problem("mlp-mse")
    x, y, _, _ = one_task(problem)
    head = mamlkit.FixedStepSize(["4.weight", "4.bias"], 0.1)
    path = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=3, step_sizes=head)
    for name, value in problem.module.named_parameters():
        assert torch.equal(path[-1][name], value) == (not name.startswith("4."))


def test_continues_from_given_parameters():
    problem = oracles.problem("mlp-cross-entropy")
    x, y, _, _ = one_task(problem)
    keywords = {"loss": problem.loss, "step_sizes": 0.1}
    whole = mamlkit.adapt(problem.module, x, y, steps=5, **keywords)
    half = mamlkit.adapt(problem.module, x, y, steps=2, **keywords)
    rest = mamlkit.adapt(problem.module, x, y, steps=3, parameters=half[-1], **keywords)
    assert oracles.relative_error(rest[-1].values(), whole[-1].values()) < 1e-12


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_parameter_that_is_made_of_others_is_a_variable_of_its_own(order):
    """As ProtoMAML's head, which is computed from the body: a step must not go back through its making."""
    problem = oracles.problem("mlp-cross-entropy")
    x, y, _, _ = one_task(problem)
    own = dict(problem.module.named_parameters())
    made = {
        **own,
        "4.weight": own["4.weight"] + own["0.weight"].square().mean(),
        "4.bias": own["0.bias"].sum() * own["4.bias"],
    }
    keywords = {"loss": problem.loss, "steps": 2, "step_sizes": 0.1, "order": order}
    found = mamlkit.adapt(problem.module, x, y, parameters=made, **keywords)
    apart = {name: value.detach().clone() for name, value in made.items()}
    truth = mamlkit.adapt(problem.module, x, y, parameters=apart, **keywords)
    assert oracles.relative_error(found[-1].values(), truth[-1].values()) < 1e-12


def test_the_outer_gradient_goes_through_the_making_of_a_parameter():
    problem = oracles.problem("mlp-cross-entropy")
    x, y, _, _ = one_task(problem)
    own = {name: value.detach().clone().requires_grad_() for name, value in problem.module.named_parameters()}

    def end(kernel):
        made = {**own, "0.weight": kernel, "4.weight": own["4.weight"] + kernel.square().mean()}
        path = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=2, step_sizes=0.1, parameters=made)
        return functional_call(problem.module, dict(path[-1]), (x,)).square().sum()

    assert torch.autograd.gradcheck(end, own["0.weight"], fast_mode=True)


def test_a_small_step_goes_down():
    problem = oracles.problem("conv-batchnorm")
    x, y, _, _ = one_task(problem)
    path = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=5, step_sizes=0.01)
    losses = [problem.plain_loss(problem.forward(list(point.values()), x), y).item() for point in path]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_parameters_of_names_what_can_be_learned():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model[0].bias.requires_grad_(False)
    assert list(mamlkit.parameters_of(model)) == ["0.weight", "1.weight", "1.bias"]
    assert mamlkit.parameters_of(model)["0.weight"] is model[0].weight
