"""Rates: their shapes, which step gets which, and that what is learned is what adapts."""

from __future__ import annotations

import oracles
import pytest
import torch

import mamlkit

SHAPES = {"tensor": lambda shape, k: (), "tensor_and_step": lambda shape, k: (k,), "parameter": lambda shape, k: shape}


@pytest.mark.parametrize("per", SHAPES)
def test_one_rate_each_starting_at_alpha(per):
    problem = oracles.problem("mlp-mse")
    parameters = mamlkit.parameters_of(problem.module)
    sizes = mamlkit.LearnedStepSizes(parameters, 0.05, per, 4)
    assert list(sizes.alpha) == list(parameters)
    for name, rate in sizes.alpha.items():
        assert rate.shape == SHAPES[per](parameters[name].shape, 4)
        assert rate.dtype == parameters[name].dtype and (rate == 0.05).all()
        assert rate.is_leaf and rate.requires_grad
    assert len(list(sizes.parameters())) == len(parameters)


def test_each_step_has_its_rate_and_those_beyond_k_that_of_the_last():
    sizes = mamlkit.LearnedStepSizes({"a.b": torch.zeros(2, 3)}, 0.1, "tensor_and_step", 3)
    sizes.alpha["a.b"].data = torch.tensor([1.0, 2.0, 3.0])
    assert [sizes(step)["a.b"].item() for step in range(6)] == [1, 2, 3, 3, 3, 3]
    for per in ("tensor", "parameter"):
        sizes = mamlkit.LearnedStepSizes({"a.b": torch.zeros(2, 3)}, 0.1, per, 3)
        assert all(sizes(step)["a.b"] is sizes.alpha["a.b"] for step in range(6))


def test_a_fixed_rate_is_the_same_everywhere():
    sizes = mamlkit.FixedStepSize(["a", "b"], 0.5)
    assert sizes(0) == sizes(9) == {"a": 0.5, "b": 0.5} and not list(sizes.parameters())


@pytest.mark.parametrize("per", SHAPES)
def test_learned_rates_change_in_training_and_adapt_from_then_on(per):
    """By hand with the rates as learned, also beyond K; with the rates that training began with it would come out otherwise."""
    problem = oracles.problem("mlp-cross-entropy")
    system = mamlkit.ModelAgnosticMetaLearning(
        problem.module, inner_lr=0.1, outer_lr=0.01, inner_steps=2, plus_plus=True, loss=problem.loss, step_sizes=per
    )
    for _ in range(3):
        system.meta_train_step(*problem.tasks)
    alpha = {name: rate.detach().clone() for name, rate in system.alpha.items()}
    assert all((rate != 0.1).any() for rate in alpha.values())
    x, y, query_x, query_y = (part[0] for part in problem.tasks)
    steps = 4
    theta = {name: p.detach().clone().requires_grad_() for name, p in problem.module.named_parameters()}

    def descend(rate_of):
        path = [theta]
        for step in range(steps):
            w = path[-1]
            gradients = torch.autograd.grad(
                problem.plain_loss(problem.forward(list(w.values()), x), y), list(w.values())
            )
            path.append({n: w[n] - rate_of(n, step) * g for n, g in zip(w, gradients, strict=True)})
        return path

    def learned(name, step):
        return alpha[name][min(step, 1)] if per == "tensor_and_step" else alpha[name]

    truth, wrong = descend(learned), descend(lambda name, step: 0.1)
    assert oracles.relative_error(system.inner_update(x, y).values(), truth[2].values()) < 1e-10
    assert oracles.relative_error(system.inner_update(x, y).values(), wrong[2].values()) > 1e-4
    path = system.learner.adapt(x, y, steps=steps)
    assert oracles.relative_error(path[-1].values(), truth[-1].values()) < 1e-10
    found = mamlkit.evaluate_maml(system, mamlkit.TaskBatch(*problem.tasks), steps=steps)
    losses = [problem.plain_loss(problem.forward(list(w.values()), query_x), query_y).item() for w in truth]
    assert found.losses[:, 0].tolist() == pytest.approx(losses, rel=1e-9)


def test_nothing_clamps_a_rate():
    """A rate that has become negative climbs."""
    problem = oracles.problem("mlp-mse")
    learner = mamlkit.meta_sgd(problem.module, loss=problem.loss, inner_lr=0.01)
    for rate in learner.step_sizes.alpha.values():
        rate.data.neg_()
    x, y, *_ = (part[0] for part in problem.tasks)
    path = learner.adapt(x, y)
    before, after = (problem.plain_loss(problem.forward(list(w.values()), x), y) for w in path)
    assert after > before
