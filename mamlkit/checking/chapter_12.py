"""Checks of chapter 12, find the bug: the reader writes a test, which must pass on right learners and fail on a broken one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad
from torch.nn import functional as F

from mamlkit.checking._cases import hessian, normal
from mamlkit.checking._report import correct, not_attempted, wrong
from mamlkit.checking._tests import Calls, is_blank, judge_test, passes_on_right, seeded_outcome

__all__ = ["check_company", "check_copies", "check_eight", "check_kind", "check_whole_numbers"]

Loss = Callable[[Tensor], Tensor]
_ROUNDING = "It refuses a right gradient whose sums are done in a different order: allow for rounding."


# --- 12.1: the answer to a point depends on the other points


def check_company(test: Callable[..., Any]) -> None:
    """Exercise 12.1, a test that catches answers which depend on their company.

    Args:
        test: of ``predict(support_x, support_y, query_x)``, with ``(n, 1)``, ``(n, 1)`` and ``(m, 1)``, giving ``(m, 1)``.
    """
    judge_test(
        "12.1",
        test,
        {
            "": lambda: _with_batch_norm(own_batch=False),
            "It refuses a right learner that adds its numbers in a different order: allow for rounding.": lambda: (
                _without_norm
            ),
        },
        lambda: _with_batch_norm(own_batch=True),
        _company_too_kind,
        "The same point, asked in different company, must get the same answer.",
    )


def _with_batch_norm(own_batch: bool) -> Callable[..., Tensor]:
    """A network with one batch norm, adapted to a support set; query points take their own batch's mean, or the support's."""

    def predict(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        start = [normal(20, 1, seed=1), normal(20, seed=2), 0.2 * normal(1, 20, seed=3), normal(1, seed=4)]
        theta = [w.to(support_x.dtype) for w in start]

        def before(theta: Sequence[Tensor], x: Tensor) -> Tensor:
            return x @ theta[0].T + theta[1]  # (points, 20)

        def network(theta: Sequence[Tensor], x: Tensor, company: Tensor) -> Tensor:
            others = before(theta, company)
            mean, sd = others.mean(0), others.std(0, correction=0)  # (20,)
            return torch.tanh((before(theta, x) - mean) / (sd + 1e-5)) @ theta[2].T + theta[3]

        def support_loss(theta: list[Tensor]) -> Tensor:
            return F.mse_loss(network(theta, support_x, support_x), support_y)

        for _ in range(3):
            theta = [w - 0.05 * slope for w, slope in zip(theta, grad(support_loss)(theta), strict=True)]
        return network(theta, query_x, query_x if own_batch else support_x)

    return predict


def _features(x: Tensor) -> Tensor:
    waves = torch.arange(1, 4, dtype=x.dtype)
    return torch.cat([torch.ones_like(x), x, torch.sin(waves * x), torch.cos(waves * x)], 1)  # (points, 8)


def _ridge(x: Tensor, y: Tensor, query_x: Tensor) -> Tensor:
    """A linear head on fixed features, solved instead of descended."""
    a = _features(x)
    return _features(query_x) @ torch.linalg.solve(a.T @ a + 0.1 * torch.eye(8, dtype=x.dtype), a.T @ y)


def _without_norm(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
    return _rounded(_ridge(support_x, support_y, query_x), len(query_x))


def _rounded(answer: Tensor, units: int) -> Tensor:
    """The answer with an error as rounding makes it: sums in a different order differ by a few units of the last digits."""
    return answer * (1 + 2.0**-46 * units)


def _company_too_kind(calls: Calls) -> str:
    asked = [call[2].flatten() for call in calls]
    if len(asked) < 2:
        return "It asks once. Company shows only where the same point is asked again, in different company."
    if all(torch.equal(q.sort().values, asked[0].sort().values) for q in asked):
        return "Each time it asks the same points, at most in another order, and their mean stays. Change who is among them."
    predict, moved = _with_batch_norm(own_batch=True), 0.0
    shared = False
    for i, one in enumerate(calls):
        for other in calls[:i]:
            same = one[2].flatten()[:, None] == other[2].flatten()  # (m, m')
            if same.any():
                shared = True
                away = (predict(*one).flatten()[:, None] - predict(*other).flatten()).abs()
                moved = max(moved, away[same].max().item())
    if not shared:
        return "No point is asked twice. Ask the same point again, in different company."
    return f"On your points its answers change by up to {moved:.2g} with the company: does your assert compare them, that finely?"


# --- 12.2: every Hessian at theta


def check_kind(test: Callable[..., Any]) -> None:
    """Exercise 12.2, a test that catches Hessians which are all taken at theta.

    Args:
        test: of ``meta_gradient(support_loss, query_loss, theta, alpha, K)``, with ``theta`` ``(n,)``, giving ``(n,)``.
    """
    judge_test(
        "12.2",
        test,
        {
            "": lambda: _by_autograd,
            _ROUNDING: lambda: lambda *problem: _rounded(_by_factors(at_theta=False)(*problem), 1),
        },
        lambda: _by_factors(at_theta=True),
        _kind_too_kind,
        "Two steps and a loss whose curvature changes: then it matters where a Hessian is taken.",
    )  # fmt: skip


def _adapted(loss: Loss, theta: Tensor, alpha: float, K: int) -> Tensor:
    for _ in range(K):
        theta = theta - alpha * grad(loss)(theta)  # (n,)
    return theta


def _by_autograd(support_loss: Loss, query_loss: Loss, theta: Tensor, alpha: float, K: int) -> Tensor:
    return grad(lambda theta: query_loss(_adapted(support_loss, theta, alpha, K)))(theta.detach())


def _by_factors(at_theta: bool) -> Callable[..., Tensor]:
    def meta_gradient(support_loss: Loss, query_loss: Loss, theta: Tensor, alpha: float, K: int) -> Tensor:
        path = [theta.detach()]
        for _ in range(K):
            path.append(path[-1] - alpha * grad(support_loss)(path[-1]))
        v = grad(query_loss)(path[-1])  # (n,)
        for point in reversed(path[:-1]):
            v = v - alpha * hessian(support_loss)(path[0] if at_theta else point) @ v
        return v

    return meta_gradient


def _kind_too_kind(calls: Calls) -> str:
    if max(call[4] for call in calls) < 2:
        return (
            "With one inner step there is one Hessian, and it is taken at theta: nothing can go wrong. Take more steps."
        )
    apart = 0.0
    for support_loss, query_loss, theta, alpha, K in calls:
        if K > 1:
            arguments = (support_loss, query_loss, theta.double(), alpha, K)
            truth = _by_autograd(*arguments)
            apart = max(apart, ((_by_factors(True)(*arguments) - truth).norm() / truth.norm()).item())
    if apart < 1e-9:
        return "Your support loss has the same Hessian everywhere, as every quadratic has. Take one whose curvature changes."
    return (
        f"On your losses its gradient is off by {100 * apart:.1g} per cent: does your assert compare with an independent "
        "gradient, that finely?"
    )


# --- 12.3: whole numbers taken for classes


def check_whole_numbers(test: Callable[..., Any]) -> None:
    """Exercise 12.3, a test that catches whole-number targets taken for classes.

    Args:
        test: of ``predict(support_x, support_y, query_x)``, with ``(n, 1)``, ``(n, 2)`` and ``(m, 1)``, giving ``(m, 2)``.
    """
    judge_test(
        "12.3",
        test,
        {
            "": lambda: _counting(classes=False),
            "It refuses a right learner of a different kind (ridge regression). Ask for what every right learner does.":
                lambda: _ridge_of_counts,
            "It refuses a right learner that takes five inner steps and ends further from its targets.":
                lambda: _counting(classes=False, steps=5),
            "It refuses a right learner that is a small network: twice the targets need not give twice the answers.":
                lambda: _network_of_counts,
        },
        lambda: _counting(classes=True),
        _whole_too_kind,
        "The same numbers, as whole numbers and as floats, are the same targets.",
    )  # fmt: skip


def _counting(classes: bool, steps: int = 300) -> Callable[..., Tensor]:
    """A linear head on fixed features, adapted by gradient steps; the loss of whole numbers may be that of classes."""

    def predict(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        support_y = torch.as_tensor(support_y)
        a = _features(support_x)  # (n, 8)
        head = torch.zeros(8, support_y.shape[1], dtype=support_x.dtype)

        def loss(head: Tensor) -> Tensor:
            if classes and not support_y.is_floating_point():
                return F.cross_entropy(a @ head, support_y.int().argmax(1))
            return F.mse_loss(a @ head, support_y.to(a.dtype))

        for _ in range(steps):
            head = head - 0.2 * grad(loss)(head)
        return _features(query_x) @ head

    return predict


def _ridge_of_counts(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
    y = torch.as_tensor(support_y)
    return _rounded(_ridge(support_x, y.to(support_x.dtype), query_x), 2 if y.is_floating_point() else 1)


def _network_of_counts(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
    """A network of one hidden layer, all of it adapted by gradient steps."""
    y = torch.as_tensor(support_y).to(support_x.dtype)
    start = [
        normal(20, 1, seed=1),
        normal(20, seed=2),
        0.2 * normal(y.shape[1], 20, seed=3),
        normal(y.shape[1], seed=4),
    ]
    theta = [w.to(y.dtype) for w in start]

    def network(theta: Sequence[Tensor], x: Tensor) -> Tensor:
        return torch.tanh(x @ theta[0].T + theta[1]) @ theta[2].T + theta[3]  # (points, 2)

    def loss(theta: list[Tensor]) -> Tensor:
        return F.mse_loss(network(theta, support_x), y)

    for _ in range(100):
        theta = [w - 0.05 * slope for w, slope in zip(theta, grad(loss)(theta), strict=True)]
    return network(theta, query_x)


def _whole_too_kind(calls: Calls) -> str:
    whole = [call for call in calls if not torch.as_tensor(call[1]).is_floating_point()]
    if not whole:
        return "All targets of your test are floats. Give it whole numbers, as counts come: torch.tensor([[3, 1], [0, 2]])."
    off = max((_counting(True)(*call) - _counting(False)(*call)).abs().max().item() for call in whole)
    return f"On your whole numbers its answers are off by up to {off:.2g}: what does your assert compare them with?"


# --- 12.4: an interval from single hits


def check_copies(test: Callable[..., Any]) -> None:
    """Exercise 12.4, a test that catches an interval over single hits.

    Args:
        test: of ``interval(hits)``, with ``(tasks, queries)`` of zeros and ones, giving the mean and the half-width.
    """
    judge_test(
        "12.4",
        test,
        {
            "": lambda: _over_tasks(student=False),
            "It refuses an interval by Student's t, which is right, and a little wider where tasks are few. Ask for what both "
            "give.": lambda: _over_tasks(student=True),
        },
        lambda: _over_hits,
        _copies_too_kind,
        "More query points of the same tasks say little about other tasks, and copies of them say nothing.",
        _copied_tasks,
    )  # fmt: skip


def _copied_tasks(calls: Calls) -> str:
    """What to say where one call has another's tasks several times over."""
    asked = [hits for call in calls if len(hits := torch.as_tensor(call[0]).double())]
    for few in asked:
        for many in asked:
            times = len(many) // len(few)
            if times > 1 and any(
                torch.equal(copies, many) for copies in (few.repeat(times, 1), few.repeat_interleave(times, 0))
            ):
                return (
                    "You copied tasks, and a right interval does get narrower with more tasks. Copy query points: the other "
                    "axis."
                )
    return ""


def _over_tasks(student: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    def interval(hits: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.as_tensor(hits).double().mean(1)  # (tasks,)
        n = len(values)
        # Student's t at 0.975, by its expansion in 1 / degrees of freedom
        z, freedom = 1.959964, max(n - 1, 1)
        wide = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2) if student else 1.96
        return values.mean(), wide * values.std() / n**0.5

    return interval


def _over_hits(hits: Tensor) -> tuple[Tensor, Tensor]:
    values = torch.as_tensor(hits).double().flatten()  # (tasks * queries,)
    return values.mean(), 1.96 * values.std() / len(values) ** 0.5


def _copies_too_kind(calls: Calls) -> str:
    if all(torch.as_tensor(call[0]).shape[1] == 1 for call in calls):
        return "With one query point per task a hit is a task's accuracy. Give several query points per task."
    ratios = [(_over_tasks(False)(call[0])[1] / _over_hits(call[0])[1]).item() for call in calls]
    if all(0.8 < ratio < 1.25 for ratio in ratios):
        return (
            "On your hits both intervals are about equally wide, since the hits of a task are no more alike than others. In "
            "real tasks they are: some tasks are easy, others hard."
        )
    return f"On your hits the right half-width is {max(ratios):.2g} times the broken one: does your assert look at it?"


# --- 12.5: eight at once


def check_eight(test: Callable[..., Any]) -> None:
    """Exercise 12.5, one test that catches eight broken learners.

    Args:
        test: of ``meta_gradient(support_losses, query_losses, theta, alpha, K)``, with lists of losses, one per task.
    """
    if is_blank(test):
        not_attempted("12.5")
        return
    found = {hint: seeded_outcome(test, make) for hint, make in _EIGHT.items()}
    right = {"": lambda: _mean_by_autograd, _ROUNDING: lambda: _mean_by_factors}
    if not passes_on_right("12.5", test, right, list(found.values())):
        return
    through = [hint for hint, outcome in found.items() if outcome.said == "passes"]
    if through:
        caught = len(found) - len(through)
        wrong("12.5", f"{caught} of {len(found)} are caught. One that gets through: {through[0]}")
    else:
        correct("12.5", "All eight are caught, and two right learners pass.")


def _mean_by_autograd(
    support_losses: Sequence[Loss], query_losses: Sequence[Loss], theta: Tensor, alpha: float, K: int
) -> Tensor:
    pairs = zip(support_losses, query_losses, strict=True)
    return torch.stack([_by_autograd(support, query, theta, alpha, K) for support, query in pairs]).mean(0)


def _mean_by_factors(
    support_losses: Sequence[Loss], query_losses: Sequence[Loss], theta: Tensor, alpha: float, K: int
) -> Tensor:
    pairs = list(zip(support_losses, query_losses, strict=True))
    each = [_by_factors(False)(support, query, theta, alpha, K) for support, query in reversed(pairs)]
    return _rounded(torch.stack(each).sum(0) / len(each), 1)


def _each(one: Callable[[Loss, Loss, Tensor, float, int], Tensor]) -> Callable[[], Callable[..., Tensor]]:
    """A maker of a broken learner from a broken gradient of one task."""

    def meta_gradient(
        support_losses: Sequence[Loss], query_losses: Sequence[Loss], theta: Tensor, alpha: float, K: int
    ) -> Tensor:
        pairs = zip(support_losses, query_losses, strict=True)
        return torch.stack([one(support, query, theta, alpha, K) for support, query in pairs]).mean(0)

    return lambda: meta_gradient


def _chained(support_losses: Any, query_losses: Any, theta: Tensor, alpha: float, K: int) -> Tensor:
    def total(theta: Tensor) -> Tensor:
        values = []
        for support, query in zip(support_losses, query_losses, strict=True):
            theta = _adapted(support, theta, alpha, K)
            values.append(query(theta))
        return torch.stack(values).mean()

    return grad(total)(theta.detach())


def _summed(support_losses: Any, query_losses: Any, theta: Tensor, alpha: float, K: int) -> Tensor:
    return len(support_losses) * _mean_by_autograd(support_losses, query_losses, theta, alpha, K)


def _writing(support_losses: Any, query_losses: Any, theta: Tensor, alpha: float, K: int) -> Tensor:
    gradient = _mean_by_autograd(support_losses, query_losses, theta, alpha, K)
    theta.data.sub_(alpha * grad(support_losses[-1])(theta.detach()))
    return gradient


def _remembering() -> Callable[..., Tensor]:
    kept: list[Tensor] = []

    def meta_gradient(support_losses: Any, query_losses: Any, theta: Tensor, alpha: float, K: int) -> Tensor:
        kept.append(theta.detach().clone())
        return _mean_by_autograd(support_losses, query_losses, kept[0], alpha, K)

    return meta_gradient


#: Eight makers of broken learners, by what a reader is told of the one that gets through.
_EIGHT: dict[str, Callable[[], Callable[..., Any]]] = {
    "it leaves out every factor I - alpha H. Compare with a gradient that was computed in another way.":
        _each(lambda support, query, theta, alpha, K: grad(query)(_adapted(support, theta, alpha, K))),
    "it looks at the query losses where the support losses belong.":
        _each(lambda support, query, theta, alpha, K: _by_autograd(query, query, theta, alpha, K)),
    "it takes one inner step, whatever K is.":
        _each(lambda support, query, theta, alpha, K: _by_autograd(support, query, theta, alpha, 1)),
    "it is right for one inner step, and for losses whose curvature is the same everywhere.": _each(_by_factors(True)),
    "it is right for one task; its sum over the tasks should be their mean.": lambda: _summed,
    "it is right for one task; with more of them, a task starts where the one before it ended.": lambda: _chained,
    "its gradient is right. Look at theta, after the call.": lambda: _writing,
    "it is right the first time that it is called. Call it again, with a different theta.": _remembering,
}  # fmt: skip
