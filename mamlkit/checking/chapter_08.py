"""Checks of chapter 8, learned step sizes. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from mamlkit.checking._cases import attempt_with_copies, expect, hessian, judge, normal, problem
from mamlkit.checking._report import as_tensor, close, correct, not_attempted, wrong

__all__ = ["check_beat", "check_best_shared", "check_by_alpha", "check_learn", "check_make"]

Loss = Callable[[Tensor], Tensor]


def check_best_shared(answer: Callable[..., Any]) -> None:
    """Exercise 8.1, the best step size for one step in a bowl, when all coordinates must share it.

    Args:
        answer: ``best_shared(h, d)``, curvatures ``(n,)`` and the start's distance from the minimum ``(n,)`` in, a number out.
    """
    cases = []
    for curvatures, distance in (
        ([0.5, 8.0], [-2.2, 0.8]),
        ([1.0, 3.0, 0.2], [0.7, -0.4, 2.0]),
        ([2.0, 2.5], [1.0, 1.5]),
    ):
        h, d = (torch.tensor(x, dtype=torch.float64) for x in (curvatures, distance))  # (n,) each
        truth = (h**2 * d**2).sum() / (h**3 * d**2).sum()
        mistakes = {
            "These are the best step sizes when each coordinate has its own; here all share one.": 1 / h,
            "This is best for the steepest coordinate alone: 1 / max(h). The others count too, a little.": 1 / h.max(),
            "This is the mean of the inverse curvatures: the steep coordinate has no say in it, and the step diverges along it.":
                (1 / h).mean(),
            "This is one over the mean curvature: the start matters as well, since a coordinate at its minimum needs no step.":
                1 / h.mean(),
            "The start has not entered: a coordinate counts by its gradient, h times d.": (h**2).sum() / (h**3).sum(),
            "This is upside down: it is the mean curvature along the gradient; the step size is its inverse.": 1 / truth,
            "There is one factor h too few in both sums: the derivative of h (1 - alpha h)^2 is -2 h^2 (1 - alpha h).":
                (h * d**2).sum() / (h**2 * d**2).sum(),
            "The distance enters squared: the loss does.": (h**2 * d.abs()).sum() / (h**3 * d.abs()).sum(),
            "The distance enters squared, and so without its sign: the loss does.": (h**2 * d).sum() / (h**3 * d).sum(),
            "This makes the worst coordinate shrink as fast as it can, whatever the start; here the start is known, and it is "
            "the sum of the losses that counts.":
                2 / (h.max() + h.min()),
            "This is where the loss is as high as at the start: twice the best step.": 2 * truth,
            "The sign is wrong: the step goes down the slope.": -truth,
        }  # fmt: skip
        cases.append(expect((h, d), truth, mistakes))
    judge(
        "8.1",
        answer,
        cases,
        "Steep coordinates outvote flat ones; with one rate per coordinate nobody would have to vote.",
    )


def check_by_alpha(answer: Callable[..., Any]) -> None:
    """Exercise 8.2, the derivative of the final query loss with respect to every entry's step size in every step.

    Args:
        answer: ``by_alpha(support_loss, query_loss, path, alpha)``, with ``path`` the list theta^(0), ..., theta^(K) and
            ``alpha`` ``(K, n)``; it gives ``(K, n)``.
    """
    cases = []
    for steps, seed in ((3, 4), (2, 2), (1, 1)):
        alpha = 0.05 + 0.25 * torch.rand(steps, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        support, query, _ = problem(0.1, 1, seed=seed)
        path = [normal(3, seed=60 + seed)]
        for rates in alpha:
            path.append(path[-1] - rates * grad(support)(path[-1]))
        slopes = [grad(support)(point) for point in path]
        hessians = [hessian(support)(point) for point in path]
        last = grad(query)(path[-1])

        def back(
            matrices: Sequence[Tensor] = hessians,
            rates: Sequence[Tensor] | Tensor = alpha,
            slopes: Sequence[Tensor] = slopes,
            last: Tensor = last,
            *,
            outside: bool = False,
            late: bool = True,
        ) -> Tensor:
            """The terms -g_k * lambda_(k+1); outside: the rates multiply H lambda, not lambda; late: before lambda moves on."""
            adjoint, rows = last, []
            for k in reversed(range(len(rates))):
                before = adjoint
                pulled = rates[k] * (matrices[k] @ adjoint) if outside else matrices[k] @ (rates[k] * adjoint)
                adjoint = adjoint - pulled
                rows.append(-slopes[k] * (before if late else adjoint))
            return torch.stack(rows[::-1])  # (K, n)

        truth = back()
        mistakes = {
            "The sign is wrong: alpha enters each step as minus alpha times g_k.": -truth,
            "Step k is paired with lambda_(k+1), the adjoint of the point it leads to; here it is lambda_k.": back(late=False),
            "Every step has the query gradient lambda_K: go back through the later steps first.":
                -torch.stack(slopes[:-1]) * last,
            "alpha stands on the wrong side of the Hessian: first the rates, then H, so it is H (alpha * lambda).":
                back(outside=True),
            "The step size is missing on the way back: it is H (alpha * lambda), with the rates of that step.":
                back(rates=torch.ones_like(alpha)),
            "The way back always has the rates of the first step: step k has alpha[k].":
                back(rates=[alpha[0]] * steps),
            "Every Hessian is taken at theta; step k starts at theta^(k).":
                back([hessians[0]] * steps),
            "Each Hessian is taken where its step ends; it belongs where the step starts, at theta^(k).":
                back(hessians[1:]),
            "The support gradient is taken where the step ends; g_k is at theta^(k), where it starts.":
                back(slopes=slopes[1:]),
            "The rows are in the wrong order: row k belongs to step k, and the recursion runs backwards.": truth.flip(0),
            "There is a factor alpha too many: the derivative of -alpha g_k with respect to alpha is -g_k.": alpha * truth,
            "The entries are added up: with a rate for each entry and step there is a derivative for each.": truth.sum(1),
            "Each row has the sum over its entries, as in LSLR; here each entry has a rate of its own.":
                truth.sum(1, keepdim=True).expand_as(truth),
            "The steps are added up: with a rate for each entry and step there is a derivative for each.": truth.sum(0),
            "Everything is added up: that is the derivative with respect to one alpha that all share.": truth.sum(),
        }  # fmt: skip
        cases.append(expect((support, query, path, alpha), truth, mistakes))
    judge("8.2", answer, cases, "Added up over a tensor it is LSLR's derivative, over everything that of one alpha.")


def check_make(answer: Callable[..., Any]) -> None:
    """Exercise 8.3, the step sizes of LSLR for a model's parameters.

    Args:
        answer: ``make_step_sizes(parameters, rate, K)``, a dict of tensors in, a dict of ``(K,)`` tensors out that an optimiser
            can train.
    """
    parameters = {
        "0.weight": torch.ones(4, 2, dtype=torch.float64),
        "0.bias": torch.ones(4, dtype=torch.float64),
        "2.weight": torch.ones(3, 4, dtype=torch.float64),
    }
    for rate, K in ((0.1, 5), (0.03, 3)):
        done, sizes = attempt_with_copies("8.3", answer, parameters, rate, K)
        if not done:
            return
        if what := _fault(sizes, parameters, rate, K):
            wrong("8.3", what)
            return
    correct("8.3", "One rate per tensor and step: for a model with 10 tensors and K = 5, fifty numbers.")


def _fault(sizes: Any, parameters: Mapping[str, Tensor], rate: float, K: int) -> str | None:
    """What is wrong with these step sizes, in words."""
    if not isinstance(sizes, Mapping) and not hasattr(sizes, "items"):
        return f"A dict from parameter name to step sizes was expected, this is {type(sizes).__name__}."
    named = {str(name): value for name, value in sizes.items()}
    if set(named) != set(parameters):
        return f"The names are to be those of the parameters, {', '.join(parameters)}; these are {', '.join(named)}."
    tensors: list[Tensor] = []
    for name, value in named.items():
        if not isinstance(value, Tensor):
            return f"{name}: a tensor was expected, this is {type(value).__name__}: an optimiser cannot train it."
        shape, full = tuple(value.shape), tuple(parameters[name].shape)
        if shape == ():
            return f"{name}: this is one rate for all steps; return one for each of the {K} steps, shape ({K},)."
        if shape in (full, (K, *full)) and shape != (K,):
            return f"{name}: this is a rate for every entry, as in Meta-SGD; LSLR has one per tensor and step, shape ({K},)."
        if shape != (K,):
            return f"{name}: shape ({K},) was expected, one rate per step; this has {shape}."
        if 0 in value.stride():  # expand: one number, seen K times
            return (
                f"{name}: the {K} rates share one cell of memory (expand does not copy), and the optimiser's step fails: "
                "make K numbers, as torch.full does."
            )
        if not value.requires_grad:
            return f"{name}: requires_grad is False, so that no gradient would ever reach it."
        if not value.is_leaf:
            return (
                f"{name}: this is no leaf tensor (it was computed from another), and an optimiser takes leaves only: "
                "set requires_grad_() last, or wrap it in nn.Parameter."
            )
        if not torch.allclose(value.detach().double().cpu(), torch.full((K,), rate, dtype=torch.float64), rtol=1e-5):
            return f"{name}: every rate is to start at {rate}."
        if any(value is other or value.data_ptr() == other.data_ptr() for other in tensors):
            return "Two parameters share one and the same tensor: training one rate would change the other. Make one for each."
        tensors.append(value)
    return None


def check_learn(answer: Callable[..., Any]) -> None:
    """Exercise 8.4, three mistakes in a program that is meant to learn its step sizes.

    Args:
        answer: ``learn(train_tasks, test_task, theta, rate, K, beta, outer_steps)``, with tasks as pairs of support and query
            loss; it gives the learned rates ``(K,)`` and the query loss of the test task after adaptation.
    """
    exercise = "8.4"
    seen = []
    for seed, beta, outer_steps in (
        (1, 0.03, 6),
        (2, 0.03, 6),
        (2, 0.3, 8),
        (3, 0.3, 8),
    ):  # in the last two rates leave [0, 1]
        train_tasks, test_task, theta = _tasks(seed)
        settings = (0.1, 2, beta, outer_steps)  # rate, K, beta, outer_steps
        done, pair = attempt_with_copies(exercise, answer, train_tasks, test_task, theta, *settings)
        if not done:
            return
        if isinstance(pair, Tensor) or not isinstance(pair, Sequence) or len(pair) != 2:
            wrong(exercise, "Return two things: the learned rates, and the query loss of the test task.")
            return
        if all(value is None or value is ... for value in pair):
            not_attempted(exercise)
            return
        alpha, loss = (as_tensor(value) for value in pair)
        if alpha is None or loss is None or alpha.squeeze().shape != (settings[1],) or loss.squeeze().shape != ():
            wrong(
                exercise, f"Return the rates, shape ({settings[1]},), and one number, the query loss of the test task."
            )
            return
        grad_of_alpha = pair[0].grad if isinstance(pair[0], Tensor) and pair[0].is_leaf else None
        runs = {
            (frozen, ignored): _learn(train_tasks, test_task, theta, *settings, frozen=frozen, ignored=ignored)
            for frozen, ignored in product((False, True), repeat=2)
        }
        seen.append((alpha, loss, runs, grad_of_alpha))

    def fits(frozen: bool, ignored: bool) -> bool:
        return all(
            close(alpha, runs[frozen, ignored][0]) and close(loss, runs[frozen, ignored][1])
            for alpha, loss, runs, _ in seen
        )

    rates = [(alpha, runs[False, False][0]) for alpha, _, runs, _ in seen]  # the reader's and the right ones
    if fits(False, False):
        correct(exercise, "The rates are trained with theta, and used at test.")
    elif fits(False, True):
        wrong(
            exercise,
            "The rates are learned now, but thrown away at test: the test task is still adapted with the first rate.",
        )
    elif fits(True, True):  # with rates that never moved, using them at test changes nothing
        reached = any(gradient is not None for *_, gradient in seen)
        hint = "a gradient reaches them, so the optimiser does not have them" if reached else (
            "either no gradient reaches them, because they are detached where they are used, or the optimiser does not have them"
        )  # fmt: skip
        wrong(exercise, f"The rates have not moved: {hint}. Two mistakes can hide each other: look at both places.")
    elif all(close(alpha, truth) for alpha, truth in rates):
        wrong(
            exercise,
            "The rates are right, the test loss is not: adapt theta to the test task's support loss with alpha[k] in step k.",
        )
    elif all(close(alpha, truth) for alpha, truth in rates if truth.min() >= 0 and truth.max() <= 1):
        wrong(
            exercise,
            "All is well while the learned rates stay between 0 and 1. Where a right rate becomes negative or larger than 1, "
            "yours differ: is there a bound on them?",
        )
    else:
        wrong(
            exercise,
            "The rates differ from those of MAML with learned rates: keep the second order, the mean over tasks, "
            "plain SGD with beta for theta and alpha together, no bound on the rates, and all outer steps.",
        )


def _tasks(seed: int) -> tuple[tuple[tuple[Loss, Loss], ...], tuple[Loss, Loss], Tensor]:
    """Three training tasks and a test task: bowls, flatter further out, each with two minima close by."""
    h = torch.tensor([0.5, 4.0, 2.0], dtype=torch.float64)  # (3,)

    def bowl(centre: Tensor) -> Loss:
        def loss(theta: Tensor) -> Tensor:
            return (h.to(theta.dtype) * torch.log(torch.cosh(theta - centre.to(theta.dtype)))).sum()

        return loss

    centres = normal(4, 3, seed=80 + seed)  # (tasks, 3)
    shifts = 0.2 * normal(4, 3, seed=90 + seed)  # (tasks, 3)
    pairs = [(bowl(c), bowl(c + s)) for c, s in zip(centres, shifts, strict=True)]
    return tuple(pairs[:3]), pairs[3], normal(3, seed=70 + seed)


def _learn(
    train_tasks: Sequence[tuple[Loss, Loss]],
    test_task: tuple[Loss, Loss],
    theta: Tensor,
    rate: float,
    K: int,
    beta: float,
    outer_steps: int,
    *,
    frozen: bool,
    ignored: bool,
) -> tuple[Tensor, Tensor]:
    """The right program; ``frozen``: the rates are never trained, ``ignored``: the test does without them."""
    start, alpha = theta.clone().requires_grad_(), torch.full((K,), rate, dtype=torch.float64, requires_grad=True)

    def adapted(point: Tensor, support: Loss, rates: Sequence[Any] | Tensor) -> Tensor:
        for k in range(K):
            (g,) = torch.autograd.grad(support(point), point, create_graph=True)
            point = point - rates[k] * g
        return point

    for _ in range(outer_steps):
        losses = [query(adapted(start, support, alpha)) for support, query in train_tasks]
        by_start, by_alpha = torch.autograd.grad(torch.stack(losses).mean(), [start, alpha])
        with torch.no_grad():
            start -= beta * by_start
            if not frozen:
                alpha -= beta * by_alpha
    support, query = test_task
    loss = query(adapted(start, support, [rate] * K if ignored else alpha))
    return alpha.detach(), loss.detach()


CURVATURES, LEFT = (0.5, 8.0, 2.0), 0.02


def check_beat(answer: Callable[..., Any]) -> None:
    """Exercise 8.5, rates that leave less of the loss after one step than any common one.

    Args:
        answer: ``learn_rates(tasks, theta, rate)``, with tasks as pairs of support and query loss; it gives ``(n,)``.
    """
    exercise, h, rate = "8.5", torch.tensor(CURVATURES, dtype=torch.float64), 0.02

    def bowl(centre: Tensor) -> Loss:
        return lambda theta: 0.5 * (h.to(theta.dtype) * (theta - centre.to(theta.dtype)) ** 2).sum()

    centres = normal(24, 3, seed=200) * torch.tensor([2.2, 0.8, 1.0], dtype=torch.float64)  # (tasks, 3)
    theta, tasks = normal(3, seed=201) / 10, tuple((bowl(c), bowl(c)) for c in centres[:8])
    done, value = attempt_with_copies(exercise, answer, tasks, theta, rate)
    if not done:
        return
    alpha = as_tensor(value)
    if alpha is None or alpha.squeeze().shape != theta.shape:
        wrong(exercise, f"One rate for each of the {len(theta)} entries of theta was expected, shape ({len(theta)},).")
        return
    alpha, distance = alpha.squeeze(), theta - centres[8:]  # (new tasks, 3)

    def left(rates: Tensor) -> float:
        after = (1 - rates * h) * distance
        return ((h * after**2).sum() / (h * distance**2).sum()).item()

    shared = (h**2 * distance**2).sum() / (h**3 * distance**2).sum()  # the best common rate
    common, share = left(shared.expand(3)), left(alpha)
    says = f"they leave {100 * share:.1f} per cent of the loss of new tasks"
    if share > 100:  # a diverged rate would print hundreds of digits
        says = "they leave more than 100 times the loss of new tasks"
    if share <= LEFT:
        correct(exercise, f"Your rates leave {100 * share:.1f} per cent, the best common one {100 * common:.1f}.")
    elif not bool(alpha.isfinite().all()):
        wrong(exercise, "A rate is no finite number: the outer steps were too long for the steep entry.")
    elif close(alpha, torch.full_like(alpha, rate)):
        wrong(exercise, f"The rates are still at their start; {says}.")
    elif close(alpha, alpha.mean().expand(3)):
        wrong(exercise, f"All rates are equal; {says}, and no common rate leaves less than {100 * common:.1f}.")
    elif share > 1:
        wrong(exercise, f"The step makes things worse: {says}. A rate beyond 2 / h makes its entry run away.")
    else:
        parts = (h * ((1 - alpha * h) * distance) ** 2).sum(0)  # (3,)
        entry = int(parts.argmax())
        side = "small" if alpha[entry] * h[entry] < 1 else "large"
        wrong(exercise, f"Not there yet: {says}. Most of that is along entry {entry}, whose rate is too {side}.")
