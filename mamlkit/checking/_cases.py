"""What the checks of several chapters share: a reader's function on a few cases, and test problems whose answers are known."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, jacrev

from mamlkit.checking._report import as_tensor, attempt, close, correct, not_attempted, wrong
from mamlkit.evaluation import Interval

__all__ = ["Case", "attempt_with_copies", "expect", "hessian", "judge", "normal", "problem"]


class Case(NamedTuple):
    """One call of the reader's function: its arguments, what is right, what each mistake would give, and words for any other."""

    arguments: tuple[Any, ...]
    truth: Tensor
    mistakes: Mapping[str, Tensor]
    explain: Callable[[Tensor], str] | None = None


def judge(
    exercise: str,
    answer: Callable[..., Any],
    cases: Sequence[Case],
    why: str | None,
    where: str = "",
    untouched: str = "",
    tolerance: float = 1e-4,
) -> bool:
    """Run every case; print one line (none for a right answer when ``why`` is None), and say whether all were right.

    Args:
        exercise: its number.
        answer: the reader's function.
        cases: the calls, each with the truth and with what the same mistakes would give.
        why: what a right answer shows.
        where: words before whatever is wrong.
        untouched: what to say where the tensors of the arguments must stay as they are, and do not.
        tolerance: the relative error that is no mistake.
    """
    values, moved = [], False
    for case in cases:
        copies = _copies(case.arguments)
        done, value = _attempt(exercise, answer, copies)
        if not done:
            return False
        moved = moved or _changed(copies, case.arguments)
        tensor = as_tensor(_part(value, case.truth))
        if tensor is None:
            wrong(exercise, f"{where}A {_kind(case.truth)} was expected, this is {type(value).__name__}.")
            return False
        values.append(tensor)
    if moved and untouched:
        wrong(exercise, where + untouched)
        return False
    if all(close(value, case.truth, tolerance) for value, case in zip(values, cases, strict=True)):
        if why is not None:
            correct(exercise, why)
        return True
    for message in cases[0].mistakes:
        if all(close(value, case.mistakes[message], tolerance) for value, case in zip(values, cases, strict=True)):
            wrong(exercise, where + message)
            return False
    for value, case in zip(values, cases, strict=True):
        if value.squeeze().shape != case.truth.squeeze().shape:
            wrong(exercise, f"{where}A {_kind(case.truth)} was expected, this has shape {tuple(value.shape)}.")
            return False
        if not close(value, case.truth, tolerance):
            if case.explain is not None:
                wrong(exercise, where + case.explain(value))
                return False
            numbers = f"In one test{_inputs(case)} {_numbers(case.truth, value, tolerance)}."
            in_place = " An argument is changed in place: does a later line need it as it was?" if moved else ""
            wrong(exercise, where + numbers + in_place)
            return False
    return False


def attempt_with_copies(exercise: str, answer: Any, *arguments: Any) -> tuple[bool, Any]:
    """As ``attempt``; fresh copies of the tensors, so that nothing a reader does to them reaches the next call."""
    return _attempt(exercise, answer, _copies(arguments))


def _attempt(exercise: str, answer: Any, arguments: Sequence[Any]) -> tuple[bool, Any]:
    if answer is None or answer is ...:
        not_attempted(exercise)
        return False, None
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # torch's own warnings are no mistake of the reader's
        warnings.filterwarnings(
            "ignore", message=r".*torch\.jit", category=DeprecationWarning
        )  # forward mode, first use
        return attempt(exercise, answer, *arguments)


def _copies(arguments: Sequence[Any]) -> list[Any]:
    return [
        x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, Tensor)
        else [point.clone() for point in x] if isinstance(x, list)
        else x
        for x in arguments
    ]  # fmt: skip


def _changed(copies: Sequence[Any], arguments: Sequence[Any]) -> bool:
    """Whether a call has written into one of its tensors."""
    pairs = zip(copies, arguments, strict=True)
    return any(
        isinstance(x, Tensor) and not torch.allclose(x.detach(), y.detach(), rtol=0, atol=0, equal_nan=True)
        for x, y in pairs
    )


def _part(value: Any, truth: Tensor) -> Any:
    """The numbers that count: those of an ``Interval``, or the only entry of a list."""
    if isinstance(value, Interval):
        return value.half_width if truth.ndim == 0 else [value.mean, value.half_width]
    return value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value


def expect(
    arguments: tuple[Any, ...], truth: Any, mistakes: Mapping[str, Any], explain: Callable[[Tensor], str] | None = None
) -> Case:
    """A case from numbers or tensors of any dtype; ``explain`` says what is wrong with a result that is no listed mistake."""

    def tensor(value: Any) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64)

    return Case(arguments, tensor(truth), {message: tensor(value) for message, value in mistakes.items()}, explain)


def hessian(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function that gives the Hessian of f at a point."""
    return jacrev(grad(f))  # reverse mode only: torch's first use of forward mode warns about torch.jit.script


def _kind(truth: Tensor) -> str:
    return "number" if truth.ndim == 0 else f"vector of {len(truth)} entries"


def _inputs(case: Case) -> str:
    """What the reader's function was called with, where that is a few numbers."""
    if not case.arguments or not all(isinstance(x, (int, float)) for x in case.arguments):
        return ""
    return f", with the inputs {', '.join(map(str, case.arguments))},"


def _numbers(truth: Tensor, value: Tensor, tolerance: float) -> str:
    """What is right and what came; of a long result the first wrong number, and more digits where four are the same."""
    pairs = list(zip(truth.flatten().tolist(), value.flatten().tolist(), strict=True))
    which = ""
    if len(pairs) > 12:
        first = next(
            i
            for i, (right, found) in enumerate(pairs)
            if not close(torch.tensor(found, dtype=torch.float64), torch.tensor(right, dtype=torch.float64), tolerance)
        )
        which = f" as number {first + 1} of {len(pairs)}"
        pairs = [pairs[first]]
    expected, got = ([round(x, 4) for x in side] for side in zip(*pairs, strict=True))
    if expected == got:
        expected, got = ([float(f"{x:.6g}") for x in side] for side in zip(*pairs, strict=True))
    return f"{_bare(expected)} is right{which}, and this gives {_bare(got)}"


def _bare(values: list[float]) -> str:
    return str(values[0] if len(values) == 1 else values)


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers in float64, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(
    alpha: float, steps: int, seed: int
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], list[Tensor]]:
    """A support loss whose Hessian changes along the path and does not commute with itself; a query loss; the path."""
    mix, target = normal(3, 3, seed=40 + seed), normal(3, seed=50 + seed)

    def support(theta: Tensor) -> Tensor:
        return torch.log(torch.cosh(2 * (mix @ theta))).sum() / 2 + 0.3 * theta @ theta

    def query(theta: Tensor) -> Tensor:
        return 0.5 * ((theta - target) ** 2).sum() + theta[0] * theta[1]

    path = [normal(3, seed=60 + seed)]
    for _ in range(steps):
        path.append(path[-1] - alpha * grad(support)(path[-1]))
    return support, query, path
