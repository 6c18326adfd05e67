"""FOMAML, Reptile, ANIL and Meta-SGD against plain loops, in float64 and with every engine that fits."""

from __future__ import annotations

import oracles
import plain_learners
import pytest
import torch
from engine_names import ENGINES

import mamlkit

K = 3
ENGINE_CASES = [
    (name, engine)
    for name in oracles.PROBLEMS
    for engine in ENGINES
    if not (name == "conv-batchnorm" and engine == "all_at_once")
]


def made(problem, algorithm, engine="auto", **keywords):
    return algorithm(
        problem.module, loss=problem.loss, inner_steps=K, inner_lr=problem.alpha, engine=engine, **keywords
    )


def ends_of(problem):
    """The adapted parameters of each task, every task from the same theta."""
    theta = [p.detach().clone().requires_grad_() for p in problem.module.parameters()]
    return theta, [
        oracles.plain_inner_loop(problem.forward, problem.plain_loss, theta, x, y, problem.alpha, K, False)[-1]
        for x, y, _, _ in zip(*problem.tasks, strict=True)
    ]


@pytest.mark.parametrize(("name", "engine"), ENGINE_CASES)
def test_reptile_by_hand(name, engine):
    """.grad is theta minus the mean of the adapted parameters, so SGD with rate epsilon moves theta towards them."""
    problem = oracles.problem(name)
    learner = made(problem, mamlkit.reptile, engine)
    theta, ends = ends_of(problem)
    loss = learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    direction = [w - sum(end[i] for end in ends) / 3 for i, w in enumerate(theta)]
    assert oracles.relative_error(oracles.gradients_of(problem.module), direction) < 1e-10
    queries = [
        problem.plain_loss(problem.forward(end, x), y).item()
        for end, x, y in zip(ends, *problem.tasks[2:], strict=True)
    ]
    assert loss.item() == pytest.approx(sum(queries) / 3, rel=1e-10)
    torch.optim.SGD(learner.parameters(), lr=0.25).step()
    moved = [0.75 * w + 0.25 * sum(end[i] for end in ends) / 3 for i, w in enumerate(theta)]
    assert oracles.relative_error(list(problem.module.parameters()), moved) < 1e-10


def test_every_reptile_task_starts_from_the_same_point():
    """Else the order of the tasks would matter, and two tasks that are one would give another direction than one."""
    gradients = []
    for order in ([0, 1, 2], [2, 0, 1]):
        problem = oracles.problem("conv-batchnorm")
        made(problem, mamlkit.reptile).meta_backward(mamlkit.TaskBatch(*(part[order] for part in problem.tasks)))
        gradients.append(oracles.gradients_of(problem.module))
    assert oracles.relative_error(*gradients) < 1e-12
    for repeat in ([0], [0, 0]):
        problem = oracles.problem("mlp-mse")
        made(problem, mamlkit.reptile).meta_backward(mamlkit.TaskBatch(*(part[repeat] for part in problem.tasks)))
        gradients.append(oracles.gradients_of(problem.module))
    assert oracles.relative_error(gradients[2], gradients[3]) < 1e-12


@pytest.mark.parametrize(("name", "engine"), ENGINE_CASES)
def test_fomaml_by_hand(name, engine):
    """The query gradient at each task's adapted parameters, averaged, as if theta had been there all along."""
    problem = oracles.problem(name)
    theta, ends = ends_of(problem)
    mean = [torch.zeros_like(w) for w in theta]
    for end, x, y in zip(ends, *problem.tasks[2:], strict=True):
        here = [w.detach().requires_grad_() for w in end]
        gradients = torch.autograd.grad(problem.plain_loss(problem.forward(here, x), y), here)
        mean = [m + g / 3 for m, g in zip(mean, gradients, strict=True)]
    made(problem, mamlkit.fomaml, engine).meta_backward(mamlkit.TaskBatch(*problem.tasks))
    assert oracles.relative_error(oracles.gradients_of(problem.module), mean) < 1e-10


ADAPTED = {
    "the last layer": (None, lambda names: names[-2:]),
    "one tensor": (["0.weight"], lambda names: ["0.weight"]),
    "two in another order": (["2.bias", "0.weight"], lambda names: ["2.bias", "0.weight"]),
    "all": ("all", list),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ADAPTED)
def test_anil_adapts_a_subset_and_learns_everything(case, engine):
    problem = oracles.problem("mlp-cross-entropy")
    names = [name for name, _ in problem.module.named_parameters()]
    adapted, truth = ADAPTED[case]
    learner = made(problem, mamlkit.anil, engine, adapted=names if adapted == "all" else adapted)
    values, _ = plain_learners.values_of(learner, dict.fromkeys(truth(names), problem.alpha))
    leaves = values.leaves()
    loss = plain_learners.meta_loss(problem, leaves, [0.0, 0.0, 1.0])
    expected = torch.autograd.grad(loss, leaves.tensors())
    assert learner.meta_backward(mamlkit.TaskBatch(*problem.tasks)).item() == pytest.approx(loss.item(), rel=1e-10)
    found = oracles.gradients_of(problem.module)
    assert oracles.relative_error(found, expected) < 1e-8
    generator = torch.Generator().manual_seed(2)
    direction = [torch.randn(w.shape, generator=generator, dtype=torch.float64) / 10 for w in expected]
    slope = plain_learners.slope(problem, values, direction, [0.0, 0.0, 1.0], width=1e-6)
    assert slope == pytest.approx(sum((g * d).sum().item() for g, d in zip(found, direction, strict=True)), rel=1e-5)
    path = learner.adapt(problem.tasks[0][0], problem.tasks[1][0])
    moved = {name for name in names if not torch.equal(path[-1][name], path[0][name])}
    assert moved == set(truth(names))


@pytest.mark.parametrize("engine", ENGINES)
def test_meta_sgd_against_a_plain_loop_and_finite_differences(engine):
    problem = oracles.problem("mlp-mse")
    learner = made(problem, mamlkit.meta_sgd, engine)
    plain_learners.scatter(learner)
    values, _ = plain_learners.values_of(learner)
    leaves = values.leaves()
    loss = plain_learners.meta_loss(problem, leaves, [0.0, 0.0, 1.0])
    expected = torch.autograd.grad(loss, leaves.tensors())
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    _, found = plain_learners.values_of(learner)
    assert len(found.tensors()) == 12 and oracles.relative_error(found.tensors(), expected) < 1e-8
    generator = torch.Generator().manual_seed(2)
    direction = [torch.randn(w.shape, generator=generator, dtype=torch.float64) / 10 for w in expected]
    slope = plain_learners.slope(problem, values, direction, [0.0, 0.0, 1.0], width=1e-6)
    truth = sum((g * d).sum().item() for g, d in zip(found.tensors(), direction, strict=True))
    assert slope == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize(
    "algorithm", [mamlkit.maml, mamlkit.fomaml, mamlkit.reptile, mamlkit.anil, mamlkit.meta_sgd, mamlkit.maml_plus_plus]
)
def test_what_was_adapted_stays_when_training_goes_on(algorithm):
    problem = oracles.problem("mlp-mse")
    learner = made(problem, algorithm)
    path = learner.adapt(problem.tasks[0][0], problem.tasks[1][0])
    before = [{name: value.clone() for name, value in parameters.items()} for parameters in path]
    optimiser = torch.optim.SGD(learner.parameters(), lr=0.1)
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    optimiser.step()
    for parameters, kept in zip(path, before, strict=True):
        assert all(torch.equal(value, kept[name]) and not value.requires_grad for name, value in parameters.items())
