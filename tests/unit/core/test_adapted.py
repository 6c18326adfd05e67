"""``adapted=``: only these parameters move in the inner loop, and all are meta-learned, by every algorithm."""

from __future__ import annotations

import oracles
import plain_learners
import plain_loop
import pytest
import torch
from engine_names import ENGINES
from torch import nn
from torch.nn import functional as F

import mamlkit

K = 3
LAST = [0.0, 0.0, 1.0]
CHOICES = {
    "names": (lambda: ["2.bias", "0.weight"], ["0.weight", "2.bias"]),
    "once": (lambda: (name for name in ("0.weight", "2.bias")), ["0.weight", "2.bias"]),
    "biases": (lambda: lambda name: name.endswith("bias"), ["0.bias", "2.bias", "4.bias"]),
    "the head": (lambda: lambda name: name.startswith("4."), ["4.weight", "4.bias"]),
}
ALGORITHMS = {
    "maml": (mamlkit.maml, {}),
    "fomaml": (mamlkit.fomaml, {"order": 1}),
    "anil": (mamlkit.anil, {}),
    "meta-sgd": (mamlkit.meta_sgd, {}),
    "maml++": (mamlkit.maml_plus_plus, {"per_step": True}),
}


def adapted(choice):
    """What is given, anew each time, and the names that it stands for."""
    given, names = CHOICES[choice]
    return given(), names


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_only_these_move_and_all_are_learned(name, choice, engine):
    problem, (algorithm, keywords) = oracles.problem("mlp-cross-entropy"), ALGORITHMS[name]
    given, names = adapted(choice)
    rates = {"inner_steps": K, "inner_lr": problem.alpha, "loss": problem.loss, "engine": engine}
    learner = algorithm(problem.module, adapted=given, **rates)
    plain_learners.scatter(learner)
    learned = isinstance(learner.step_sizes, mamlkit.LearnedStepSizes)
    values, _ = plain_learners.values_of(learner, None if learned else dict.fromkeys(names, problem.alpha))
    assert set(values.rates) == set(names)
    leaves = values.leaves()
    weights = learner.outer_loss.weights(K, 0).tolist()
    loss = plain_learners.meta_loss(problem, leaves, weights, **keywords)
    expected = torch.autograd.grad(loss, leaves.tensors())
    assert learner.meta_backward(mamlkit.TaskBatch(*problem.tasks)).item() == pytest.approx(loss.item(), rel=1e-10)
    _, found = plain_learners.values_of(learner)
    assert oracles.relative_error(found.tensors(), expected) < 1e-8
    start, *_, end = learner.adapt(problem.tasks[0][0], problem.tasks[1][0])
    assert {key for key in end if not torch.equal(end[key], start[key])} == set(names)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("choice", CHOICES)
def test_reptile_moves_these_alone(choice, engine):
    problem = oracles.problem("mlp-cross-entropy")
    given, names = adapted(choice)
    learner = mamlkit.reptile(
        problem.module, adapted=given, inner_steps=K, inner_lr=problem.alpha, loss=problem.loss, engine=engine
    )
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    theta = {name: p.detach().clone().requires_grad_() for name, p in problem.module.named_parameters()}
    direction = {name: torch.zeros_like(value) for name, value in theta.items()}
    for x, y, _, _ in zip(*problem.tasks, strict=True):
        now = dict(theta)
        for _ in range(K):
            loss = problem.plain_loss(problem.forward(list(now.values()), x), y)
            slopes = torch.autograd.grad(loss, [now[n] for n in names])
            now |= {n: now[n] - problem.alpha * s for n, s in zip(names, slopes, strict=True)}
        direction = {n: d + (theta[n] - now[n]).detach() / len(problem.tasks[0]) for n, d in direction.items()}
    assert oracles.relative_error(oracles.gradients_of(problem.module), list(direction.values())) < 1e-10


def test_batch_norm_weights_of_each_step_are_not_adapted():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    learner = mamlkit.maml_plus_plus(model, adapted=lambda name: name.endswith("bias"), loss=F.mse_loss)
    assert set(learner.step_sizes.alpha) == {"0.bias", "3.bias"} and "1.bias" in learner.batch_norm.weight_names
    with pytest.raises(ValueError, match=r"^expected parameter names out of .* got '1\.bias'"):
        mamlkit.maml_plus_plus(model, adapted=["1.bias"], loss=F.mse_loss)


class LowRank(nn.Module):
    """A frozen layer and what is learned beside it, as LoRA has it (Hu et al., 2022)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_a, self.lora_b = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))

    def forward(self, x):
        return self.base(x) + x @ self.lora_a.T @ self.lora_b.T


@pytest.mark.parametrize("algorithm", [mamlkit.maml, mamlkit.meta_sgd])
def test_what_is_unfrozen_later_moves_where_adapted_says_so(algorithm):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(LowRank(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    model[2].requires_grad_(False)
    tasks, lora = mamlkit.TaskBatch(*plain_loop.tasks()), ["0.lora_a", "0.lora_b"]
    keywords = {"loss": F.mse_loss, "inner_steps": 2, "inner_lr": 0.1}
    learner = algorithm(model, adapted=lambda name: "lora_" in name, **keywords)
    model.requires_grad_(True)  # meta-learned from now on, and not adapted
    loss, gradient, _ = plain_loop.maml(model, tasks, F.mse_loss, adapted=lora)
    assert abs(learner.meta_backward(tasks).item() - loss) < 1e-10 and plain_loop.off(gradient, model) < 1e-8

    model.zero_grad()
    model[0].requires_grad_(False)
    both = algorithm(model, adapted=lambda name: "lora_" in name or "2." in name, **keywords)
    model.requires_grad_(True)
    if algorithm is mamlkit.meta_sgd:
        with pytest.raises(
            ValueError, match=r"^expected the parameters that had a step size .* got '0\.lora_a' unfrozen"
        ):
            both.meta_backward(tasks)
        return
    loss, gradient, _ = plain_loop.maml(model, tasks, F.mse_loss, adapted=[*lora, "2.weight", "2.bias"])
    assert abs(both.meta_backward(tasks).item() - loss) < 1e-10 and plain_loop.off(gradient, model) < 1e-8


class Halved(mamlkit.StepSizes):
    """Step sizes of one's own: smaller ones for biases."""

    def __init__(self, names):
        super().__init__()
        self.rates = {name: 0.05 if name.endswith("bias") else 0.1 for name in names}

    def forward(self, step):
        return self.rates


def test_step_sizes_are_made_for_what_is_adapted():
    problem = oracles.problem("mlp-cross-entropy")
    keywords = {"loss": problem.loss, "inner_steps": K, "adapted": lambda name: name.startswith("2.")}
    made = mamlkit.Learner(problem.module, step_sizes=lambda parameters: Halved(parameters), **keywords)
    assert made.step_sizes(0) == {"2.weight": 0.1, "2.bias": 0.05}
    names = [name for name, _ in problem.module.named_parameters()]
    given = mamlkit.Learner(problem.module, step_sizes=Halved(names), **keywords)  # has more, which stays unused
    path = [learner.adapt(problem.tasks[0][0], problem.tasks[1][0])[-1] for learner in (made, given)]
    assert all(torch.equal(path[0][name], path[1][name]) for name in names)
    assert torch.equal(path[1]["0.weight"], problem.module.get_parameter("0.weight"))
