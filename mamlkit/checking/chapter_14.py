"""Checks of chapter 14, fast and lean. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mamlkit.checking._cases import Case, expect, hessian, judge, normal, problem
from mamlkit.checking._memory import memory_of
from mamlkit.checking._report import correct, wrong

__all__ = ["check_all_at_once", "check_by_c", "check_errors", "check_saved_bytes", "check_sparse_path"]

EPS = torch.finfo(torch.float32).eps


def check_saved_bytes(answer: Callable[..., Any]) -> None:
    """Exercise 14.1, how many bytes autograd keeps for the way back.

    Args:
        answer: ``saved_bytes(f, theta)``, with ``f`` of a tensor that asks for gradients, giving a number of bytes.
    """
    long, matrix = normal(60, seed=1).requires_grad_(), normal(6, 5, seed=2).float().requires_grad_()
    cases = [
        _bytes_case(lambda x: (x.sin() * x.exp()).sum(), long),  # one tensor is kept by two operations
        _bytes_case(lambda x: (x[:10].sin() * x[20:30]).sum(), long),  # views keep the whole storage
        _bytes_case(lambda x: torch.tanh(torch.tanh(x) @ x.T).sum(), matrix),
        # A storage that is let go of in this chain gives its address to a later one.
        _bytes_case(_chain, long)._replace(explain=_address_reused),
    ]
    judge("14.1", answer, cases, "What autograd keeps is counted to the byte, and the same on every machine.")


def _chain(x: Tensor) -> Tensor:
    for _ in range(100):
        x = x.sin()
    return x.sum()


def _address_reused(value: Tensor) -> str:
    return (
        f"In a chain of 100 operations this counts {value.item():.0f} bytes, and it should be 48000. Does put_away return the "
        "tensor itself? One that is let go of gives its address to the next, and the two are counted as one."
    )


def _bytes_case(f: Callable[[Tensor], Tensor], theta: Tensor) -> Case:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        f(theta)
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in kept}

    def total(size: Callable[[Tensor], int], tensors: Iterable[Tensor] = storages.values()) -> int:
        return sum(size(tensor) for tensor in tensors)

    def of_storage(tensor: Tensor) -> int:
        return tensor.untyped_storage().nbytes()

    mistakes = {
        "A storage that several tensors share, or that is kept twice, counts once.": total(of_storage, kept),
        "Every tensor counts that is put away, also those that share a storage; count storages, each once.":
            total(lambda tensor: tensor.nbytes, kept),
        "These are numbers, not bytes: a number in float64 has 8, in float32 it has 4.":
            total(lambda tensor: of_storage(tensor) // tensor.element_size()),
        "These are numbers, not bytes, and storages count more than once.": total(lambda tensor: tensor.numel(), kept),
        "A view keeps the whole storage alive, not only the part that it shows: ask untyped_storage().nbytes().":
            total(lambda tensor: tensor.nbytes),
        "Views of a storage begin at addresses of their own: key by the address of the storage.":
            total(of_storage, {tensor.data_ptr(): tensor for tensor in kept}.values()),
        "This counts tensors: add up the bytes of their storages.": len(kept),
        "This counts storages: add up their bytes.": len(storages),
        "theta counts, too, where autograd keeps it.":
            total(lambda tensor: of_storage(tensor) * (tensor.data_ptr() != theta.data_ptr())),
        "Only the last tensor counts: add them up.": of_storage(kept[-1]),
    }  # fmt: skip
    return expect((f, theta), total(of_storage), mistakes)


def check_all_at_once(answer: Callable[..., Any]) -> None:
    """Exercise 14.2, the meta-gradient of all tasks with as many calls as that of one.

    Args:
        answer: ``meta_gradient(task_loss, theta, tasks)``, with ``theta`` ``(n,)`` and a tuple of tensors ``(tasks, ...)``,
            giving ``(n,)``.
    """
    cases = []
    for count in (4, 3):
        theta, tasks = normal(3, seed=count), _tasks(count)
        each = torch.stack([grad(_task_loss)(theta, *task) for task in zip(*tasks, strict=True)])  # (tasks, n)
        mistakes = {
            "This is the sum over the tasks; the meta-batch takes their mean.": each.sum(0),
            "Only the first task counts; take the mean over all.": each[0],
            "Only the last task counts; take the mean over all.": each[-1],
            "These are the gradients of the tasks; take their mean.": each,
            "The sign is wrong: give the gradient itself.": -each.mean(0),
            "This is the mean loss, not its gradient.":
                torch.stack([_task_loss(theta, *task) for task in zip(*tasks, strict=True)]).mean(),
        }  # fmt: skip
        cases.append(expect((_task_loss, theta, tasks), each.mean(0), mistakes))
    if not judge("14.2", answer, cases, None):
        return
    few, many = (_calls(partial(answer, _task_loss, normal(3, seed=1), _tasks(count))) for count in (3, 30))
    if many > 2 * few:
        wrong(
            "14.2",
            f"The numbers are right, but 30 tasks take {many} calls of operations where 3 take {few}: the tasks still come one "
            "after the other. Let vmap give each operation one more axis.",
        )
    else:
        correct("14.2", "Ten times the tasks, and no more calls.")


def _tasks(count: int) -> tuple[Tensor, Tensor]:
    return normal(count, 3, 3, seed=10 + count), normal(count, 3, seed=20 + count)


def _task_loss(theta: Tensor, mix: Tensor, target: Tensor) -> Tensor:
    def support(theta: Tensor) -> Tensor:
        return torch.log(torch.cosh(mix @ theta)).sum()

    adapted = theta - 0.2 * grad(support)(theta)
    return (adapted - target).square().sum()


class _Calls(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def _calls(call: Callable[[], Any]) -> int:
    with _Calls() as calls:
        call()
    return calls.count


def check_sparse_path(answer: Callable[..., Any]) -> None:
    """Exercise 14.3, the meta-gradient with a part of the path kept and the rest computed again.

    Args:
        answer: ``sparse_meta_gradient(support_loss, query_loss, theta, alpha, K, every)``, with ``theta`` ``(n,)``, giving
            ``(n,)``.
    """
    cases = []
    for alpha, K, every in ((0.2, 5, 2), (0.1, 6, 3), (0.2, 4, 1), (0.3, 3, 5)):
        support, query, path = problem(alpha, K, seed=K)
        g = grad(query)(path[-1])
        whole, more = K // every * every, -(-K // every) * every  # if all stretches were full: one fewer, or not
        far = [*path]
        while len(far) <= more:
            far.append(far[-1] - alpha * grad(support)(far[-1]))
        hessians = [hessian(support)(point) for point in far]  # (n, n) each

        def sent_back(
            steps: Iterable[int], g: Tensor = g, at: Sequence[Tensor] = hessians, alpha: float = alpha
        ) -> Tensor:
            for step in steps:
                g = g - alpha * at[step] @ g
            return g

        order = list(reversed(range(K)))
        starts = range(0, K, every)
        mistakes = {
            "No factor is there: this is FOMAML's gradient.": g,
            "Every step of a stretch has its Hessian at the kept point that the stretch begins with; take the steps again.":
                sent_back([k - k % every for k in order]),
            "Each Hessian is taken where its step ends; it belongs where the step starts.": sent_back([k + 1 for k in order]),
            "The factors stand in the wrong order: that of the last step comes first.": sent_back(range(K)),
            "The stretches come in the wrong order: the last one first.":
                sent_back(k for a in starts for k in reversed(range(a, min(a + every, K)))),
            "Within a stretch the steps come in the wrong order: the last one first.":
                sent_back(k for a in reversed(starts) for k in range(a, min(a + every, K))),
            "Only the steps that start at a kept point have their factor.": sent_back(reversed(starts)),
            "The last stretch may be shorter than the others: there are K steps, not a multiple of every.":
                sent_back(reversed(range(whole))),
            "The last stretch is left out: there are K steps, not a multiple of every.":
                sent_back(reversed(range(whole)), grad(query)(path[whole])),
            "Here K is no multiple of every: the last stretch has fewer steps, and so fewer factors.":
                sent_back(reversed(range(more))),
            "Here K is no multiple of every: the last stretch has fewer steps, or the path gets longer than K.":
                sent_back(reversed(range(more)), grad(query)(far[more])),
            "The sign is wrong: the factor is I - alpha H.": sent_back(order, alpha=-alpha),
            "The step size alpha is missing in the factors.": sent_back(order, alpha=1.0),
            "The query gradient is taken at theta; it belongs at the adapted weights.": sent_back(order, grad(query)(path[0])),
            "The sign of the result is wrong.": -sent_back(order),
        }  # fmt: skip
        cases.append(expect((support, query, path[0].clone(), alpha, K, every), sent_back(order), mistakes))
    if not judge("14.3", answer, cases, None):
        return
    if flaw := _wasteful(answer):
        wrong("14.3", flaw)
    else:
        correct("14.3", "The memory of a few points, for one more walk along the path.")


def _wasteful(answer: Callable[..., Any], n: int = 500, K: int = 64, every: int = 8) -> str:
    """What a right answer keeps or computes too much of; empty when it does not."""
    calls = 0

    def support(theta: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.log(torch.cosh(theta)).sum()

    def query(theta: Tensor) -> Tensor:
        return (theta - 1).square().sum()

    memory = memory_of(partial(answer, support, query, normal(n, seed=3), 0.1, K, every))
    if memory is None:  # right on the small cases: not refused for this one
        return ""
    if memory.largest >= n * n:
        return "The numbers are right, but a Hessian was built. Build none: autograd gives each factor times a vector."
    if memory.peak > 0.75 * K * n:
        return (
            f"The numbers are right, but with K = {K} and every = {every} about {memory.peak // n} vectors as long as theta are "
            "alive at once. Keep one point in every, and the points of one stretch. When a stretch is done, let go of it and of "
            "its graphs."
        )
    if calls > 6 * K:
        return (
            f"The numbers are right, but the support loss is called {calls} times for K = {K}. Take the steps of a stretch once, "
            "from its kept point, and hold its points until the stretch is done."
        )
    return ""


def check_errors(answer: Callable[..., Any]) -> None:
    """Exercise 14.4, the error of each piece in float32, with exact inputs.

    Args:
        answer: ``errors(pieces, x)``, with functions and ``x`` in float64, giving one number for each piece: its relative
            error in float32, in units of float32's epsilon.
    """
    mix = normal(8, 8, seed=5)

    def product(x: Tensor) -> Tensor:
        return x @ mix.to(x.dtype)

    def offset(x: Tensor) -> Tensor:
        return x + 100

    def one_pass(x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.square().mean(0) - x.mean(0).square()).sqrt()

    def coarse(x: Tensor) -> Tensor:
        return (x + 2**20) - 2**20  # in float32 this leaves eighths, whose squares are exact

    chains: list[tuple[Callable[[Tensor], Tensor], ...]] = [
        (product, offset, one_pass, torch.tanh),
        (offset, one_pass, torch.sin, product),
        (coarse, torch.square, product),
    ]
    cases = []
    for seed, pieces in enumerate(chains, start=1):
        x = normal(1000, 8, seed=seed)
        exact, rounded = [x], [x.float()]
        for piece in pieces:
            exact.append(piece(exact[-1]))
            rounded.append(piece(rounded[-1]))
        own = [(piece(x.float()), piece(x.float().double())) for piece, x in zip(pieces, exact[:-1], strict=True)]

        def each(pairs: Iterable[tuple[Tensor, Tensor]], unit: float = EPS) -> Tensor:
            return torch.stack([(a.double() - b).norm() / b.norm() / unit for a, b in pairs])

        mistakes = {
            "Each piece gets what the pieces before it made in float32: their errors are passed on. Give each piece an exact "
            "input, rounded once.": each(zip(rounded[1:], exact[1:], strict=True)),
            "Each piece is measured by itself, and gets what the pieces before it made in float32. Carry the float64 values on, "
            "and round them for each piece.":
                each((piece(x), piece(x.double())) for piece, x in zip(pieces, rounded[:-1], strict=True)),
            "What is right is rounded to float32, and its own rounding counts as an error: keep it in float64.":
                each((a, b.float().double()) for a, b in own),
            "The float64 side gets another input than the float32 side: round first, then give both the same numbers.":
                each((a, b) for (a, _), b in zip(own, exact[1:], strict=True)),
            "These are relative errors; divide them by float32's epsilon.": each(own, 1.0),
            "These are absolute errors: divide by the norm of what is right.":
                torch.stack([(a.double() - b).norm() / EPS for a, b in own]),
            "This is the largest entry's error, and the norm over all entries was meant.":
                torch.stack([(a.double() - b).abs().max() / b.abs().max() / EPS for a, b in own]),
            "This is the largest relative error of a single entry, and the norm over all entries was meant.":
                torch.stack([((a.double() - b) / b).abs().max() / EPS for a, b in own]),
        }  # fmt: skip
        cases.append(expect((pieces, x), each(own), mistakes))
    judge("14.4", answer, cases, "With exact inputs only the faulty piece stands out.", tolerance=0.02)


def check_by_c(answer: Callable[..., Any]) -> None:
    """Exercise 14.5, a second derivative by hand: of the norm that only scales.

    Args:
        answer: ``by_c(c, v, u)``, three vectors ``(n,)``, giving ``(n,)``: the gradient by c of the inner product of u with the
            first derivative.
    """
    cases = []
    for n, seed in ((4, 1), (7, 2)):
        c, v, u = (normal(n, seed=10 * seed + i) for i in range(3))
        s = c.square().mean() ** -0.5
        x = c * s
        b, d = (v * x).mean(), (u * x).mean()
        e = (u * v).mean() - b * d

        def total(*parts: Tensor, s: Tensor = s) -> Tensor:
            return -(s**2) * torch.stack(parts).sum(0)

        truth = total(d * v, b * u, (e - 2 * b * d) * x)
        mistakes = {
            "The sign is wrong: s falls where c grows.": -truth,
            "x depends on c, too, in both means and where it stands: the term -2 b d x is missing.":
                total(d * v, b * u, e * x),
            "The term b d x is subtracted once: x changes in b and in d, and each gives one.":
                total(d * v, b * u, (e - b * d) * x),
            "There is a factor 1 / n too many: the inner product is n s e, and each derivative divides by n.": truth / n,
            "s depends on c, too: its derivative is -s^2 x / n.": total(d * v, b * u, -2 * b * d * x),
            "b depends on c, too: b is the mean of v x, and x changes.": total(b * u, (e - b * d) * x),
            "d depends on c, too: d is the mean of u x, and x changes.": total(d * v, (e - b * d) * x),
            "Only s is differentiated; x depends on c, too.": total(e * x),
            "One factor s is missing.": truth / s,
            "One factor s is too many.": truth * s,
            "The mean became a sum: b, d and e are means.": total(n * d * v, n * b * u, (n * e - 2 * n * n * b * d) * x),
            "This is the gradient by v, s (u - d x); the one by c was asked for.": s * (u - d * x),
            "This is the first derivative, s (v - b x); its derivative is asked for.": s * (v - b * x),
        }  # fmt: skip
        cases.append(expect((c, v, u), truth, mistakes))
    if not judge("14.5", answer, cases, None):
        return
    with _Tracked() as watch:
        answer(*(normal(5, seed=i) for i in range(3)))
    if watch.found:
        wrong(
            "14.5", "The numbers are right, but autograd finds them. Write the weighted sum of three vectors by hand."
        )
    else:
        correct("14.5", "A weighted sum of three vectors, as in the chapter.")


class _Tracked(TorchFunctionMode):
    """Was a tensor made use of that autograd follows?"""

    found = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found |= any(isinstance(each, Tensor) and each.requires_grad for each in args)
        return function(*args, **(kwargs or {}))
