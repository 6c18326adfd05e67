"""The meta-gradient against four independent computations, in float64."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from engine_names import ENGINES
from torch import nn
from torch.nn import functional as F

import mamlkit
from mamlkit.step_sizes import StepSizes

STEPS = (1, 5)
BATCH_NORM_REFUSED = {
    "all_at_once"
}  # torch's second derivative of batch norm under vmap is wrong, so these must refuse
CASES = [
    (name, engine)
    for name in oracles.PROBLEMS
    for engine in ENGINES
    if not (name == "conv-batchnorm" and engine in BATCH_NORM_REFUSED)
]
LEARNERS = {1: mamlkit.fomaml, 2: mamlkit.maml}


def meta_gradient_of(problem, steps, engine, order=2, tasks=None):
    learner = LEARNERS[order](
        problem.module, loss=problem.loss, inner_steps=steps, inner_lr=problem.alpha, engine=engine
    )
    problem.module.zero_grad()
    loss = learner.meta_backward(mamlkit.TaskBatch(*(problem.tasks if tasks is None else tasks)))
    return loss, oracles.gradients_of(problem.module)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("name", "engine"), CASES)
def test_equals_a_plain_loop_of_autograd(name, engine, steps):
    problem = oracles.problem(name)
    loss, gradients = meta_gradient_of(problem, steps, engine)
    true_loss, truth = oracles.meta_gradient(
        problem.forward, problem.plain_loss, list(problem.module.parameters()), problem.tasks, problem.alpha, steps
    )
    assert loss.shape == () and not loss.requires_grad
    assert loss.item() == pytest.approx(true_loss.item(), rel=1e-10)
    assert oracles.relative_error(gradients, truth) < 1e-8
    # every tensor on its own too: a small one cannot hide behind a large one. A bias before batch norm has gradient zero.
    for gradient, true_gradient in zip(gradients, truth, strict=True):
        assert torch.allclose(gradient, true_gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("name", "engine"), CASES)
def test_equals_finite_differences(name, engine, steps):
    problem = oracles.problem(name)
    _, gradients = meta_gradient_of(problem, steps, engine)
    theta = [parameter.detach() for parameter in problem.module.parameters()]
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = [torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in theta]
        slope = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
        # narrow, so that no ReLU changes side between the two evaluations
        measured = oracles.directional_derivative(
            problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, steps, direction, width=1e-6
        )
        assert slope == pytest.approx(measured, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("engine", ENGINES)
def test_equals_the_product_of_explicit_hessians(engine, steps):
    problem = oracles.problem("tanh-mse")
    _, gradients = meta_gradient_of(problem, steps, engine)
    truth = oracles.meta_gradient_by_hessians(
        problem.forward, problem.plain_loss, list(problem.module.parameters()), problem.tasks, problem.alpha, steps
    )
    assert oracles.relative_error(gradients, [truth]) < 1e-8


class RatePerEntryAndStep(StepSizes):
    """Different rates in every coordinate and step, so that the factors of the product do not commute."""

    def __init__(self, rates):
        super().__init__()
        self.rates = rates  # a tensor (steps, d)

    def forward(self, step):
        return {"weight": self.rates[step][None, :]}


def quadratic(seed=0, dimension=4, num_tasks=3):
    random = np.random.default_rng(seed)
    support, query = 6, 9
    return random.normal(size=dimension), (
        random.normal(size=(num_tasks, support, dimension)),
        random.normal(size=(num_tasks, support)),
        random.normal(size=(num_tasks, query, dimension)),
        random.normal(size=(num_tasks, query)),
    )


def linear_model(theta):
    model = nn.Linear(len(theta), 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(theta)[None])
    return model


def as_batch(tasks):
    support_x, support_y, query_x, query_y = map(torch.from_numpy, tasks)
    return mamlkit.TaskBatch(support_x, support_y[..., None], query_x, query_y[..., None])


def test_the_quadratics_of_different_tasks_and_steps_do_not_commute():
    _, (x, _, _, _) = quadratic()
    hessians = [2 / len(points) * points.T @ points for points in x]
    assert np.linalg.norm(hessians[0] @ hessians[1] - hessians[1] @ hessians[0]) > 0.1
    first, second = np.diag([0.05, 0.1, 0.15, 0.2]) @ hessians[0], np.diag([0.2, 0.05, 0.1, 0.15]) @ hessians[0]
    assert np.linalg.norm(first @ second - second @ first) > 0.01


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("order", [1, 2])
def test_equals_the_closed_form_on_a_quadratic(engine, steps, order):
    theta, tasks = quadratic()
    model = linear_model(theta)
    learner = LEARNERS[order](model, loss=F.mse_loss, inner_steps=steps, inner_lr=0.1, engine=engine)
    loss = learner.meta_backward(as_batch(tasks))
    true_loss, exact, first, _ = oracles.quadratic_by_hand(theta, tasks, [np.full(len(theta), 0.1)] * steps)
    assert loss.item() == pytest.approx(true_loss, rel=1e-10)
    assert oracles.relative_error([model.weight.grad], [exact if order == 2 else first]) < 1e-8
    assert oracles.relative_error([model.weight.grad], [first if order == 2 else exact]) > 1e-2


@pytest.mark.parametrize("engine", ENGINES)
def test_multiplies_the_factors_of_the_steps_in_the_right_order(engine):
    theta, tasks = quadratic()
    model = linear_model(theta)
    rates = np.random.default_rng(7).uniform(0.02, 0.3, size=(5, len(theta)))
    learner = mamlkit.Learner(
        model,
        loss=F.mse_loss,
        inner_steps=5,
        step_sizes=RatePerEntryAndStep(torch.from_numpy(rates)),
        outer_loss=mamlkit.FinalStep(),
        engine=engine,
    )
    learner.meta_backward(as_batch(tasks))
    _, exact, _, _ = oracles.quadratic_by_hand(theta, tasks, list(rates))
    _, reverse, _, _ = oracles.quadratic_by_hand(theta, tasks, list(rates[::-1]))
    assert oracles.relative_error([model.weight.grad], [exact]) < 1e-8
    assert oracles.relative_error([reverse], [exact]) > 1e-3  # the order matters here


class Weighted:
    """An outer loss with given weights."""

    def __init__(self, *numbers):
        self.numbers = torch.tensor(numbers, dtype=torch.float64)

    def weights(self, steps, epoch=0):
        return self.numbers


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_weighs_the_query_losses_along_the_way(name, engine):
    problem = oracles.problem(name)
    numbers = (0.5, 0.0, 0.3)
    names = [key for key, _ in problem.module.named_parameters()]
    learner = mamlkit.Learner(
        problem.module,
        loss=problem.loss,
        inner_steps=3,
        step_sizes=mamlkit.FixedStepSize(names, problem.alpha),
        outer_loss=Weighted(*numbers),
        engine=engine,
    )
    loss = learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    theta = list(problem.module.parameters())
    true_loss, truth = oracles.meta_gradient(
        problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, 3, numbers
    )
    assert loss.item() == pytest.approx(true_loss.item(), rel=1e-10)
    assert oracles.relative_error(oracles.gradients_of(problem.module), truth) < 1e-8


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("name", "engine"), CASES)
def test_first_order_is_the_query_gradient_at_the_adapted_parameters(name, engine, steps):
    problem = oracles.problem(name)
    loss, gradients = meta_gradient_of(problem, steps, engine, order=1)
    theta = list(problem.module.parameters())
    arguments = (problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, steps)
    assert oracles.relative_error(gradients, oracles.first_order_gradient(*arguments)) < 1e-8
    full_loss, full = meta_gradient_of(problem, steps, engine, order=2)
    assert loss.item() == pytest.approx(full_loss.item(), rel=1e-12)  # the loss is the same, its derivative is not
    assert oracles.relative_error(gradients, full) > 1e-3


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_adds_to_what_is_already_in_grad(name, engine):
    problem = oracles.problem(name)
    _, once = meta_gradient_of(problem, 2, engine)
    for parameter in problem.module.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    learner = mamlkit.maml(problem.module, loss=problem.loss, inner_steps=2, inner_lr=problem.alpha, engine=engine)
    for repetition in (1, 2):
        learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
        expected = [3.0 + repetition * gradient for gradient in once]
        assert oracles.relative_error(oracles.gradients_of(problem.module), expected) < 1e-12


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_a_batch_is_the_mean_of_its_tasks(name, engine):
    problem = oracles.problem(name, num_tasks=4)
    loss, gradients = meta_gradient_of(problem, 2, engine)
    alone = [meta_gradient_of(problem, 2, engine, tasks=[part[i : i + 1] for part in problem.tasks]) for i in range(4)]
    assert loss.item() == pytest.approx(sum(single.item() for single, _ in alone) / 4, rel=1e-12)
    mean = [sum(parts) / 4 for parts in zip(*(single for _, single in alone), strict=True)]
    assert oracles.relative_error(gradients, mean) < 1e-12


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_support_and_query_have_different_roles(name, engine):
    problem = oracles.problem(name)
    _, gradients = meta_gradient_of(problem, 1, engine)
    support_x, support_y, query_x, query_y = problem.tasks
    _, swapped = meta_gradient_of(problem, 1, engine, tasks=(query_x, query_y, support_x, support_y))
    assert oracles.relative_error(swapped, gradients) > 1e-2


@pytest.mark.parametrize("engine", ENGINES)
def test_the_gradient_of_a_frozen_parameter_is_not_computed_and_the_others_are_right(engine):
    problem = oracles.problem("mlp-mse")
    frozen = ("0.weight", "2.bias")
    for name in frozen:
        problem.module.get_parameter(name).requires_grad_(False)
    learner = mamlkit.maml(problem.module, loss=problem.loss, inner_steps=3, inner_lr=problem.alpha, engine=engine)
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))

    names = [name for name, _ in problem.module.named_parameters()]
    values = dict(problem.module.named_parameters())
    learned = [name for name in names if name not in frozen]

    def forward(w, x):
        return oracles.mlp_forward([{**values, **dict(zip(learned, w, strict=True))}[name] for name in names], x)

    theta = [values[name] for name in learned]
    _, truth = oracles.meta_gradient(forward, problem.plain_loss, theta, problem.tasks, problem.alpha, 3)
    assert oracles.relative_error([values[name].grad for name in learned], truth) < 1e-8
    assert all(values[name].grad is None for name in frozen)


class WithSpare(nn.Module):
    """A module with a parameter that its output does not use."""

    def __init__(self, used):
        super().__init__()
        self.used = used
        self.spare = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_parameter_that_is_not_used_has_gradient_zero(engine, order):
    problem = oracles.problem("mlp-mse")
    _, expected = meta_gradient_of(problem, 2, engine, order)
    problem.module.zero_grad()
    model = WithSpare(problem.module)
    learner = LEARNERS[order](model, loss=problem.loss, inner_steps=2, inner_lr=problem.alpha, engine=engine)
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    assert torch.equal(model.spare.grad, torch.zeros(3, dtype=torch.float64))
    assert oracles.relative_error(oracles.gradients_of(problem.module), expected) < 1e-12


class Tied(nn.Module):
    """The same matrix in two layers."""

    def __init__(self, weight):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.first.weight = nn.Parameter(weight.clone())
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_parameter_that_is_used_twice_is_adapted_as_one(engine):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((3, 3), generator=generator, dtype=torch.float64)
    tasks = [torch.randn((2, 5, 3), generator=generator, dtype=torch.float64) for _ in range(4)]
    model = Tied(weight)
    mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, engine=engine).meta_backward(
        mamlkit.TaskBatch(*tasks)
    )
    _, truth = oracles.meta_gradient(
        lambda w, x: torch.tanh(x @ w[0].T) @ w[0].T, oracles.mean_squared_error, [weight], tasks, 0.1, 2
    )
    assert oracles.relative_error([model.first.weight.grad], truth) < 1e-8


NORMALISED = {
    "layer norm": lambda: nn.LayerNorm(4),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "max-pool": lambda: nn.MaxPool1d(2, ceil_mode=True),
    "average pool": lambda: nn.AvgPool1d(2),
}


@pytest.mark.parametrize("layer", NORMALISED)
@pytest.mark.parametrize("engine", ["auto", *ENGINES])
def test_engines_agree_on_other_layers(layer, engine):
    generator = torch.Generator().manual_seed(0)
    tasks = mamlkit.TaskBatch(*(torch.randn((3, 5, 4), generator=generator, dtype=torch.float64) for _ in range(4)))
    gradients = []
    for choice in (engine, "task_by_task"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = NORMALISED[layer]()
            width = module(torch.zeros(5, 4)).shape[1]
            model = nn.Sequential(nn.Linear(4, 4), module, nn.Tanh(), nn.Linear(width, 4)).double()
        mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, engine=choice).meta_backward(tasks)
        gradients.append(oracles.gradients_of(model))
    assert oracles.relative_error(gradients[0], gradients[1]) < 1e-10


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_uses_the_statistics_of_the_batch_whatever_mode_the_model_is_in(training):
    problem = oracles.problem("conv-batchnorm")
    for module in problem.module:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(3.0)
            module.running_var.fill_(7.0)
    problem.module.train(training)
    _, gradients = meta_gradient_of(problem, 2, "task_by_task")
    theta = list(problem.module.parameters())
    _, truth = oracles.meta_gradient(problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, 2)
    assert oracles.relative_error(gradients, truth) < 1e-8


def test_running_statistics_are_collected_from_the_query_sets_and_not_used_in_training():
    problem = oracles.problem("conv-batchnorm")
    names = [name for name, _ in problem.module.named_parameters()]
    norm, theta = problem.module[1], list(problem.module.parameters())
    norm.running_mean.fill_(3.0)
    norm.running_var.fill_(7.0)
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    for support_x, support_y, query_x, _ in zip(*problem.tasks, strict=True):
        w = oracles.plain_inner_loop(
            problem.forward, problem.plain_loss, theta, support_x, support_y, problem.alpha, 1, False
        )[-1]
        values = F.conv2d(query_x, w[0], w[1], padding=1).detach().transpose(0, 1).flatten(1)  # (channels, points)
        mean = 0.9 * mean + 0.1 * values.mean(1)
        variance = 0.9 * variance + 0.1 * values.var(1, correction=1)
    learner = mamlkit.Learner(
        problem.module,
        loss=problem.loss,
        inner_steps=1,
        step_sizes=mamlkit.FixedStepSize(names, problem.alpha),
        query_statistics="running",
    )
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    assert torch.allclose(norm.running_mean, mean, rtol=1e-10)
    assert torch.allclose(norm.running_var, variance, rtol=1e-10)
    _, truth = oracles.meta_gradient(problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, 1)
    assert oracles.relative_error(oracles.gradients_of(problem.module), truth) < 1e-8


@pytest.mark.parametrize("engine", sorted(BATCH_NORM_REFUSED))
def test_batch_norm_is_refused_where_it_would_be_wrong(engine):
    problem = oracles.problem("conv-batchnorm")
    with pytest.raises(ValueError, match="without batch norm"):
        meta_gradient_of(problem, 1, engine)


def test_auto_is_right_for_every_network():
    for name in oracles.PROBLEMS:
        problem = oracles.problem(name)
        _, gradients = meta_gradient_of(problem, 3, "auto")
        theta = list(problem.module.parameters())
        _, truth = oracles.meta_gradient(problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, 3)
        assert oracles.relative_error(gradients, truth) < 1e-8
