"""Checks of chapter 4, dropping the Hessian. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from mamlkit.checking._cases import expect, hessian, judge, normal, problem
from mamlkit.checking._memory import memory_of
from mamlkit.checking._report import correct, wrong

__all__ = ["check_angle", "check_dropped", "check_gradients_only", "check_reptile", "check_truncated"]

Loss = Callable[[Tensor], Tensor]


def check_angle(answer: Callable[..., Any]) -> None:
    """Exercise 4.1, the angle between the mean gradients of MAML and FOMAML over quadratic tasks.

    Args:
        answer: ``angle(h, g, alpha, K)``, curvatures ``(tasks, n)`` and query gradients ``(tasks, n)`` in, degrees out.
    """
    cases = []
    for h, g, alpha, K in (
        ([[0.5, 4.0], [3.0, 1.0]], [[1.0, 2.0], [-0.8, -1.5]], 0.1, 3),  # the tasks nearly cancel
        ([[1.0, 12.0]], [[1.5, -1.0]], 0.15, 1),
        ([[2.0, 0.3, 6.0], [1.0, 4.0, 0.5]], [[0.4, 1.0, -0.7], [0.2, -0.3, 0.9]], 0.1, 4),
        ([[9.0, 1.0], [2.0, 6.0]], [[2.0, -0.6], [0.1, 0.3]], 0.2, 1),  # beyond 90 degrees
    ):
        curvatures, gradient = (torch.tensor(x, dtype=torch.float64) for x in (h, g))  # (tasks, n) each
        factors = (1 - alpha * curvatures) ** K  # (tasks, n)

        def turned(by: Tensor, gradient: Tensor = gradient) -> Tensor:
            return _degrees((by * gradient).mean(0), gradient.mean(0))

        truth = turned(factors)
        of_tasks = [_degrees(by * own, own) for by, own in zip(factors, gradient, strict=True)]
        mistakes = {
            "This is the mean of the tasks' angles: take the mean of the gradients first, then one angle.":
                torch.stack(of_tasks).mean(),
            "The factors and the gradients are averaged apart: multiply in each task, then take the mean.":
                turned(factors.mean(0)),
            "The curvatures are averaged over the tasks: each task has its own factors.":
                turned((1 - alpha * curvatures.mean(0)) ** K),
            "The factors are cut off at 0: beyond alpha h = 1 a factor is negative.":
                turned((1 - alpha * curvatures).clamp(0, 1) ** K),
            "The sign of the factors is lost: beyond alpha h = 1 a factor is negative.":
                turned((1 - alpha * curvatures).abs() ** K),
            "The sign of the cosine is lost: where alpha h exceeds 1 the angle can be more than 90 degrees.":
                torch.minimum(truth, 180 - truth),
            "This is in radians: return degrees.": torch.deg2rad(truth),
            "This is the cosine: the angle is its arccosine, in degrees.": torch.cos(torch.deg2rad(truth)),
            "The factor is there once; each of the K steps contributes one.": turned(1 - alpha * curvatures),
            "This is one step of size K alpha; K steps give a power.": turned(1 - K * alpha * curvatures),
            "The step size alpha is missing in the factors.": turned((1 - curvatures) ** K),
            "The sign of alpha h is wrong in the factor: it is 1 - alpha h.": turned((1 + alpha * curvatures) ** K),
            "The factors alone are compared; they multiply the query gradient g.":
                _degrees(factors.mean(0), gradient.mean(0)),
            "The identity is missing in the factor: it is 1 - alpha h, not alpha h.": turned((alpha * curvatures) ** K),
            "This is the angle's complement: check sine and cosine.": 90 - truth,
            "This is 180 degrees minus the angle: one of the two vectors has the wrong sign.": 180 - truth,
        }  # fmt: skip
        cases.append(expect((curvatures, gradient, alpha, K), truth, mistakes))
    judge("4.1", answer, cases, "Unequal factors turn the mean, along the axes and between the tasks.")


def check_truncated(answer: Callable[..., Any]) -> None:
    """Exercise 4.2, the gradient of one task that keeps the last m of the K factors.

    Args:
        answer: ``truncated_gradient(support_loss, query_loss, theta, alpha, K, m)``, with ``theta`` ``(n,)``, giving ``(n,)``.
    """
    cases = []
    for alpha, K, m in ((0.2, 4, 2), (0.3, 3, 1), (0.2, 5, 2), (0.1, 2, 0), (0.1, 2, 2)):
        support, query, path = problem(alpha, K, seed=K)
        g, kept = grad(query)(path[-1]), range(K - m, K)
        factors = [
            torch.eye(3, dtype=torch.float64) - alpha * hessian(support)(point) for point in path
        ]  # K + 1 times (n, n)

        def through(steps: Iterable[int], g: Tensor = g, factors: list[Tensor] = factors) -> Tensor:
            """The factors of these steps times g; that of the first step is the last to come."""
            for step in reversed(list(steps)):
                g = factors[step] @ g
            return g

        truth = through(kept)
        mistakes = {
            "No factor is kept: this is FOMAML's gradient.": g,
            "All factors are kept: this is MAML's gradient.": through(range(K)),
            "The first m factors are kept, and the last m should be.": through(range(m)),
            "The last K - m factors are kept: it should be m of them.": through(range(m, K)),
            "The first K - m factors are kept: it should be the last m.": through(range(K - m)),
            "The kept factors stand in the wrong order: that of the last step comes first to the query gradient.":
                through(reversed(kept)),
            "Each Hessian is taken where its step ends; it belongs where the step starts, at theta^(k).":
                through(range(K - m + 1, K + 1)),
            "Every Hessian is taken at theta^(K), where no step starts.": through([K] * m),
            "Every Hessian is taken at theta^(K-m); each step has its own, where it starts.": through([K - m] * m),
            "Every Hessian is taken at theta; each step has its own, where it starts.": through([0] * m),
            "One factor too many is kept.": through(range(max(0, K - m - 1), K)),
            "One factor too few is kept.": through(range(min(K, K - m + 1), K)),
            "The query gradient is taken at theta^(K-m); it belongs at the adapted weights theta^(K).":
                through(kept, grad(query)(path[K - m])),
            "The query gradient is taken at theta; it belongs at the adapted weights theta^(K).":
                through(kept, grad(query)(path[0])),
            "This is the support gradient, sent back; the query loss judges the adapted weights.":
                through(kept, grad(support)(path[-1])),
            "Only m inner steps are taken: all K are, and the first K - m of them are constants.":
                _gradient(support, query, path[0], alpha, m),
            "The inner steps are taken on the query loss: they belong on the support loss.":
                _gradient(query, query, _adapted(query, path[0], alpha, K - m), alpha, m),
            "The inner steps go uphill: subtract alpha times the gradient.":
                _gradient(support, query, _adapted(support, path[0], -alpha, K - m), -alpha, m),
            "The sign is wrong: give the gradient itself, the optimiser walks against it.": -truth,
            "This is theta minus theta^(K): Reptile's direction, without the query set.": path[0] - path[-1],
            "These are the adapted weights; return the gradient of the query loss, sent back.": path[-1],
            "This is the query loss, not its gradient.": query(path[-1]),
        }  # fmt: skip
        cases.append(expect((support, query, path[0].clone(), alpha, K, m), truth, mistakes))
    if not judge("4.2", answer, cases, None):
        return
    if flaw := _keeps_too_much(answer):
        wrong("4.2", flaw)
    else:
        correct("4.2", "With m one chooses between FOMAML's memory and MAML's gradient.")


def _keeps_too_much(answer: Callable[..., Any], n: int = 40) -> str:
    """What a right answer builds or remembers that it should not; empty when it does not."""
    scales, theta = 0.1 * torch.arange(1, 9, dtype=torch.float64)[:, None], normal(n, seed=80)

    def support(theta: Tensor) -> Tensor:
        waves = torch.log(torch.cosh(scales * theta))  # (8, n): so many numbers and more in the graph of each step
        return waves.sum() + (theta[1:] * theta[:-1]).sum()

    def query(theta: Tensor) -> Tensor:
        return (theta - 1).square().sum()

    short, long = (memory_of(partial(answer, support, query, theta.clone(), 0.1, K, 2)) for K in (10, 30))
    if short is None or long is None:  # right on the small cases: not refused for this one
        return ""
    if short.largest >= n * n:
        return "The numbers are right, but a Hessian was built. Build none: autograd gives each factor times a vector."
    if long.peak - short.peak >= 20 * 4 * n:  # the points of the path would be 20 n
        return (
            "The numbers are right, but a graph is kept that grows with K. The first K - m steps are constants: take them "
            "without a graph, or cut it with detach()."
        )
    return ""


def check_reptile(answer: Callable[..., Any]) -> None:
    """Exercise 4.3, Reptile's direction for a meta-batch.

    Args:
        answer: ``reptile_gradient(support_losses, theta, alpha, K)``, with a tuple of losses and ``theta`` ``(n,)``, giving
            ``(n,)``: what goes into ``.grad``.
    """
    cases = []
    for alpha, K in ((0.2, 3), (0.1, 2), (0.3, 1)):
        losses: list[Loss] = [problem(alpha, K, seed=seed)[0] for seed in (1, 2, 3)]
        theta = normal(3, seed=70 + K)
        ends = torch.stack([_adapted(loss, theta, alpha, K) for loss in losses])  # (tasks, n)
        moves = theta - ends  # (tasks, n)
        truth = moves.mean(0)

        def together(weights: Tensor, losses: list[Loss] = losses) -> Tensor:
            return torch.stack([loss(weights) for loss in losses]).sum()

        chained, reached, start = [], [], theta
        for loss in losses:
            end = _adapted(loss, start, alpha, K)
            chained.append(start - end)
            reached.append(end)
            start = end
        mistakes = {
            "The sign is wrong: .grad is theta - theta^(K), since the optimiser subtracts it.": -truth,
            "This is the sum over the tasks; the meta-batch takes their mean.": moves.sum(0),
            "Each task starts where the task before it ended; every task starts from the same theta.":
                torch.stack(chained).mean(0),
            "Each task starts where the task before it ended, and the moves are added up: every task starts from the same theta.":
                torch.stack(chained).sum(0),
            "The moves are zero: adapted is theta itself under another name, and -= has moved both. Write "
            "adapted = adapted - ..., or clone theta.": torch.zeros_like(theta),
            "Each task starts where the task before it ended: start each from theta, and clone it where you change it in place.":
                theta - torch.stack(reached).mean(0),
            "Each task starts where the task before it ended, and the moves are added up: start each from theta (clone it where "
            "you change it in place), and take the mean.": (theta - torch.stack(reached)).sum(0),
            "theta was changed in place: each task starts where the task before it ended, and theta is no longer what the moves "
            "are measured from. Clone it for each task.": reached[-1] - torch.stack(reached).mean(0),
            "The K steps go along the mean of the tasks' losses: let each task take its own K steps, then take the mean.":
                theta - _adapted(together, theta, alpha / len(losses), K),
            "The K steps go along the sum of the tasks' losses: let each task take its own K steps, then take the mean.":
                theta - _adapted(together, theta, alpha, K),
            "Only the last task counts; take the mean over all.": moves[-1],
            "Only the first task counts; take the mean over all.": moves[0],
            "This is the mean of the adapted weights; the direction is theta minus it.": ends.mean(0),
            "This is divided by alpha; return the plain difference.": truth / alpha,
            "This is divided by alpha K; return the plain difference.": truth / (alpha * K),
            "This is divided by K; return the plain difference.": truth / K,
            "This is the gradient at theta, averaged over tasks: ordinary training, without inner steps.":
                torch.stack([grad(loss)(theta) for loss in losses]).mean(0),
            "Only one inner step was taken; there are K.":
                torch.stack([theta - _adapted(loss, theta, alpha, 1) for loss in losses]).mean(0),
        }  # fmt: skip
        cases.append(expect((tuple(losses), theta.clone(), alpha, K), truth, mistakes))
    judge("4.3", answer, cases, "The mean of the moves, each from the same theta.")


def check_dropped(answer: Callable[..., Any]) -> None:
    """Exercise 4.4, what FOMAML leaves out of MAML's gradient with one inner step.

    Args:
        answer: ``dropped(support_loss, query_loss, theta, alpha)``, with ``theta`` ``(n,)``, giving ``(n,)``.
    """
    cases, calls = [], 0

    def counted(loss: Loss) -> Loss:
        def value(theta: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return loss(theta)

        return value

    for alpha, seed in ((0.2, 1), (0.3, 2), (0.1, 5)):
        support, query, path = problem(alpha, 1, seed=seed)
        g, matrix = grad(query)(path[1]), hessian(support)(path[0])
        truth = -alpha * matrix @ g
        mistakes = {
            "The sign is wrong.": -truth,
            "The step size alpha is missing.": truth / alpha,
            "This is MAML's whole gradient; take FOMAML's away from it.": g + truth,
            "This is FOMAML's gradient: the part that is kept.": g,
            "The query gradient is taken at theta; it belongs at the adapted weights.": -alpha * matrix @ grad(query)(path[0]),
            "The Hessian is that of the query loss; the inner step is on the support loss.":
                -alpha * hessian(query)(path[0]) @ g,
            "The Hessian is taken at the adapted weights; the step starts at theta.": -alpha * hessian(support)(path[1]) @ g,
            "The vector is the support gradient; it is the query gradient at the adapted weights.":
                -alpha * matrix @ grad(support)(path[0]),
        }  # fmt: skip
        cases.append(expect((support, counted(query), path[0].clone(), alpha), truth, mistakes))
    if not judge("4.4", answer, cases, None):
        return
    if calls > len(cases):
        wrong(
            "4.4", "The numbers are right, but the query loss was called more than once: one query gradient is enough."
        )
    else:
        correct("4.4", "It vanishes with alpha, and where the query gradient meets no curvature.")


def check_gradients_only(answer: Callable[..., Any]) -> None:
    """Exercise 4.5, MAML's gradient of one task from calls of two gradients, which cannot be differentiated.

    Args:
        answer: ``maml_gradient(support_gradient, query_gradient, theta, alpha, K)``, with ``theta`` ``(n,)``, giving ``(n,)``.
            The first two map ``(n,)`` to ``(n,)``, without a graph.
    """
    cases, calls = [], 0

    def counted(loss: Loss, seen: list[Tensor]) -> Loss:
        def gradient(theta: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            seen.append(theta.detach().double())
            return grad(loss)(theta.detach().double()).to(theta.dtype)

        return gradient

    for alpha, K, scale in ((0.2, 3, 1.0), (0.1, 4, 3e3), (0.3, 2, 3e-3), (0.2, 1, 1.0)):
        support, query_loss, path = problem(alpha, K, seed=K)

        def query(theta: Tensor, loss: Loss = query_loss, scale: float = scale) -> Tensor:
            return scale * loss(theta)

        hessians = [hessian(support)(point) for point in path]  # K + 1 times (n, n)
        g = grad(query)(path[-1])

        def product(matrices: Iterable[Tensor], times: float = alpha, g: Tensor = g) -> Tensor:
            for matrix in matrices:  # the first meets the query gradient first
                g = g - times * matrix @ g
            return g

        own = hessians[:-1][::-1]
        mistakes = {
            "The factors are missing: this is FOMAML's gradient.": g,
            "The change of the gradient counts twice: between theta + eps v and theta - eps v lie two eps, not one.":
                product(own, 2 * alpha),
            "The change of the gradient counts half: from theta to theta + eps v it is one eps, not two.":
                product(own, alpha / 2),
            "The step size alpha is missing in the factors.": product(own, 1.0),
            "The sign is wrong: the factor is I - alpha H.": product(own, -alpha),
            "Every Hessian is taken at theta; each step has its own, where it starts.": product([hessians[0]] * K),
            "Each Hessian is taken where its step ends; it belongs where the step starts, at theta^(k).":
                product(hessians[:0:-1]),
            "Every Hessian is taken at theta^(K), where no step starts.": product([hessians[-1]] * K),
            "The factors are in the wrong order: the last step's factor meets the query gradient first.": product(own[::-1]),
            "Only the last step's factor is there; each of the K steps has one.": product(own[:1]),
            "Only the first step's factor is there; each of the K steps has one.": product(own[-1:]),
            "Each factor meets the query gradient itself; it should meet what the factor after it has left.":
                g - alpha * torch.stack(own).sum(0) @ g,
            "The Hessians are those of the query loss; the inner steps are on the support loss.":
                product([hessian(query)(point) for point in path[:-1][::-1]]),
            "The sign of the result is wrong: give the gradient itself, the optimiser walks against it.": -product(own),
        }  # fmt: skip
        truth = product(own)
        points: list[Tensor] = []  # where the support gradient was asked for
        arguments = (counted(support, points), counted(query, []), path[0].clone(), alpha, K)
        cases.append(expect(arguments, truth, mistakes, _how_coarse(truth, scale, path, points)))
    if not judge("4.5", answer, cases, None):
        return
    enough = sum(3 * case.arguments[-1] + 1 for case in cases)
    many = f"It is right, with {calls} gradients; {enough} are enough. One difference along the vector does for each factor."
    correct(
        "4.5",
        many
        if calls > 1.5 * enough
        else "MAML without a second derivative: each factor costs one or two more gradients.",
    )


def _how_coarse(truth: Tensor, scale: float, path: list[Tensor], points: list[Tensor]) -> Callable[[Tensor], str]:
    """Words for a result that no listed mistake explains: an inexact difference, or something else."""

    def step() -> str:
        """Whether the points lie too far from the path for the curvature, or too near for the rounding."""
        away = max((min(float((point - own).norm()) for own in path) for point in points), default=0.0)
        if away > 1e-5:
            return f"eps is too large: your points lie up to {away:.1g} away, and the curvature changes on the way."
        if away < 1e-9:
            return "eps is too small: your points are so near that the difference drowns in rounding."
        return f"your points lie up to {away:.1g} away, which is neither too far nor too near: look at the difference itself."

    def words(value: Tensor) -> str:
        error = (value.squeeze() - truth).norm() / truth.norm()
        if scale != 1:  # it was right at the usual length, or it would not have come here
            return (
                f"It is right while the query gradient is about as long as 1, and wrong for one {scale:g} times as long. "
                f"How far you move depends on the length of the vector. Here {step()}"
            )
        if error < 0.1:
            return f"The idea is right, but one test is off by {100 * error:.2g} per cent: {step()}"
        expected, got = ([round(x, 4) for x in t.flatten().tolist()] for t in (truth, value))
        return f"In one test {expected} is right, and this gives {got}."

    return words


def _degrees(u: Tensor, v: Tensor) -> Tensor:
    return torch.rad2deg(torch.arccos((u @ v / (u.norm() * v.norm())).clamp(-1, 1)))  # ()


def _adapted(loss: Loss, theta: Tensor, alpha: float, K: int) -> Tensor:
    for _ in range(K):
        theta = theta - alpha * grad(loss)(theta)  # (n,)
    return theta


def _gradient(inner: Loss, outer: Loss, theta: Tensor, alpha: float, steps: int) -> Tensor:
    """The gradient of the outer loss after this many inner steps, through all of them."""
    return grad(lambda theta: outer(_adapted(inner, theta, alpha, steps)))(theta)
