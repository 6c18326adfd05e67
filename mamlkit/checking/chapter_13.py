"""Checks of chapter 13, MAML's relatives. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mamlkit.checking._cases import expect, judge, normal
from mamlkit.checking._report import correct, wrong

__all__ = ["check_cka", "check_head", "check_solve", "check_unrolled"]


def check_cka(answer: Callable[..., Any]) -> None:
    """Exercise 13.1, linear centred kernel alignment.

    Args:
        answer: ``linear_cka(X, Y)``, features ``(images, channels)`` and ``(images, others)`` in, a number out.
    """
    cases = []
    for n, p, q, seed in ((12, 3, 5, 1), (9, 4, 4, 2), (15, 6, 2, 3)):
        X = (normal(n * p, seed=seed) + 0.7).view(n, p)
        Y = (normal(n * q, seed=seed + 10) - 0.4).view(n, q)
        Y[:, 0] += 2 * X[:, 0]  # something in common
        x, y = X - X.mean(0), Y - Y.mean(0)
        truth = _alignment(x, y)
        mistakes = {
            "The columns are not centred: subtract each column's mean over the images first.": _alignment(X, Y),
            "One number is subtracted from all; each column has a mean of its own.": _alignment(X - X.mean(), Y - Y.mean()),
            "Each row is centred; a column is a feature, and its mean over the images goes.":
                _alignment(X - X.mean(1, keepdim=True), Y - Y.mean(1, keepdim=True)),
            "Only X is centred; Y has means of its own.": _alignment(x, Y),
            "The numerator's norm is not squared.": truth * (x.T @ y).square().sum().sqrt() / (x.T @ y).square().sum(),
            "The numerator is not divided: without the two norms the number depends on scale.":
                (x.T @ y).square().sum(),
            "The norms below are squared; only the one above is.":
                (x.T @ y).square().sum() / ((x.T @ x).square().sum() * (y.T @ y).square().sum()),
            "Below stand the norms of X and Y; it should be those of their products with themselves.":
                (x.T @ y).square().sum() / (x.norm() * y.norm()),
            "This is one minus the similarity, a distance.": 1 - truth,
            "The root is taken of the whole; CKA has none.": truth.sqrt(),
        }  # fmt: skip
        cases.append(expect((X, Y), truth, mistakes))
    judge("13.1", answer, cases, "It is blind to turns and scale, and sees which images are alike.")


def _alignment(x: Tensor, y: Tensor) -> Tensor:
    return (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


def check_head(answer: Callable[..., Any]) -> None:
    """Exercise 13.2, the linear layer that a ProtoNet is.

    Args:
        answer: ``head(support, labels, ways)``, features ``(points, features)`` and class numbers in, weights
            ``(ways, features)`` and biases ``(ways,)`` out.
    """
    cases = []
    for points, features, ways, seed in ((9, 4, 3, 1), (8, 3, 2, 2), (12, 2, 4, 3)):
        support = normal(points * features, seed=seed).view(points, features)
        order = torch.randperm(points, generator=torch.Generator().manual_seed(seed))
        labels = (torch.arange(points) ** 2 // points % ways)[order]  # classes of unequal sizes
        labels[order[:ways]] = torch.arange(ways)
        members = torch.nn.functional.one_hot(labels, ways).double()
        sums, counts = members.T @ support, members.sum(0)[:, None]
        c = sums / counts

        def both(weight: Tensor, bias: Tensor) -> Tensor:
            return torch.cat([weight.flatten(), bias.flatten()])

        square = c.square().sum(1)
        truth = both(2 * c, -square)
        mistakes = {
            "The weights lack the factor 2: it comes from the mixed term of the square.": both(c, -square),
            "The biases lack the factor 2 that you have left out of both; without it the scores are half as far apart. "
            "Keep the distances' scale: 2 c and -|c|^2.": both(c, -square / 2),
            "The sign of the biases is wrong: a prototype that is far from 0 has a lower bias.": both(2 * c, square),
            "The sign of the weights is wrong: scores are minus the distances.": both(-2 * c, -square),
            "Both signs are wrong: these are distances, and scores are minus distances.": both(-2 * c, square),
            "The biases are the lengths of the prototypes; their squares are needed.": both(2 * c, -square.sqrt()),
            "There are no biases: a prototype's length counts.": both(2 * c, 0 * square),
            "A prototype is the mean of its class, this is the sum.": both(2 * sums, -sums.square().sum(1)),
            "The biases are the mean of the squared lengths of the points; the square of the mean is needed.":
                both(2 * c, -(members.T @ support.square().sum(1)) / counts[:, 0]),
            "Each class sum is divided by the same number; classes differ in size.":
                both(2 * sums * ways / points, -(sums * ways / points).square().sum(1)),
        }  # fmt: skip
        cases.append(expect((support, labels, ways), truth, mistakes))

    def flat(*arguments: Any) -> Any:
        value = answer(*arguments)
        if isinstance(value, (tuple, list)) and len(value) == 2:
            weight, bias = (torch.as_tensor(part).detach().double() for part in value)
            support, _, ways = arguments
            if weight.shape == (support.shape[1], ways) and weight.shape[0] != weight.shape[1]:
                weight = weight.T  # the other way round is right as well
            return torch.cat([weight.flatten(), bias.flatten()])
        return value

    judge(
        "13.2",
        flat if callable(answer) else answer,
        cases,
        "The support set writes the head in closed form; ProtoMAML goes on from here.",
    )


def check_solve(answer: Callable[..., Any]) -> None:
    """Exercise 13.3, conjugate gradients for the system of iMAML.

    Args:
        answer: ``solve(hessian_times, g, strength, steps)``, a function of vectors, a vector ``(n,)`` and lambda in, the
            iMAML gradient ``(n,)`` out.
    """
    cases, counts = [], []
    for n, strength, steps, seed in ((5, 2.0, 2, 1), (6, 0.5, 3, 2), (4, 1.0, 4, 3), (6, 3.0, 1, 4)):
        root = normal(n * n, seed=seed).view(n, n)
        H, g = root @ root.T / n, normal(n, seed=seed + 20)
        identity = torch.eye(n, dtype=torch.float64)
        calls: list[int] = []

        def hessian_times(p: Tensor, H: Tensor = H, calls: list[int] = calls) -> Tensor:
            calls.append(1)
            return H.to(p) @ p

        truth = strength * _conjugate(H + strength * identity, g, steps)
        mistakes = {
            "This is v; the gradient is lambda times v.": truth / strength,
            "The pull is missing: the matrix is H + lambda I, not H.": strength * _conjugate(H, g, steps),
            "The matrix is H + I: lambda is missing at the identity.": strength * _conjugate(H + identity, g, steps),
            "The system is (I + lambda H); it is I + H / lambda.": _conjugate(identity + strength * H, g, steps),
            "These are steepest-descent steps: the next direction needs its share of the last one.":
                strength * _steepest(H + strength * identity, g, steps),
            "One step too many is taken.": strength * _conjugate(H + strength * identity, g, steps + 1),
            "One step too few is taken.": strength * _conjugate(H + strength * identity, g, steps - 1),
            "This multiplies where it should divide: the matrix is to be inverted.": g + H @ g / strength,
            "This is g: FOMAML's gradient.": g,
        }  # fmt: skip
        cases.append(expect((hessian_times, g, strength, steps), truth, mistakes))
        counts.append((calls, steps))
    if not judge("13.3", answer, cases, None, tolerance=1e-3):
        return
    if any(len(calls) > 2 * steps + 2 for calls, steps in counts):
        wrong("13.3", "The numbers are right, with more products than needed: one per step is enough. Was H built?")
    else:
        correct("13.3", "One product a step, and no matrix.")


def _conjugate(A: Tensor, b: Tensor, steps: int) -> Tensor:
    """The point of the Krylov space of so many dimensions that lies nearest to the solution in A's own norm."""
    if steps < 1:
        return torch.zeros_like(b)
    powers = [b]
    for _ in range(min(steps, len(b)) - 1):
        powers.append(A @ powers[-1])
    basis, _ = torch.linalg.qr(torch.stack(powers, 1))  # (n, steps)
    return basis @ torch.linalg.solve(basis.T @ A @ basis, basis.T @ b)


def _steepest(A: Tensor, b: Tensor, steps: int) -> Tensor:
    x = torch.zeros_like(b)
    for _ in range(steps):
        r = b - A @ x
        x = x + (r @ r) / (r @ A @ r) * r
    return x


def check_unrolled(answer: Callable[..., Any]) -> None:
    """Exercise 13.4, how the unrolled derivative comes to the implicit one, with one weight.

    Args:
        answer: ``derivative(h, strength, alpha, K)``, numbers in, d phi^(K) / d theta out.
    """
    cases = []
    for h, strength, alpha, K in ((2.0, 1.0, 0.1, 3), (0.5, 3.0, 0.2, 2), (4.0, 0.5, 0.05, 6), (1.0, 2.0, 0.1, 1)):
        factor, limit = 1 - alpha * (h + strength), strength / (h + strength)
        truth = limit + (1 - limit) * factor**K
        mistakes = {
            "This is the limit of many steps; after K of them something is left over.": limit,
            "The pull depends on theta as well: d theta / d theta = 1 adds alpha lambda in each step.": factor**K,
            "The proximal term is missing: this is MAML's factor without it.": (1 - alpha * h) ** K,
            "The left-over has the wrong sign: at K = 0 the derivative is 1.": limit - (1 - limit) * factor**K,
            "At K = 0 the derivative is 1, since phi^(0) = theta; this begins at 0.": limit * (1 - factor**K),
            "This counts one step too many.": limit + (1 - limit) * factor ** (K + 1),
            "This counts one step too few.": limit + (1 - limit) * factor ** (K - 1),
            "In the factor the pull is missing: the inner gradient has h and lambda.":
                limit + (1 - limit) * (1 - alpha * h) ** K,
            "This is 1 minus the derivative: the share that the data decide.": 1 - truth,
        }  # fmt: skip
        cases.append(expect((h, strength, alpha, K), truth, mistakes))
    judge("13.4", answer, cases, "A geometric series: what it sums to is the implicit derivative.")
