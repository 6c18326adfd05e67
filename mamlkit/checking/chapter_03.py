"""Checks of chapter 3, a gradient of gradients. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from mamlkit.checking._cases import Case, attempt_with_copies, expect, hessian, judge, normal, problem
from mamlkit.checking._memory import memory_of
from mamlkit.checking._report import as_tensor, close, correct, not_attempted, wrong

__all__ = ["check_adjoint", "check_blind", "check_hvp", "check_pencil", "check_product"]


def check_pencil(answer: Callable[..., Any]) -> None:
    """Exercise 3.1, the meta-gradient of one weight after K steps, each with its own step size.

    Args:
        answer: ``meta_gradient(theta, c, h, q, alphas)``, numbers and a tuple of K numbers in, a number out.
    """
    cases = []
    for theta, c, h, q, alphas in (
        (2.0, 0.5, 3.0, -1.0, (0.1, 0.2)),
        (1.0, -0.5, 4.0, 0.3, (0.4, 0.1, 0.3)),
        (0.7, 0.2, 2.0, 1.0, (0.3,)),
    ):
        factors = [1 - alpha * h for alpha in alphas]
        factor, first, steps = prod(factors), factors[0], len(alphas)
        last, one = c + factor * (theta - c), c + first * (theta - c)
        wrong_way = prod(1 + alpha * h for alpha in alphas)
        same = c + first**steps * (theta - c)  # with the first step size throughout
        added = 1 - h * sum(alphas)
        mistakes = {
            "The factor is missing: this is the query gradient at theta^(K), the first-order answer.": last - q,
            "Only the first step's factor is there; each of the K steps contributes one.": first * (last - q),
            "Only the last step's factor is there; each of the K steps contributes one.": factors[-1] * (last - q),
            "Every step has the first step size here; step k has alpha_k.": first**steps * (same - q),
            "In the factors every step has the first step size; step k has alpha_k.": first**steps * (last - q),
            "theta^(K) is the end of K steps; here it is that of one.": factor * (one - q),
            "Only the first step is here, in the factor and in theta^(K).": first * (one - q),
            "The factors enter by multiplication, not by addition: their product, not their sum.": sum(factors)
            * (last - q),
            "The step sizes are added up: each step multiplies what the one before has left of the distance.": added
            * (c + added * (theta - c) - q),
            "In the factor the step sizes are added up: multiply the factors 1 - alpha_k h of the steps.": added
            * (last - q),
            "theta^(K) lacks c: the inner steps shrink theta - c, so c comes back at the end.": factor * (last - c - q),
            "There is an h too many: it belongs to the support loss, the query loss has curvature 1.": h
            * factor
            * (last - q),
            "The sign of alpha h is wrong in the factor: descent subtracts, so it is 1 - alpha h.": wrong_way
            * (last - q),
            "The sign of alpha h is wrong: an inner step goes down the slope.": wrong_way
            * (c + wrong_way * (theta - c) - q),
            "The query gradient is taken at theta; it belongs at the adapted weight theta^(K).": factor * (theta - q),
            "This judges the adapted weight by the support set's minimum c; the query set's minimum is q.": factor
            * (last - c),
            "The sign of the result is wrong: the query gradient is theta^(K) - q.": -factor * (last - q),
            "This is the loss after adaptation, not its derivative.": 0.5 * (last - q) ** 2,
        }
        cases.append(expect((theta, c, h, q, alphas), factor * (last - q), mistakes))
    judge("3.1", answer, cases, "One factor 1 - alpha_k h for each step, times the query gradient at theta^(K).")


def check_blind(answer: Callable[..., Any]) -> None:
    """Exercise 3.2, the step size at which the meta-gradient vanishes along an eigenvector.

    Args:
        answer: ``blind_step_size(H, v)``, with ``H`` symmetric ``(n, n)`` and ``v`` an eigenvector ``(n,)`` of any length.
    """
    cases = []
    for size, which, length in ((2, 0, 3.0), (3, 1, 0.5), (4, 2, 2.0)):
        root = normal(size, size, seed=size)
        matrix = root @ root.T + torch.eye(size, dtype=torch.float64)  # (n, n), positive definite
        values, vectors = torch.linalg.eigh(matrix)
        v, value = length * vectors[:, which], values[which]
        mistakes = {
            "This is the eigenvalue, the curvature along v; the factor 1 - alpha h is zero at its inverse.": value,
            "At 2 / h the factor is -1: that is where the inner loop starts to diverge. It is zero earlier.": 2 / value,
            "v need not have length 1: the curvature along v is v.H v divided by v.v.": 1 / (length**2 * value),
            "v need not have length 1: the length of H v is the eigenvalue times the length of v.": 1 / (length * value),
            "This is the inverse of H's largest eigenvalue; take the eigenvalue that belongs to v.": 1 / values[-1],
            "The sign is wrong: the factor is 1 - alpha h.": -1 / value,
        }  # fmt: skip
        cases.append(expect((matrix, v), 1 / value, mistakes))
    judge(
        "3.2",
        answer,
        cases,
        "With this step size every start ends at the same place along v, so the start cannot matter.",
    )


def check_hvp(answer: Callable[..., Any]) -> None:
    """Exercise 3.3, a Hessian-vector product.

    Args:
        answer: ``hvp(f, theta, v)``, with ``theta`` and ``v`` of shape ``(n,)``, giving ``(n,)``.
    """
    cases = []
    for size in (3, 5):
        mix, v = normal(size, size, seed=10 + size), normal(size, seed=20 + size)

        def f(theta: Tensor, mix: Tensor = mix) -> Tensor:
            return torch.sin(mix @ theta).sum() + (theta**4).sum() / 4 + theta @ mix @ theta

        theta = normal(size, seed=30 + size)
        g, matrix = grad(f)(theta), hessian(f)(theta)
        ones = torch.ones_like(v)
        mistakes = {
            "This is the gradient: v has not entered, and nothing was differentiated twice.": g,
            "This is the gradient times v, entry by entry; no second derivative is in it.": g * v,
            "The gradient was summed, not multiplied by v, before the second derivative.": matrix @ ones,
            "v came in after the second derivative; it belongs inside: differentiate g @ v.": (matrix @ ones) * v,
            "Only the diagonal of H is in it: the second derivatives across entries are missing.": matrix.diagonal() * v,
            "The sign is wrong.": -(matrix @ v),
            "This is the number v.H v; H v itself is a vector.": v @ matrix @ v,
            "This is the number g.v, before its gradient is taken.": g @ v,
        }  # fmt: skip
        cases.append(expect((f, theta.clone().requires_grad_(), v), matrix @ v, mistakes))
    if callable(answer) and _forgets_the_graph(answer, *cases[0].arguments):
        wrong(
            "3.3",
            "The gradient has no graph to differentiate: the first torch.autograd.grad needs create_graph=True.",
        )
        return
    if not judge("3.3", answer, cases, None):
        return
    if _takes_differences(answer, *cases[0].arguments):
        wrong(
            "3.3", "The numbers are near, but f was called away from theta: differentiate the gradient at theta itself."
        )
    elif _builds_the_hessian(answer):
        wrong("3.3", "The numbers are right, but you built H: n by n numbers. Two gradients do without.")
    else:
        correct("3.3", "It equals the explicit Hessian times v.")


def check_product(answer: Callable[..., Any]) -> None:
    """Exercise 3.4, the meta-gradient as a product of K factors, to be mended.

    Args:
        answer: ``meta_gradient(path, hessian, alpha, query_gradient)``, with ``path`` the list theta^(0), ..., theta^(K),
            ``hessian(theta)`` of shape ``(n, n)`` and ``query_gradient`` ``(n,)`` at theta^(K); it gives ``(n,)``.
    """
    cases = []
    for alpha, steps in ((0.2, 4), (0.3, 2), (0.1, 1)):
        support, query, path = problem(alpha, steps, seed=steps)
        g = grad(query)(path[-1])
        truth, mistakes = _product_and_mistakes(support, path, alpha, g)
        cases.append(expect((path, hessian(support), alpha, g), truth, mistakes))
    if callable(answer) and _is_as_given(answer, cases):
        not_attempted("3.4")
        return
    judge(
        "3.4",
        answer,
        cases,
        "K factors, each Hessian where its step starts, the last step's factor first at the gradient.",
    )


def check_adjoint(answer: Callable[..., Any]) -> None:
    """Exercise 3.5, the adjoint recursion, with the derivative with respect to the step size.

    Args:
        answer: ``adjoint(support_loss, query_loss, path, alpha)``, with ``path`` the list theta^(0), ..., theta^(K); it
            gives the pair: gradient with respect to theta ``(n,)``, derivative with respect to alpha, a number.
    """
    first, second, missing = [], [], False

    def part(index: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            return answer(*arguments)[index]

        return call

    for alpha, steps in ((0.2, 4), (0.3, 2), (0.1, 1)):
        support, query, path = problem(alpha, steps, seed=steps)
        arguments = (support, query, path, alpha)
        done, pair = attempt_with_copies("3.5", answer, *arguments)
        if not done:
            return
        if isinstance(pair, Tensor) or not isinstance(pair, Sequence) or len(pair) != 2:
            wrong(
                "3.5",
                "Return two things: the gradient with respect to theta, and the derivative with respect to alpha.",
            )
            return
        missing = missing or any(value is None or value is ... for value in pair)
        truth, mistakes = _product_and_mistakes(support, path, alpha, grad(query)(path[-1]))
        first.append(expect(arguments, truth, mistakes))
        second.append(expect(arguments, *_by_alpha(support, query, path, alpha)))
    if missing:
        wrong("3.5", "One of the two is None: return the derivatives with respect to theta and with respect to alpha.")
        return
    if not judge("3.5", part(0), first, None, "The gradient with respect to theta is not right. "):
        return
    judge(
        "3.5",
        part(1),
        second,
        "Both derivatives equal autograd's.",
        "The gradient with respect to theta is right, the derivative with respect to alpha is not. ",
    )


def _forgets_the_graph(answer: Callable[..., Any], f: Callable[[Tensor], Tensor], theta: Tensor, v: Tensor) -> bool:
    """Whether the second derivative fails although every value of f had a graph."""
    graphs = []

    def watched(point: Tensor) -> Tensor:
        value = f(point)
        graphs.append(value.requires_grad)
        return value

    try:
        answer(watched, theta.detach().clone().requires_grad_(), v.clone())
    except RuntimeError as error:
        return "does not require grad" in str(error) and bool(graphs) and all(graphs)
    except Exception:  # judge will say which
        return False
    return False


def _takes_differences(answer: Callable[..., Any], f: Callable[[Tensor], Tensor], theta: Tensor, v: Tensor) -> bool:
    """Whether a right answer calls f at other points than theta."""
    away = []

    def watched(point: Tensor) -> Tensor:
        with contextlib.suppress(Exception):  # a point that a transform has wrapped may have no numbers
            away.append(float((point.detach() - theta.detach()).norm()))
        return f(point)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        answer(watched, theta.detach().clone().requires_grad_(), v.clone())
    return any(distance > 3e-7 for distance in away)  # more than theta in float32 would be


def _builds_the_hessian(answer: Callable[..., Any], n: int = 40) -> bool:
    """Whether a right answer makes a tensor of n * n numbers for an f that needs none larger than n."""

    def f(theta: Tensor) -> Tensor:
        return torch.sin(theta[1:] * theta[:-1]).sum() + (theta**4).sum() / 4

    theta = normal(n, seed=70).requires_grad_()
    memory = memory_of(
        lambda: answer(f, theta, normal(n, seed=71))
    )  # right on the small cases: not refused where this fails
    return memory is not None and memory.largest >= n * n


def _is_as_given(answer: Callable[..., Any], cases: Sequence[Case]) -> bool:
    """Whether an answer to 3.4 gives what the function with its three mistakes gives."""
    for case in cases:
        path, at, alpha, g = case.arguments
        given = g - alpha * torch.stack([at(point) @ g for point in path[1:]]).sum(0)
        try:
            value = as_tensor(answer([point.clone() for point in path], at, alpha, g.clone()))
        except Exception:  # judge will say which
            return False
        if value is None or value.shape != given.shape or not close(value, given):
            return False
    return True


def _product_and_mistakes(
    support: Callable[[Tensor], Tensor], path: list[Tensor], alpha: float, g: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The meta-gradient, and what each mistake would give."""
    hessians = [hessian(support)(point) for point in path]  # K + 1 times (n, n)
    steps, identity = len(path) - 1, torch.eye(len(g), dtype=torch.float64)

    def product(matrices: Sequence[Tensor], step_size: float = alpha) -> Tensor:
        result = g
        for matrix in reversed(matrices):
            result = result - step_size * (matrix @ result)
        return result

    own = hessians[:-1]
    return product(own), {
        "The factors are missing: this is the query gradient at theta^(K), the first-order answer.": g,
        "Every Hessian is taken at theta; step k starts at theta^(k), so its Hessian belongs there.": product([own[0]] * steps),
        "The factors are in the wrong order: the last step's factor meets the query gradient first.": product(own[::-1]),
        "Each Hessian is taken where its step ends; it belongs where the step starts, at theta^(k).": product(hessians[1:]),
        "Each Hessian is taken where its step ends, and the factors are in the wrong order.": product(hessians[:0:-1]),
        "Every Hessian is taken at theta^(K), where no step starts.": product([hessians[-1]] * steps),
        "The first step's factor, with the Hessian at theta^(0), is missing.": product(own[1:]),
        "The last step's factor, with the Hessian at theta^(K-1), is missing.": product(own[:-1]),
        "There is one factor too many: no step starts at theta^(K).": product(hessians),
        "The sign is wrong: the factor is I - alpha H.": product(own, -alpha),
        "The step size alpha is missing in the factors.": product(own, 1.0),
        "The Hessians are added up in one factor; each step needs its own factor, multiplied.":
            (identity - alpha * torch.stack(own).sum(0)) @ g,
        "The identity is missing in the factors: each is I - alpha H.":
            torch.linalg.multi_dot([*(-alpha * h for h in own), g[:, None]])[:, 0],
    }  # fmt: skip


def _by_alpha(
    support: Callable[[Tensor], Tensor], query: Callable[[Tensor], Tensor], path: list[Tensor], alpha: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The derivative of the final query loss with respect to alpha, and what each mistake would give."""
    steps = len(path) - 1
    adjoints = [grad(query)(path[-1])]  # lambda_K, ..., lambda_0
    for point in reversed(path[:-1]):
        adjoints.append(adjoints[-1] - alpha * hessian(support)(point) @ adjoints[-1])
    adjoints.reverse()
    gradients = [grad(support)(point) for point in path]
    terms = torch.stack([gradients[k] @ adjoints[k + 1] for k in range(steps)])  # (K,)
    return -terms.sum(), {
        "The sign is wrong: alpha enters each step as minus alpha times g_k.": terms.sum(),
        "Which adjoint belongs to the point that step k produces?":
            -torch.stack([gradients[k] @ adjoints[k] for k in range(steps)]).sum(),
        "Only the last step's term is there; alpha enters every step, so sum over k.": -terms[-1],
        "Only the first step's term is there; alpha enters every step, so sum over k.": -terms[0],
        "This is the mean over the steps; the chain rule gives their sum.": -terms.mean(),
        "Every term has the query gradient lambda_K; each step is paired with an adjoint of its own.":
            -torch.stack([gradients[k] @ adjoints[-1] for k in range(steps)]).sum(),
        "The support gradient is taken where the step ends; g_k is at theta^(k), where it starts.":
            -torch.stack([gradients[k + 1] @ adjoints[k + 1] for k in range(steps)]).sum(),
        "There is a factor alpha too many: -alpha g_k changes with alpha at the rate -g_k.": -alpha * terms.sum(),
        "g_k is the gradient of the support loss; here it is the query loss's.":
            -torch.stack([grad(query)(path[k]) @ adjoints[k + 1] for k in range(steps)]).sum(),
        "g_k is the gradient of the support loss at theta^(k); here the query gradient at theta^(K) stands in every term.":
            -torch.stack([adjoints[-1] @ adjoints[k + 1] for k in range(steps)]).sum(),
        "Every support gradient is taken at theta; g_k is at theta^(k).":
            -torch.stack([gradients[0] @ adjoints[k + 1] for k in range(steps)]).sum(),
    }  # fmt: skip
