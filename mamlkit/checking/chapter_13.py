"""Checks of chapter 13, MAML's relatives. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mamlkit.checking._cases import expect, judge, normal
from mamlkit.checking._memory import memory_of
from mamlkit.checking._report import correct, wrong

__all__ = ["check_head", "check_pull_gradient", "check_unrolled", "check_wide_cka"]


def check_wide_cka(answer: Callable[..., Any]) -> None:
    """Exercise 13.1, linear centred kernel alignment of more features than images.

    Args:
        answer: ``wide_cka(X, Y)``, features ``(images, many)`` and ``(images, also many)`` in, a number out.
    """
    cases = []
    for n, p, q, seed in ((6, 12, 9, 1), (5, 7, 11, 2), (4, 9, 6, 3)):
        X, Y = _two_layers(n, p, q, seed)
        x, y = X - X.mean(0), Y - Y.mean(0)
        cross, truth = (x.T @ y).square().sum(), _alignment(x, y)
        one_side = [Z @ Z.T - (Z @ Z.T).mean(0) for Z in (X, Y)]
        mistakes = {
            "The columns are not centred: subtract each column's mean over the images first.": _alignment(X, Y),
            "One number is subtracted from all; each column has a mean of its own.": _alignment(X - X.mean(), Y - Y.mean()),
            "Each row is centred; a column is a feature, and its mean over the images goes.":
                _alignment(X - X.mean(1, keepdim=True), Y - Y.mean(1, keepdim=True)),
            "Only X is centred; Y has means of its own.": _alignment(x, Y),
            "The matrix of the images is centred along one of its axes; centred columns of X make both means 0.":
                (one_side[0] * one_side[1]).sum() / (one_side[0].norm() * one_side[1].norm()),
            "This is the norm of the product of the two matrices; the sum of their entries' products is asked for.":
                ((x @ x.T) @ (y @ y.T)).norm() / ((x @ x.T).norm() * (y @ y.T).norm()),
            "The numerator is a squared norm, and this is its root.": truth / cross.sqrt(),
            "The numerator is not divided: without the two norms the number depends on scale.": cross,
            "The norms below are squared; only the one above is.":
                cross / ((x.T @ x).square().sum() * (y.T @ y).square().sum()),
            "Below stand the norms of X and Y; it should be those of their products with themselves.":
                cross / (x.norm() * y.norm()),
            "Below stand the traces of the two matrices; it should be their norms.":
                cross / (x.square().sum() * y.square().sum()),
            "This is one minus the similarity, a distance.": 1 - truth,
            "The root is taken of the whole; CKA has none.": truth.sqrt(),
        }  # fmt: skip
        cases.append(expect((X, Y), truth, mistakes))
    if not judge("13.1", answer, cases, None):
        return
    X, Y = _two_layers(8, 500, 400, seed=4)
    memory = memory_of(partial(answer, X, Y))
    if memory is not None and memory.largest >= 400 * 400:
        wrong(
            "13.1",
            f"The numbers are right, but with 8 images and 500 and 400 features a matrix of {memory.largest:,} numbers was made. "
            "Multiply the other way round: X X^T has one row and one column per image.",
        )
    else:
        correct("13.1", "Both forms are one number, and this one does not mind how many features there are.")


def _two_layers(n: int, p: int, q: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features of two layers with something in common."""
    X, Y = normal(n, p, seed=seed) + 0.7, normal(n, q, seed=seed + 10) - 0.4
    Y[:, :5] += 2 * X[:, :5]
    return X, Y


def _alignment(x: Tensor, y: Tensor) -> Tensor:
    return (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


def check_head(answer: Callable[..., Any]) -> None:
    """Exercise 13.2, the linear layer that a ProtoNet is which measures with a matrix.

    Args:
        answer: ``head(support, labels, ways, M)``, features ``(points, features)``, class numbers and a matrix
            ``(features, features)`` in, weights ``(ways, features)`` and biases ``(ways,)`` out.
    """
    cases = []
    for points, features, ways, seed in ((9, 4, 3, 1), (8, 3, 2, 2), (12, 2, 4, 3)):
        support = normal(points, features, seed=seed)
        order = torch.randperm(points, generator=torch.Generator().manual_seed(seed))
        labels = (torch.arange(points) ** 2 // points % ways)[order]  # classes of unequal sizes
        labels[order[:ways]] = torch.arange(ways)
        M = torch.eye(features, dtype=torch.float64) + 0.5 * normal(features, features, seed=seed + 30)
        members = torch.nn.functional.one_hot(labels, ways).double()
        sums, counts = members.T @ support, members.sum(0)[:, None]
        c = sums / counts

        def both(weight: Tensor, bias: Tensor) -> Tensor:
            return torch.cat([weight.flatten(), bias.flatten()])

        def square(c: Tensor, M: Tensor = M) -> Tensor:
            return ((c @ M) * c).sum(1)

        S = M + M.T
        mistakes = {
            "The weights are transposed: one row per class is asked for, (ways, features).": both((c @ S).T, -square(c)),
            "M need not be symmetric: f^T M c and c^T M f differ, and the weights get one M c each from M and its transpose.":
                both(2 * c @ M.T, -square(c)),
            "M need not be symmetric: the weights get M c as well as M^T c.": both(2 * c @ M, -square(c)),
            "One of the two mixed terms is missing: f^T M c is there, and c^T M f as well.": both(c @ M.T, -square(c)),
            "One of the two mixed terms is missing: c^T M f is there, and f^T M c as well.": both(c @ M, -square(c)),
            "M is left out: this is the head of a ProtoNet that measures all features alike.":
                both(2 * c, -c.square().sum(1)),
            "M is missing in the biases: they are -c^T M c.": both(c @ S, -c.square().sum(1)),
            "The sign of the biases is wrong: a prototype that is far from 0 has a lower bias.": both(c @ S, square(c)),
            "The sign of the weights is wrong: scores are minus the distances.": both(-c @ S, -square(c)),
            "Both signs are wrong: these are distances, and scores are minus distances.": both(-c @ S, square(c)),
            "The biases have one factor 2 too many.": both(c @ S, -2 * square(c)),
            "There are no biases: a prototype's length counts.": both(c @ S, 0 * square(c)),
            "A prototype is the mean of its class, this is the sum.": both(sums @ S, -square(sums)),
            "The biases are the mean over the points of a class; take the mean point first.":
                both(c @ S, -(members.T @ square(support)) / counts[:, 0]),
            "Each class sum is divided by the same number; classes differ in size.":
                both(sums * ways / points @ S, -square(sums * ways / points)),
        }  # fmt: skip
        cases.append(expect((support, labels, ways, M), both(c @ S, -square(c)), mistakes))

    def flat(*arguments: Any) -> Any:
        value = answer(*arguments)
        if isinstance(value, (tuple, list)) and len(value) == 2:
            weight, bias = (torch.as_tensor(part).detach().double() for part in value)
            return torch.cat([weight.flatten(), bias.flatten()])
        return value

    judge(
        "13.2",
        flat if callable(answer) else answer,
        cases,
        "With M = I it is the chapter's head: any distance of this form is a linear layer.",
    )


def check_pull_gradient(answer: Callable[..., Any]) -> None:
    """Exercise 13.3, the derivative of iMAML's query loss by the strength of its pull.

    Args:
        answer: ``pull_gradient(hessian_times, g, away, strength, steps)``, a function of vectors, two vectors ``(n,)``, lambda
            and the steps in which conjugate gradients are exact; a number out.
    """
    cases, counts = [], []
    for n, strength, values, seed in (
        (24, 2.0, (0.3, 1.5), 1),
        (30, 0.5, (0.2, 0.8, 3.0), 2),
        (25, 1.3, (0.2, 2.0, 5.0, 7.0), 3),
        (20, 3.0, (1.1,), 4),
    ):
        turn, _ = torch.linalg.qr(normal(n, n, seed=seed))
        few = torch.tensor(values, dtype=torch.float64)[torch.arange(n) % len(values)]  # few curvatures, many weights
        H = turn @ few.diag() @ turn.T
        g, away, identity = normal(n, seed=seed + 20), normal(n, seed=seed + 40), torch.eye(n, dtype=torch.float64)
        calls: list[int] = []

        def hessian_times(p: Tensor, H: Tensor = H, calls: list[int] = calls) -> Tensor:
            calls.append(1)
            return H.to(p) @ p

        def solved(A: Tensor, g: Tensor = g, away: Tensor = away) -> Tensor:
            return away @ torch.linalg.solve(A, g)

        steps, A = len(values), H + strength * identity
        truth = -solved(A)
        mistakes = {
            "The sign is wrong: a stronger pull moves the solution back, against `away`.": -truth,
            "One lambda is too many: lambda v is the gradient by theta.": strength * truth,
            "lambda I is missing in the system: this solves with H alone.": -solved(H),
            "There is a division by lambda too many: (I + H / lambda)^-1 g is lambda v.": truth / strength,
            "The matrix is H + I: lambda is missing at the identity.": -solved(H + identity),
            "The system is (I + lambda H); it is H + lambda I.": -solved(identity + strength * H),
            "This multiplies where it should divide: the matrix is to be inverted.": -away @ (A @ g),
            "The curvature is missing: the data hold the solution, too.": -(away @ g) / strength,
            "This is the product of g and away alone: between them stands the inverse of H + lambda I.": -(away @ g),
            "These are steepest-descent steps: the next direction needs its share of the last one.":
                -away @ _steepest(A, g, steps),
            "One step too few is taken.": -away @ _conjugate(A, g, steps - 1),
            "This is the gradient by theta; lambda is a number, and so is its gradient.":
                strength * torch.linalg.solve(A, g),
            "This is the vector v; its product with `away` is asked for.": torch.linalg.solve(A, g),
            "This is how the solution moves; its product with the query gradient g is asked for.":
                -torch.linalg.solve(A, away),
        }  # fmt: skip
        cases.append(expect((hessian_times, g, away, strength, steps), truth, mistakes))
        counts.append((calls, steps))
    if not judge("13.3", answer, cases, None, tolerance=1e-3):
        return
    if any(len(calls) > 2 * steps + 2 for calls, steps in counts):
        wrong("13.3", "The number is right, with more products than needed: one per step is enough. Was H built?")
    else:
        correct("13.3", "One solve gives both gradients: by theta it is lambda v, by lambda it is -away @ v.")


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

        def sum_of(factor: float, added: float, K: int = K) -> float:
            return factor**K + added * sum(factor**k for k in range(K))

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
            "The step adds alpha lambda, and this adds lambda: alpha is missing.": sum_of(factor, strength),
            "The pull adds alpha lambda, and it takes something from the factor, too: 1 - alpha (h + lambda).":
                sum_of(1 - alpha * h, alpha * strength),
            "This is 1 minus the derivative: the share that the data decide.": 1 - truth,
        }  # fmt: skip
        cases.append(expect((h, strength, alpha, K), truth, mistakes))
    judge(
        "13.4",
        answer,
        cases,
        "A geometric series: what it sums to is the implicit derivative. Each step leaves 1 - alpha (h + lambda) of the way, and "
        "with alpha (h + lambda) above 2 it never arrives.",
    )
