"""Checks of chapter 6, what goes wrong. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from mamlkit.checking._cases import expect, hessian, judge, normal

__all__ = ["check_careful", "check_compare", "check_kinds", "check_largest_rate", "check_seen", "kinds"]

# Student's t with four degrees of freedom (five seeds), 95 %: close enough to 2.776 and to 2.776445 for both to be right.
STUDENT_T = 2.7762


def check_seen(answer: Callable[..., Any]) -> None:
    """Exercise 6.1, what MAML and equal weights see of one trajectory.

    Args:
        answer: ``seen(losses)``, with ``losses`` ``(K + 1,)``, the start first; it gives two numbers.
    """
    cases = []
    for values in (
        [2.5, 1.2, 0.3, 1.8, 1.5, 0.8],
        [0.4, 0.9, 0.7, 0.2, 0.35],
        [3.0, 1.1, 1.6, 0.9, 0.8, 1.2, 0.7, 0.6],
    ):
        losses = torch.tensor(values, dtype=torch.float64)  # (K + 1,)
        last, after = losses[-1], losses[1:]

        def pair(maml: Tensor, equal: Tensor) -> Tensor:
            return torch.stack([maml, equal])

        mistakes = {
            "The start is in the mean: it is the loss before any step; average over the K steps.": pair(last, losses.mean()),
            "This is the sum over the steps; equal weights are 1/K each.": pair(last, after.sum()),
            "This is the sum, and the start is in it; return the mean over the K steps.": pair(last, losses.sum()),
            "The sum over the steps is divided by K + 1; there are K steps.": pair(last, after.sum() / len(losses)),
            "The last step is missing from the mean, and the start is in it.": pair(last, losses[:-1].mean()),
            "The last step is missing from the mean.": pair(last, losses[1:-1].mean()),
            "MAML sees the last loss, not the smallest on the way.": pair(losses.min(), after.mean()),
            "MAML sees the loss after the last step, not the one after the first.": pair(after[0], after.mean()),
            "MAML sees the loss after the last step, not the start.": pair(losses[0], after.mean()),
            "MAML sees the last loss alone, not the gain since the start.": pair(losses[0] - last, after.mean()),
            "The order is the other way round: first what MAML sees.": pair(after.mean(), last),
            "This is the median of the steps; equal weights give their mean.": pair(last, after.quantile(0.5)),
        }  # fmt: skip
        cases.append(expect((losses,), pair(last, after.mean()), mistakes))
    judge("6.1", answer, cases, "The last one, and the mean of the K steps without the start.")


def kinds(losses: Tensor) -> Tensor:
    """The rule of chapter 6, for the chapter, which leaves writing it to exercise 6.2.

    Args:
        losses: query losses ``(K + 1, tasks)``, the start first.

    Returns:
        For each task 0 if it learns, 1 if it overshoots, also by a loss that is no number, 2 if it is slow: ``(tasks,)``.
    """
    start, last, lowest = losses[0], losses[-1], losses.cummin(0).values
    over = ~((losses[1:] - lowest[:-1]).amax(0) <= 0.1 * start)  # (tasks,)
    return torch.where(over, 1, torch.where(last > 0.5 * start, 2, 0))


def check_kinds(answer: Callable[..., Any]) -> None:
    """Exercise 6.2, which tasks learn (0), overshoot (1) and are slow (2).

    Args:
        answer: ``kinds(losses)``, with ``losses`` ``(K + 1, tasks)``; it gives ``(tasks,)``.
    """
    nan, inf = float("nan"), float("inf")
    columns = [  # one task each, the start first
        [2.0, 1.0, 0.5, 0.3, 0.2],  # learns
        [2.0, 0.3, 0.9, 0.6, 0.2],  # overshoots below its start
        [2.0, 1.9, 1.8, 1.6, 1.5],  # slow
        [2.0, 0.5, 0.59, 0.68, 0.77],  # overshoots in small rises
        [2.0, 0.10, 0.15, 0.12, 0.11],  # a rise that is small against the start
        [1.0, 0.9, 1.3, 0.9, 0.8],  # overshoots, and ends above half
        [1.0, 0.3, 0.38, 0.35, 0.2],  # learns
        [2.0, 0.5, 0.51, 0.4, 0.3],  # learns, with a tiny rise
        [2.0, 0.8, 0.9, 0.95, 0.98],  # learns: just below half
        [1.0, 0.45, 0.50, 0.52, 0.54],  # slow: above half at the end, not at its lowest
        [2.0, 1.0, 0.5, 0.8, 0.3],  # overshoots by a little more than a tenth
        [1.0, 1.3, 0.9, 0.5, 0.3],  # overshoots in its first step, above its start
        [10.0, 4.0, 5.0, 4.5, 5.0],  # learns: exactly a tenth, and exactly half, are not more than these
    ]
    broken = [[1.0, 0.2, 3.0, inf, nan], [1.0, 0.3, nan, nan, nan]]  # overshoots
    cases = []
    for table in (columns, columns[::-1] + broken):
        losses = torch.tensor(table, dtype=torch.float64).T  # (K + 1, tasks)
        start, last, lowest = losses[0], losses[-1], losses.cummin(0).values
        rise = losses[1:] - lowest[:-1]  # (K, tasks)
        over, half = ~(rise.amax(0) <= 0.1 * start), last > 0.5 * start
        from_start = ~(losses[1:] <= 1.1 * start).all(0)
        one_step = ~((losses[1:] - losses[:-1]).amax(0) <= 0.1 * start)
        of_lowest = ~(losses[1:] <= 1.1 * lowest[:-1]).all(0)
        after_one = ~((losses[2:] - losses[1:].cummin(0).values[:-1]).amax(0) <= 0.1 * start)

        def code(over: Tensor, slow: Tensor) -> Tensor:
            return torch.where(over, 1, torch.where(slow, 2, 0)).double()  # (tasks,)

        mistakes = {
            "A loss that is no number must count as overshooting: a comparison with nan is never true.":
                code((rise > 0.1 * start).any(0), half),
            "A task with a loss that is no number must count as overshooting: a comparison with nan is never true.":
                code(rise.amax(0) > 0.1 * start, half),
            "The rise is measured from the start; it is measured from the lowest loss so far.": code(from_start, half),
            "The rise is measured from the start; it is measured from the lowest loss so far. And nan must overshoot.":
                code((losses[1:] - start > 0.1 * start).any(0), half),
            "The rise is that of a single step; several small ones add up: compare with the lowest loss so far.":
                code(one_step, half),
            "The rise is that of a single step; compare with the lowest loss so far. And nan must overshoot.":
                code((losses[1:] - losses[:-1] > 0.1 * start).any(0), half),
            "The rise is measured from the lowest loss of the whole path; it is measured from the lowest before it.":
                code(~((losses[1:] - lowest[-1]).amax(0) <= 0.1 * start), half),
            "A tenth of the lowest loss is taken; the rule says a tenth of the start.": code(of_lowest, half),
            "A tenth of the lowest loss is taken; the rule says a tenth of the start. And nan must overshoot.":
                code((losses[1:] > 1.1 * lowest[:-1]).any(0), half),
            "The start is left out: a loss that rises above the start in the first step overshoots too.": code(after_one, half),
            "A rise of 0.1 is allowed, whatever the start; the rule says a tenth of the start.":
                code(~(rise.amax(0) <= 0.1), half),
            "Slow comes before overshooting; a task that overshoots is not slow.":
                torch.where(half, 2, torch.where(over, 1, 0)).double(),
            "Slow is judged by the lowest loss; the rule looks at the last one.": code(over, lowest[-1] > 0.5 * start),
            "Slow is the wrong way round: more than half of the start is left.": code(over, ~half),
            "Slow is turned the wrong way round: more than half of the start is left.": code(over, last < 0.5 * start),
            "No task is slow here: more than half of the start left after the last step.": code(over, torch.zeros_like(half)),
            "Any rise counts here; the rule allows a tenth of the start.": code(~(rise.amax(0) <= 0), half),
        }  # fmt: skip
        truth = kinds(losses).double()  # (tasks,)
        cases.append(expect((losses,), truth, mistakes, partial(_first_wrong_task, losses, truth)))
    judge("6.2", answer, cases, "Also for losses that are no numbers.")


def _first_wrong_task(losses: Tensor, truth: Tensor, answer: Tensor) -> str:
    """One task that the answer files wrongly: its trajectory, what the rule makes of it, and why."""
    task = int((answer.flatten() != truth).nonzero()[0])
    column, kind = losses[:, task], int(truth[task])  # (K + 1,)
    lowest = column.cummin(0).values
    above = ~(column[1:] - lowest[:-1] <= 0.1 * column[0])  # (K,)
    if kind == 1:
        k = int(above.nonzero()[0]) + 1
        why = (
            f"after step {k} the loss is {column[k]:g}, the lowest before it {lowest[k - 1]:g}, "
            f"and a tenth of the start {0.1 * column[0]:g}"
        )
    else:
        left = f"{column[-1]:g} of {column[0]:g} is left"
        why = f"no loss stands more than {0.1 * column[0]:g} above the lowest before it, and {left}"
    values = ", ".join(f"{value:g}" for value in column.tolist())
    return f"The losses {values} are of kind {kind} ({why}); this gives {answer.flatten()[task]:g}."


def check_compare(answer: Callable[..., Any]) -> None:
    """Exercise 6.3, two methods over five seeds, paired.

    Args:
        answer: ``compare(a, b)``, final losses ``(5, tasks)`` each, the same starts and tasks; it gives the mean difference and
            the half width of its 95 % interval over seeds.
    """
    cases = []
    for seed in (1, 2, 3):
        hard = normal(1, 40, seed=80 + seed).exp()  # (1, tasks): some tasks are hard for both
        luck = normal(5, 1, seed=90 + seed)  # (5, 1): some seeds are bad for both
        a, b = (
            hard + 0.3 * luck + 0.1 * normal(5, 1, seed=k + seed) + 0.2 * normal(5, 40, seed=2 * k + seed)
            for k in (100, 200)
        )
        difference = (a - b).mean(1)  # (5,)
        per_task = (a - b).mean(0)  # (tasks,)
        center, error = difference.mean(), difference.std() / 5**0.5
        flat = (a - b).flatten()  # (5 * tasks,)
        apart = (a.mean(1).var() / 5 + b.mean(1).var() / 5).sqrt()
        wide = STUDENT_T * error

        def pair(center: Tensor, width: Tensor) -> Tensor:
            return torch.stack([center, width])

        mistakes = {
            "1.96 is for many values; with five seeds the factor is 2.776.": pair(center, 1.96 * error),
            "The interval is over all tasks of all seeds; for a way of training the seeds are the sample.":
                pair(center, 1.96 * flat.std() / len(flat) ** 0.5),
            "The interval is over all tasks of all seeds, with the factor for five; first average over tasks.":
                pair(center, STUDENT_T * flat.std() / len(flat) ** 0.5),
            "The two are treated as unrelated; take the difference seed by seed, then its spread.":
                pair(center, STUDENT_T * apart),
            "The two are treated as unrelated, and 1.96 is for many values.": pair(center, 1.96 * apart),
            "This is the population's standard deviation; with five seeds divide by 4, not 5.":
                pair(center, STUDENT_T * difference.std(correction=0) / 5**0.5),
            "The standard deviation is not divided by the root of the number of seeds.":
                pair(center, STUDENT_T * difference.std()),
            "The standard deviation is divided by 5, not by the root of 5.": pair(center, STUDENT_T * difference.std() / 5),
            "This is the standard error; multiply it by 2.776.": pair(center, error),
            "This is the standard deviation over seeds; divide by the root of 5 and multiply by 2.776.":
                pair(center, difference.std()),
            "The sign is wrong: a minus b.": pair(-center, wide),
            "This is the whole width of the interval; return half of it.": pair(center, 2 * wide),
            "The tasks are the sample here: average over tasks first, so that five numbers are left.":
                pair(center, 1.96 * per_task.std() / 40**0.5),
            "The wrong axis is averaged: a row is a seed; return one number per seed, mean(1).":
                pair(center, STUDENT_T * per_task.std() / 5**0.5),
            "The wrong axis is averaged, mean(0): that leaves a number for each task. Return one for each seed, mean(1).":
                pair(center, STUDENT_T * per_task.std() / 40**0.5),
            "The wrong axis is averaged, and 1.96 is for many values: return one number per seed, mean(1).":
                pair(center, 1.96 * per_task.std() / 5**0.5),
        }  # fmt: skip
        cases.append(expect((a, b), pair(center, wide), mistakes))
    judge("6.3", answer, cases, "Five differences, their mean, and an interval that fits five.")


def check_largest_rate(answer: Callable[..., Any]) -> None:
    """Exercise 6.4, the rate beyond which gradient descent moves away along a direction of positive curvature.

    Args:
        answer: ``largest_rate(f, theta)``, with ``theta`` ``(n,)``, giving a number.
    """
    cases = []
    for size, which in ((2, "bowl"), (4, "bowl"), (3, "saddle"), (5, "network")):
        mix = normal(size, size, seed=110 + size)
        matrix = mix @ mix.T + 0.5 * torch.eye(size, dtype=torch.float64)  # (n, n) positive definite
        if which == "saddle":  # the curvature that is largest in size is negative
            turn = torch.linalg.qr(mix).Q  # (n, n)
            matrix = turn @ torch.diag(matrix.new_tensor([-9.0, 1.0, 4.0])) @ turn.T
        linear, theta = normal(size, seed=120 + size), normal(size, seed=130 + size)
        inputs = normal(30, size, seed=140 + size)

        def bowl(theta: Tensor, matrix: Tensor = matrix, linear: Tensor = linear) -> Tensor:
            return 0.5 * theta @ matrix @ theta + linear @ theta

        def network(theta: Tensor, inputs: Tensor = inputs, linear: Tensor = linear) -> Tensor:
            return (torch.tanh(inputs @ theta) - torch.tanh(inputs @ linear)).square().mean()

        f = network if which == "network" else bowl
        theta = linear if which == "network" else theta  # the network's minimum
        H = hessian(f)(theta)  # (n, n)
        values = torch.linalg.eigvalsh(H)  # (n,) ascending
        top = values[-1]
        mistakes = {
            "At 1 / h one step reaches the bottom of the sharpest direction; it stays stable up to twice that.": 1 / top,
            "This is the largest curvature h itself; the rate is 2 / h.": top,
            "The curvature largest in size is taken; a negative one sets no limit, however large: take the largest positive one.":
                2 / values.abs().max(),
            "The curvature largest in size is taken, as power iteration finds it, and here it is negative; that sets no limit: "
            "take the largest positive one.": 2 / values[values.abs().argmax()],
            "The smallest curvature is taken; the sharpest direction sets the limit.": 2 / values[0],
            "The sum of the curvatures is taken (the trace); the largest alone sets the limit.": 2 / values.sum(),
            "The mean of the curvatures is taken; the largest sets the limit.": 2 / values.mean(),
            "Only the diagonal of H is looked at; its largest eigenvalue is larger.": 2 / H.diagonal().max(),
            "The length of the gradient is no curvature: take the largest eigenvalue of the Hessian.":
                2 / grad(f)(theta).norm().clamp_min(1e-9),
            "This is 2 over the norm of the whole matrix; take the largest eigenvalue.": 2 / H.norm(),
            "This is 2 over the largest entry of H; take the largest eigenvalue.": 2 / H.max(),
            "This is half the curvature; the rate is 2 / h.": top / 2,
        }  # fmt: skip
        cases.append(expect((f, theta.clone()), 2 / top, mistakes))
    judge("6.4", answer, cases, "Beyond it the sharpest direction grows with every step.")


def check_careful(answer: Callable[..., Any]) -> None:
    """Exercise 6.5, gradient descent that halves the rate of a step which would raise the loss.

    Args:
        answer: ``careful(f, theta, alpha, K)``, with ``theta`` ``(n,)``; it gives all points, ``(K + 1, n)``.
    """
    cases = []
    for alpha, steps, power in ((1.3, 5, 1), (0.6, 4, 2), (0.9, 6, 1)):  # power 2: sharp far out, flat at the minimum
        seed = steps
        mix = normal(3, 3, seed=150 + seed)

        def f(theta: Tensor, mix: Tensor = mix, power: int = power) -> Tensor:
            x = 3 * (mix.to(theta) @ theta)
            bend = torch.logaddexp(x, -x) - math.log(2)  # log cosh, for any size of x
            return bend.pow(power).sum() / 3 + 0.4 * (theta @ theta)

        theta = 2 * normal(3, seed=160 + seed)

        def walk(
            f: Callable[[Tensor], Tensor] = f, theta: Tensor = theta, alpha: float = alpha, K: int = steps, **how: bool
        ) -> Tensor:
            return _careful(f, theta, alpha, K, **how)

        truth = walk()
        mistakes = {
            "This is plain gradient descent: no step was made smaller.": walk(plain=True),
            "The rate stays small after a step was halved; every step begins with alpha.": walk(keeps=True),
            "The rate is halved once at most: go on while the loss is higher.": walk(once=True),
            "The new loss is compared with the loss at theta; compare with the point where the step starts.":
                walk(with_start=True),
            "A try that failed is not taken back: each try starts from the point where the step starts.": walk(adds=True),
            "A step that would raise the loss is left out; try a smaller one.": walk(stays=True),
            "One step too many is taken, or the start is missing: K + 1 points, theta first.": walk(K=steps + 1)[1:],
            "This is the last point alone; return all K + 1.": truth[-1],
            "The start is missing: K + 1 points, theta first.": truth[1:],
        }  # fmt: skip
        cases.append(expect((f, theta.clone(), alpha, steps), truth, mistakes))
    again = "Does each try begin where the step begins, with half the rate of the try before?"
    if not judge("6.5", _bounded(answer, again), cases, None):
        return

    def barrier(theta: Tensor) -> Tensor:  # no number where an entry is below zero
        return (theta - 2 * theta.log()).sum()

    theta = torch.tensor([4.0], dtype=torch.float64)
    message = (
        "A loss that is no number lets a step pass: a comparison with nan is false. Try again unless f(new) <= f(here)."
    )
    mistakes = {message: _careful(barrier, theta, 10.0, 4, passes_nan=True)}
    nan_case = expect((barrier, theta, 10.0, 4), _careful(barrier, theta, 10.0, 4), mistakes)
    if not judge("6.5", answer, [nan_case], None):
        return

    def bowl(theta: Tensor) -> Tensor:  # with its minimum at 0
        return theta @ theta

    still, far = theta.new_zeros(2), theta.new_ones(2)
    level = "At a minimum the loss stays the same: halve while the new loss is higher, not until it is lower."
    if not judge(
        "6.5", _bounded(answer, level), [expect((bowl, still, 1.0, 2), _careful(bowl, still, 1.0, 2), {})], None
    ):
        return

    def explain(given: Tensor) -> str:
        return "With a rate of a million the first step needs 20 halvings: go on while the loss is higher."

    far_case = expect((bowl, far, 1e6, 2), _careful(bowl, far, 1e6, 2), {}, explain)
    judge("6.5", answer, [far_case], "No step raises the loss, and each begins with alpha again.")


class EndlessHalving(RuntimeError):
    """A reader's loop would not come to an end."""


def _bounded(answer: Any, advice: str) -> Any:
    """The reader's function with a loss that can be asked a thousand times."""
    if not callable(answer):
        return answer

    def run(f: Callable[[Tensor], Tensor], theta: Tensor, alpha: float, K: int) -> Any:
        calls = 0

        def counted(theta: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls > 1000:
                raise EndlessHalving(f"f was called a thousand times. {advice}")
            return f(theta)

        return answer(counted, theta, alpha, K)

    return run


def _careful(
    f: Callable[[Tensor], Tensor],
    theta: Tensor,
    alpha: float,
    K: int,
    *,
    plain: bool = False,
    keeps: bool = False,
    once: bool = False,
    with_start: bool = False,
    adds: bool = False,
    stays: bool = False,
    passes_nan: bool = False,
) -> Tensor:
    """The path ``(K + 1, n)``, right or with one mistake."""
    path, rate = [theta], alpha
    for _ in range(K):
        here = path[-1]
        rate, limit, g = (rate if keeps else alpha), f(theta if with_start else here), grad(f)(here)
        new, tries = here - rate * g, 0
        while not plain and tries < (1 if once else 60) and (f(new) > limit if passes_nan else not f(new) <= limit):
            rate, tries = rate / 2, tries + 1
            new = here if stays else (new if adds else here) - rate * g
        path.append(new)
    return torch.stack(path)
