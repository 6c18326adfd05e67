"""The facade against a plain loop with Adam, in float64."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch.func import functional_call

import mamlkit


def system_for(problem, **keywords):
    keywords = {"inner_lr": problem.alpha, "outer_lr": 0.01, "inner_steps": 2, "loss": problem.loss} | keywords
    return mamlkit.ModelAgnosticMetaLearning(problem.module, **keywords)


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
@pytest.mark.parametrize("name", oracles.PROBLEMS)
def test_three_steps_against_a_plain_loop_with_adam(name, algorithm):
    problem = oracles.problem(name)
    theta = [parameter.detach().clone().requires_grad_() for parameter in problem.module.parameters()]
    optimiser = torch.optim.Adam(theta, lr=0.01)
    system = system_for(problem, algorithm=algorithm)
    assert isinstance(system.meta_optimizer, torch.optim.Adam)
    for _ in range(3):
        loss, gradients = oracles.meta_gradient(
            problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, 2
        )
        if algorithm == "fomaml":
            gradients = oracles.first_order_gradient(
                problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, 2
            )
        for parameter, gradient in zip(theta, gradients, strict=True):
            parameter.grad = gradient
        returned = system.meta_train_step(*problem.tasks)
        assert type(returned) is float
        assert returned == pytest.approx(loss.item(), rel=1e-8)  # the loss before the step
        optimiser.step()
    assert oracles.relative_error(problem.module.parameters(), theta) < 1e-8


def test_lists_of_tensors_are_the_same_as_tensors():
    stacked, listed = oracles.problem("mlp-cross-entropy"), oracles.problem("mlp-cross-entropy")
    one, other = system_for(stacked), system_for(listed)
    for _ in range(2):
        losses = [one.meta_train_step(*stacked.tasks), other.meta_train_step(*(list(part) for part in listed.tasks))]
        assert losses[0] == losses[1]
    pairs = zip(stacked.module.parameters(), listed.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_explainers_call_works_word_for_word():
    """Positional learning rates, cross-entropy, labels as class numbers: no keyword but those of the first example."""
    problem = oracles.problem("mlp-cross-entropy")
    system = mamlkit.ModelAgnosticMetaLearning(problem.module, inner_lr=0.01, outer_lr=0.001, inner_steps=5)
    support_data, support_labels, query_data, query_labels = problem.tasks
    losses = [system.meta_train_step(support_data, support_labels, query_data, query_labels) for _ in range(20)]
    assert all(isinstance(loss, float) for loss in losses) and losses[-1] < losses[0]


@pytest.mark.parametrize("name", oracles.PROBLEMS)
def test_inner_update_and_forward_with_weights(name):
    problem = oracles.problem(name)
    system = system_for(problem, inner_steps=3)
    x, y, query_x, _ = (part[0] for part in problem.tasks)
    with oracles.unchanged(problem.module):
        weights = system.inner_update(x, y)
        outputs = system.forward_with_weights(query_x, weights)
    theta = [parameter.detach().clone().requires_grad_() for parameter in problem.module.parameters()]
    truth = oracles.plain_inner_loop(problem.forward, problem.plain_loss, theta, x, y, problem.alpha, 3, False)[-1]
    assert list(weights) == [key for key, _ in problem.module.named_parameters()]
    assert oracles.relative_error(weights.values(), truth) < 1e-10
    assert oracles.relative_error([outputs], [problem.forward(truth, query_x)]) < 1e-10
    if name != "conv-batchnorm":
        assert torch.equal(outputs, functional_call(problem.module, dict(weights), (query_x,)))


def test_gradients_do_not_pile_up_from_step_to_step():
    problem, fresh = oracles.problem("mlp-mse"), oracles.problem("mlp-mse")
    system = system_for(problem)
    for parameter in problem.module.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)  # left over from something else
    system.meta_train_step(*problem.tasks)
    system_for(fresh).meta_train_step(*fresh.tasks)
    assert oracles.relative_error(problem.module.parameters(), list(fresh.module.parameters())) < 1e-12
