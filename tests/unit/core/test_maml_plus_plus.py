"""MAML++ with every part switched on and off: its meta-gradient against a plain loop and finite differences, in float64."""

from __future__ import annotations

import oracles
import plain_learners
import pytest
import torch
from docstrings import example
from engine_names import ENGINES
from torch.nn import functional as F

import mamlkit

K = 3
ANNEALED = [1 / 3 - 4 / 30] * 2 + [1 / 3 + 4 * 2 / 30]  # epoch 4 of 10, K = 3
LAST = [0.0, 0.0, 1.0]


class Own:
    """An outer loss that mamlkit does not have: the step of this epoch, in turn, weighs twice."""

    def weights(self, steps, epoch):
        weights = torch.ones(steps, dtype=torch.float64)
        weights[epoch % steps] = 2.0
        return weights


# problem, engine, switches, epoch, weights of the query losses, order
CASES = {
    "everything": ("conv-batchnorm", "auto", {}, 4, ANNEALED, 2),
    "everything, inductive": ("conv-batchnorm", "auto", {"per_step_statistics": True}, 4, ANNEALED, 2),
    "one rate a tensor": ("conv-batchnorm", "auto", {"step_sizes": "tensor"}, 4, ANNEALED, 2),
    "one rate a parameter": ("conv-batchnorm", "auto", {"step_sizes": "parameter"}, 4, ANNEALED, 2),
    "fixed rate": ("conv-batchnorm", "auto", {"step_sizes": "fixed"}, 4, ANNEALED, 2),
    "shared batch-norm weights": ("conv-batchnorm", "auto", {"per_step_weights": False}, 4, ANNEALED, 2),
    "uniform": ("conv-batchnorm", "auto", {"multi_step_loss": "uniform"}, 50, [1 / 3] * 3, 2),
    "given": ("mlp-mse", "auto", {"multi_step_loss": [0.5, 0.0, 2.0]}, 50, [0.5, 0.0, 2.0], 2),
    "of one's own": ("conv-batchnorm", "auto", {"multi_step_loss": Own()}, 4, [1.0, 2.0, 1.0], 2),
    "last step": ("conv-batchnorm", "auto", {"multi_step_loss": None}, 0, LAST, 2),
    "annealing has begun": ("mlp-mse", "auto", {}, 0, [1 / 3] * 3, 2),
    "annealing has ended": ("mlp-mse", "auto", {}, 10, LAST, 2),
    "before second order": ("conv-batchnorm", "auto", {"first_order_epochs": 5}, 4, ANNEALED, 1),
    "after first order": ("conv-batchnorm", "auto", {"first_order_epochs": 4}, 4, ANNEALED, 2),
    **{
        f"{kind} {engine}": ("mlp-cross-entropy", engine, {"step_sizes": kind}, 4, ANNEALED, 2)
        for kind in mamlkit.LearnedStepSizes.kinds
        for engine in ENGINES
    },
    "first order all_at_once": ("mlp-cross-entropy", "all_at_once", {"first_order_epochs": 9}, 4, ANNEALED, 1),
}


def made(case):
    name, engine, switches, epoch, weights, order = CASES[case]
    problem = oracles.problem(name)
    learner = mamlkit.maml_plus_plus(
        problem.module, loss=problem.loss, inner_steps=K, inner_lr=problem.alpha, engine=engine, **switches
    )
    plain_learners.scatter(learner)
    learner.epoch = epoch
    fixed = dict.fromkeys(learner.initialisation(), problem.alpha) if switches.get("step_sizes") == "fixed" else None
    values, _ = plain_learners.values_of(learner, fixed)
    keywords = {"per_step": switches.get("step_sizes", "tensor_and_step") == "tensor_and_step", "order": order}
    return problem, learner, values, weights, keywords


@pytest.mark.parametrize("case", CASES)
def test_meta_gradient_against_a_plain_loop(case):
    problem, learner, values, weights, keywords = made(case)
    leaves = values.leaves()
    truth = plain_learners.meta_loss(problem, leaves, weights, **keywords)
    expected = torch.autograd.grad(truth, leaves.tensors())
    loss = learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    assert loss.item() == pytest.approx(truth.item(), rel=1e-9)
    _, found = plain_learners.values_of(learner)
    assert len(found.tensors()) == len(expected)
    for part, tensors in found._asdict().items():  # theta, rates and rows each on their own: their sizes differ
        here = [g for key, g in zip(_keys(leaves), expected, strict=True) if key == part]
        if here:
            assert oracles.relative_error(tensors.values(), here) < 1e-8, part
            assert all(gradient.abs().max() > 0 for name, gradient in tensors.items() if not _cancelled(name, problem))


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][5] == 2])
def test_meta_gradient_against_finite_differences(case):
    problem, learner, values, weights, keywords = made(case)
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    _, found = plain_learners.values_of(learner)
    for part in [part for part in range(3) if found[part]]:  # theta, rates, rows: a direction in each
        generator = torch.Generator().manual_seed(7)
        direction = [
            torch.randn(gradient.shape, generator=generator, dtype=torch.float64) * (index == part)
            for index, tensors in enumerate(found)
            for gradient in tensors.values()
        ]
        length = torch.cat([d.flatten() for d in direction]).norm()
        direction = [d / length for d in direction]  # short, so that no ReLU changes side between the two evaluations
        expected = sum((g * d).sum().item() for g, d in zip(found.tensors(), direction, strict=True))
        slope = plain_learners.slope(problem, values, direction, weights, **keywords)
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-7), part


def test_first_and_second_order_differ():
    """Else the tests of derivative-order annealing could not fail."""
    gradients = []
    for case in ("before second order", "after first order"):
        problem, learner, *_ = made(case)
        learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
        gradients.append([p.grad for p in learner.meta_parameters().values()])
    assert oracles.relative_error(*gradients) > 1e-3


def test_derivative_order_annealing_is_first_order_in_epochs_below_e():
    model = mamlkit.mlp(seed=0)
    learner = mamlkit.maml_plus_plus(model, loss=F.mse_loss, first_order_epochs=3)
    orders = []
    for learner.epoch in range(5):
        orders.append(learner.current_order)
    assert orders == [1, 1, 1, 2, 2]


def test_the_outer_loop_in_the_docstring_anneals():
    """``epoch`` is the reader's to move: a loop without that line would never leave the first epoch."""
    names = {**vars(mamlkit), "torch": torch, "F": F, "outer_steps": 3, "steps_per_epoch": 1}
    with torch.random.fork_rng(devices=[]):
        exec(compile(example(mamlkit.learners), "learners.py", "exec"), names)
    learner = names["learner"]
    assert learner.epoch == 2 and learner.meta_steps == 3 and names["loss"].isfinite()
    weights = [learner.outer_loss.weights(5, epoch)[0].item() for epoch in (0, learner.epoch)]
    assert weights[0] > weights[1] > 0


def test_every_step_has_a_gradient_of_its_own():
    """With all losses counted, each step's rate and batch-norm row is learned; with the last loss alone, too."""
    for case in ("everything", "last step"):
        problem, learner, *_ = made(case)
        learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
        _, found = plain_learners.values_of(learner)
        assert len({row.item() for row in found.rates["9.weight"]}) == K
        for row in found.rows["1.weight"].unbind():
            assert row.abs().max() > 1e-6


def test_batch_norm_weights_of_the_model_are_replaced_and_not_adapted():
    problem, learner, *_ = made("everything")
    norms = {"1.weight", "1.bias", "5.weight", "5.bias"}
    names = {name for name, _ in problem.module.named_parameters()}
    assert set(learner.initialisation()) == set(learner.step_sizes.alpha) == names - norms
    before = learner.predict(problem.tasks[2][0])
    problem.module[1].weight.data += 5  # not looked at any more
    assert torch.equal(learner.predict(problem.tasks[2][0]), before)


@pytest.mark.parametrize("name", ["mlp-mse", "conv-batchnorm"])
def test_with_every_part_off_it_is_maml(name):
    plain, plus_plus = oracles.problem(name), oracles.problem(name)
    off = {"multi_step_loss": None, "step_sizes": "fixed", "per_step_weights": False}
    one = mamlkit.maml(plain.module, loss=plain.loss, inner_steps=K, inner_lr=0.1)
    other = mamlkit.maml_plus_plus(plus_plus.module, loss=plain.loss, inner_steps=K, inner_lr=0.1, **off)
    tasks = mamlkit.TaskBatch(*plain.tasks)
    assert torch.equal(one.meta_backward(tasks), other.meta_backward(tasks))
    assert oracles.relative_error(oracles.gradients_of(plain.module), oracles.gradients_of(plus_plus.module)) == 0
    assert list(one.meta_parameters()) == list(other.meta_parameters())


def test_meta_parameters_are_ordinary_parameters_in_the_state():
    _, learner, *_ = made("everything")
    every = {id(parameter) for parameter in learner.parameters()}
    state = learner.state_dict()
    for name, parameter in learner.meta_parameters().items():
        assert id(parameter) in every and parameter.is_leaf and torch.equal(state[name], parameter)


def _keys(values):
    return [part for part, tensors in values._asdict().items() for v in tensors.values() if isinstance(v, torch.Tensor)]


def _cancelled(name, problem):
    """Batch norm subtracts the bias of the convolution before it: nothing depends on it."""
    return name in ("0.bias", "4.bias") and isinstance(problem.module[0], torch.nn.Conv2d)
