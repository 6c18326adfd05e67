"""Checks of chapter 7, the multi-step loss. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from mamlkit.checking._cases import expect, hessian, judge, normal, problem
from mamlkit.checking._report import attempt, correct, wrong
from mamlkit.outer_loss import AnnealedMultiStep, FinalStep

__all__ = ["check_flip", "check_gradient", "check_loop", "check_meta_loss", "check_weights"]

FLOOR = AnnealedMultiStep.floor


def check_weights(answer: Callable[..., Any]) -> None:
    """Exercise 7.1, the annealed weights of one epoch.

    Args:
        answer: ``annealed_weights(K, epoch, epochs)``, whole numbers in, ``(K,)`` out.
    """
    cases = []
    for K, e, E in ((5, 39, 40), (5, 5, 10), (4, 10, 10), (3, 12, 10), (2, 1, 3), (5, 0, 10)):
        truth = AnnealedMultiStep(E).weights(K, e)
        fall, floor = 1 / K - e / (K * E), FLOOR / K
        rise = 1 / K + e * (K - 1) / (K * E)
        over = e >= E

        def row(early: float, last: float, over: bool = over, K: int = K) -> Tensor:
            return FinalStep().weights(K) if over else torch.tensor([early] * (K - 1) + [last], dtype=torch.float64)

        def annealing(early: float, last: float, K: int = K) -> Tensor:
            return row(early, last, over=False, K=K)

        last = min(rise, 1 - (K - 1) * floor)
        mistakes = {
            "The floor is missing: before epoch E an early step keeps at least 0.03/K.": row(fall, rise),
            "The floor is 0.03/K for each early step, not 0.03.": row(max(fall, FLOOR), min(rise, 1 - (K - 1) * FLOOR)),
            "The floor lifts the early weights, but the last one is not held down in return: the sum is above 1.":
                row(max(fall, floor), rise),
            "From epoch E on only the last step counts; here the early ones keep their floor.":
                annealing(max(fall, floor), last),
            "Epoch E itself is one too many: from epoch E on (e >= E) only the last step counts.":
                annealing(max(fall, floor), last) if e == E else truth,
            "The floor is missing, and so is the end: from epoch E on only the last step counts.": annealing(fall, rise),
            "The weights stand in the wrong order: it is the last step's that grows.": truth.flip(0),
            "This is the plain mean, 1/K for each step in every epoch: nothing is annealed.": torch.full((K,), 1 / K),
            "This is the last step alone, in every epoch: MAML.": FinalStep().weights(K),
            "An early weight falls by 1/(K E) each epoch, from 1/K towards 0; here it falls by 1/E.":
                row(max(1 / K - e / E, floor), min(1 - (K - 1) * (1 / K - e / E), 1 - (K - 1) * floor)),
            "The last weight does not grow: what the early steps lose, it gets.": row(max(fall, floor), 1 / K),
            "The weights sum to K instead of 1.": K * truth,
            "Epochs are counted from 0: this is the next epoch's row.": AnnealedMultiStep(E).weights(K, e + 1),
        }  # fmt: skip
        cases.append(expect((K, e, E), truth, mistakes))
    judge("7.1", answer, cases, "The rows sum to 1. With E of 33 or less the floor is never reached: see E = 40.")


def check_flip(answer: Callable[..., Any]) -> None:
    """Exercise 7.2, the first epoch in which the annealed loss prefers trajectory B.

    Args:
        answer: ``flip_epoch(losses_a, losses_b, epochs)``, two ``(K,)`` and E in, a whole number out.
    """
    cases = []
    for a, b, E in (
        ([1.2, 0.3, 1.8, 1.5, 0.8], [2.1, 1.8, 1.3, 0.9, 0.6], 10),
        ([0.9, 0.2, 0.5], [2.9, 2.5, 0.48], 100),
        ([1.0, 0.8], [1.6, 0.5], 5),
        ([1.0, 0.6, 0.7, 0.7], [1.5, 1.2, 0.8, 0.5], 15),
    ):
        pair = torch.tensor([a, b], dtype=torch.float64)  # (2, K)
        truth = _flip(pair, E)
        steps = pair.shape[1]
        start, end = pair.mean(1), pair[:, -1]  # (2,) each: weighted losses in epoch 0, and from E on
        gap, final_gap = (start[0] - start[1]).item(), (end[0] - end[1]).item()
        without_floor = next(
            e for e in range(E + 1)
            if (pair[0] - pair[1]) @ (start.new_full((steps,), (1 - e / E) / steps) + e / E * FinalStep().weights(steps)) > 0
        )  # fmt: skip
        mistakes = {
            "This is the last epoch in which A is preferred; return the next one.": truth - 1,
            "This is one too many: epochs are counted from 0.": truth + 1,
            "This is E, when only the last step counts; B can be preferred earlier.": E,
            "This leaves out the floor: the early steps keep 0.03/K until annealing ends.": without_floor,
            "This is the first epoch in which A is preferred; return that of B.": _flip(pair.flip(0), E),
            "This is where the two lines cross; return the first whole epoch after it.":
                E * gap / (gap - final_gap),
            "This is the step, not the epoch, from which B is lower.": _first_step(pair),
            "This is the step, counted from 0, from which B is lower: compare weighted losses, an epoch at a time.":
                _first_step(pair) - 1,
        }  # fmt: skip
        cases.append(expect((pair[0], pair[1], E), truth, mistakes, _no_epoch if truth == E else None))
    returned: list[Any] = []

    def epoch_of(*arguments: Any) -> Any:
        """The answer, with nan for a loop that ends without one, where an earlier case had one."""
        returned.append(answer(*arguments))
        return float("nan") if returned[-1] is None and returned[0] is not None else returned[-1]

    judge(
        "7.2",
        epoch_of if callable(answer) else answer,
        cases,
        "From that epoch on the weights agree with the last step.",
    )


def check_meta_loss(answer: Callable[..., Any]) -> None:
    """Exercise 7.3, the annealed multi-step loss of a meta-batch.

    Args:
        answer: ``meta_loss(losses, outer_step, steps_per_epoch, epochs)``, with ``losses`` ``(K + 1, tasks)``, giving a number.
    """
    cases = []
    for K, tasks, outer_step, steps_per_epoch, E in (
        (5, 3, 1700, 500, 10),
        (3, 4, 40, 8, 12),
        (4, 2, 130, 10, 10),
        (2, 3, 2, 5, 3),
    ):
        losses = normal(K + 1, tasks, seed=80 + K).abs() + 0.1  # (K + 1, tasks)
        annealed, epoch = AnnealedMultiStep(E), outer_step // steps_per_epoch
        weights, after = annealed.weights(K, epoch), losses[1:]

        def weighed(weights: Tensor, after: Tensor = after) -> Tensor:
            return (weights @ after).mean()

        truth = weighed(weights)
        mistakes = {
            "This is the sum over the tasks; the meta-batch takes their mean.": (weights @ after).sum(),
            "This is divided by K as well; the weights sum to 1 already.": truth / K,
            "This is the sum over steps and tasks without weights.": after.sum(),
            "Outer steps are counted where epochs are meant: the epoch is outer_step // steps_per_epoch.":
                weighed(annealed.weights(K, outer_step)),
            "The epoch is rounded up: count the epochs that are over, outer_step // steps_per_epoch.":
                weighed(annealed.weights(K, -(-outer_step // steps_per_epoch))),
            "The loss before adaptation is in it: entry 0 of losses has no weight.":
                (annealed.weights(K + 1, epoch) @ losses).mean(),
            "The weights are one step off: the first belongs to the loss after step 1, which is entry 1 of losses.":
                weighed(weights, losses[:-1]),
            "The weights stand in the wrong order.": weighed(weights.flip(0)),
            "This is the plain mean over the steps; the weights of the epoch are missing.": after.mean(),
            "This is the mean over all of losses, the one before adaptation included, without weights.": losses.mean(),
            "Only the last step counts here: this is MAML's loss.": losses[-1].mean(),
            "Epochs are counted from 0: this is the next epoch's loss.": weighed(annealed.weights(K, epoch + 1)),
            "This is one number per task; take their mean.": weights @ after,
            "This is one number per step; weigh them and add them up.": after.mean(1),
        }  # fmt: skip
        cases.append(expect((losses.requires_grad_(), outer_step, steps_per_epoch, E), truth, mistakes))
    if not judge("7.3", answer, cases, None):
        return
    done, loss = attempt("7.3", answer, *cases[0].arguments)
    if not done:
        return
    loss = loss[0] if isinstance(loss, (list, tuple)) else loss
    if isinstance(loss, Tensor) and loss.requires_grad:
        correct("7.3", "A weighted sum over the steps, a mean over the tasks, and epochs, not outer steps.")
    else:
        wrong(
            "7.3",
            "The number is right, but it is no tensor with a graph, and the training loop must differentiate it: no item().",
        )


def check_gradient(answer: Callable[..., Any]) -> None:
    """Exercise 7.4, the gradient of the multi-step loss of one task.

    Args:
        answer: ``multi_step_gradient(support_loss, query_loss, theta, alpha, weights)``, with ``theta`` ``(n,)`` and ``weights``
            ``(K,)``, giving ``(n,)``.
    """
    cases = []
    for alpha, weights in ((0.2, [0.2, 0.3, 0.1, 0.4]), (0.3, [0.6, 0.4]), (0.1, [0.1, 0.2, 0.7])):
        w = torch.tensor(weights, dtype=torch.float64)  # (K,)
        K = len(w)
        support, query, path = problem(alpha, K, seed=K)
        hessians = [hessian(support)(point) for point in path]  # K + 1 times (n, n)
        queries = [grad(query)(point) for point in path]  # K + 1 times (n,)
        supports = [grad(support)(point) for point in path]  # K + 1 times (n,)

        def back(g: Tensor, which: Sequence[int], hessians: list[Tensor] = hessians, alpha: float = alpha) -> Tensor:
            for k in reversed(which):  # the rightmost factor meets g first
                g = g - alpha * hessians[k] @ g
            return g

        def total(
            factors: Callable[[int], Sequence[int]],
            gradients: Sequence[Tensor] = queries,
            w: Tensor = w,
            back: Callable[..., Tensor] = back,
        ) -> Tensor:
            return torch.stack([w[k - 1] * back(gradients[k], factors(k)) for k in range(1, len(w) + 1)]).sum(0)

        truth = total(range)
        mistakes = {
            "The weights are missing: this is the sum of the K meta-gradients.": total(range, w=torch.ones_like(w)),
            "This is the plain mean of the K meta-gradients; weigh them.": total(range, w=torch.full_like(w, 1 / K)),
            "Only the last step counts here: this is MAML's gradient.": back(queries[K], range(K)),
            "Only the last step's term is there, with its weight; add those of the other steps.":
                w[-1] * back(queries[K], range(K)),
            "The last step's term is missing.": total(range) - w[-1] * back(queries[K], range(K)),
            "There are no factors: each term goes back to theta through those of the steps before it.": total(lambda k: []),
            "Every term goes through all K factors; the term of step k passes only those of the steps before it.":
                torch.stack([w[k - 1] * back(queries[k], range(K)) for k in range(1, K + 1)]).sum(0),
            "Each term has one factor too many: the query gradient at theta^(k) does not pass the step that starts there.":
                torch.stack([w[k - 1] * back(queries[k], range(k + 1 if k < K else k)) for k in range(1, K + 1)]).sum(0),
            "The first step's factor, with the Hessian at theta^(0), is missing.": total(lambda k: range(1, k)),
            "The query gradient at theta^(k) joins before the factor of the step that led to theta^(k), not after it.":
                total(lambda k: range(k - 1)),
            "Each Hessian is taken where its step ends; the step that leads to theta^(k) starts at theta^(k-1).":
                total(lambda k: range(1, k + 1)),
            "Every Hessian is taken at theta^(K), where no step starts.": total([[K] * k for k in range(K + 1)].__getitem__),
            "Each term has its Hessians at theta^(k), where its loss is; each step has its own, where it starts.":
                total(lambda k: [k] * k),
            "Each query gradient is taken where the step starts; the loss of step k is at theta^(k), where it ends.":
                total(range, [queries[0], *queries[:-1]]),
            "Every query gradient is taken at theta^(K); the one of step k belongs at theta^(k).":
                total(range, [queries[-1]] * (K + 1)),
            "Every query gradient is taken at theta; the one of step k belongs at theta^(k).":
                total(range, [queries[0]] * (K + 1)),
            "The weights stand in the wrong order: the first belongs to the loss after one step.": total(range, w=w.flip(0)),
            "The weights are one step off: the first belongs to the loss after one step, not before adaptation.":
                torch.stack([w[k] * back(queries[k], range(k)) for k in range(K)]).sum(0),
            "Every Hessian is taken at theta; each belongs where its own step starts.": total(lambda k: [0] * k),
            "These are gradients of the support loss; the query loss judges every step.": total(range, supports),
            "This is the weighted sum of the query losses, not its gradient.":
                torch.stack([w[k - 1] * query(path[k]) for k in range(1, K + 1)]).sum(),
            "The sign is wrong: give the gradient itself.": -truth,
        }  # fmt: skip
        cases.append(expect((support, query, path[0].clone(), alpha, w), truth, mistakes))
    judge("7.4", answer, cases, "It is the weighted sum of K meta-gradients, each with the factors of its own steps.")


def _no_epoch(value: Tensor) -> str:
    """What is wrong with a result where only epoch E is right."""
    if value.isnan().any():
        return "In one test no epoch was returned: in epoch E at the latest B is lower."
    return f"In one test epoch E is right, and this gives {value.flatten().tolist()}."


def _flip(pair: Tensor, epochs: int) -> int:
    """The first epoch in which the second trajectory of ``(2, K)`` weighs less; E where there is none before."""
    annealed, steps = AnnealedMultiStep(epochs), pair.shape[1]
    weighed = [(pair @ annealed.weights(steps, e)).tolist() for e in range(epochs)]
    return next((e for e, (a, b) in enumerate(weighed) if b < a), epochs)


def _first_step(pair: Tensor) -> int:
    """The first step, counted from 1, from which the second trajectory is lower to the end."""
    lower = (pair[1] < pair[0]).tolist()
    return next(k for k in range(1, len(lower) + 1) if all(lower[k - 1 :]))


def check_loop(answer: Callable[..., Any]) -> None:
    """Exercise 7.5, three mistakes in a training loop with the annealed multi-step loss.

    Args:
        answer: ``train(tasks, theta, alpha, K, E, epoch_length, outer_steps, beta)``, with tasks as pairs of support and query
            loss; it gives the trained theta ``(n,)``.
    """
    faults = {
        "by_step": "the weights are those of the outer step, where the number of the epoch is meant",
        "before": "the first weight belongs to the loss after one inner step, not before it",
        "first_order": "the inner gradient has no graph, so this is the first-order gradient",
    }
    cases = []
    for seed, alpha, K, E, epoch_length, outer_steps in ((1, 0.2, 3, 4, 3, 11), (2, 0.15, 4, 5, 2, 8)):
        tasks = tuple(problem(alpha, 1, seed=10 * seed + i)[:2] for i in range(3))
        theta = normal(3, seed=170 + seed)
        settings = (alpha, K, E, epoch_length, outer_steps, 0.05)
        mistakes = {}
        for flags in product((False, True), repeat=3):
            left = dict(zip(faults, flags, strict=True))
            names = [faults[name] for name, on in left.items() if on]
            if names:
                count = {1: "One mistake is", 2: "Two mistakes are", 3: "All three mistakes are"}[len(names)]
                mistakes[f"{count} left: {'; '.join(names)}."] = _train(tasks, theta, *settings, **left)
        truth = _train(tasks, theta, *settings)
        mistakes |= {
            "The tasks are added up; the meta-batch takes their mean.": _train(tasks, theta, *settings, adds=True),
            "Theta has not moved: give back the one that was trained.": theta,
            "The weights never change: every epoch has its own.": _train(tasks, theta, *settings, constant=True),
        }
        cases.append(expect((tasks, theta.clone(), *settings), truth, mistakes))
    judge("7.5", answer, cases, "Epochs, losses after the steps, and the second order.")


def _train(
    tasks: Sequence[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]],
    theta: Tensor,
    alpha: float,
    K: int,
    E: int,
    epoch_length: int,
    outer_steps: int,
    beta: float,
    *,
    by_step: bool = False,
    before: bool = False,
    first_order: bool = False,
    adds: bool = False,
    constant: bool = False,
) -> Tensor:
    """Exercise 7.5's program, right or with some of its mistakes."""
    for step in range(outer_steps):
        epoch = 0 if constant else step if by_step else step // epoch_length
        weights, point = AnnealedMultiStep(E).weights(K, epoch), theta.clone().requires_grad_()
        losses = []
        for support, query in tasks:
            w, total = point, torch.zeros((), dtype=theta.dtype)
            for weight in weights:
                here = w
                (g,) = torch.autograd.grad(support(w), w, create_graph=True)
                w = w - alpha * (g.detach() if first_order else g)
                total = total + weight * query(here if before else w)
            losses.append(total)
        share = torch.stack(losses).sum() / (1 if adds else len(tasks))
        theta = theta - beta * torch.autograd.grad(share, point)[0]
    return theta
