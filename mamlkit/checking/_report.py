"""The three things a check can say, one line each, and how it runs a reader's code without ever raising."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["as_tensor", "attempt", "close", "correct", "not_attempted", "wrong"]


def correct(exercise: str, why: str = "") -> None:
    """The answer is right; ``why`` says in a few words what was checked or what it shows."""
    print(f"Exercise {exercise}: correct. {why}".rstrip())


def wrong(exercise: str, what: str) -> None:
    """The answer is not right yet; ``what`` names the mistake."""
    print(f"Exercise {exercise}: not yet. {what}")


def not_attempted(exercise: str) -> None:
    """The stub is still blank."""
    print(f"Exercise {exercise}: not attempted yet.")


def attempt(exercise: str, function: Callable[..., Any], *arguments: Any) -> tuple[bool, Any]:
    """Call a reader's function: ``(True, result)``, or ``(False, None)`` after the reason has been printed.

    ``None`` and ``...`` mean that the stub is blank. An exception becomes one line with its type and message.
    """
    try:
        result = function(*arguments)
    except Exception as error:  # a reader's code may fail in any way
        message = str(error).strip().splitlines()
        wrong(exercise, f"Your code raised {type(error).__name__}: {message[0] if message else 'no message'}")
        return False, None
    if result is None or result is ...:
        not_attempted(exercise)
        return False, None
    return True, result


def as_tensor(value: Any) -> Tensor | None:
    """A number, list, array or tensor of any dtype and device as float64 on the CPU; ``None`` where that cannot be done."""
    if isinstance(value, (list, tuple)):  # torch warns of tensors with a graph in a list
        value = [item.detach() if isinstance(item, Tensor) else item for item in value]
    try:
        tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value)
        return tensor.to(device="cpu", dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None


def close(answer: Tensor, truth: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal up to a relative error that float32 can keep, and up to axes of length one."""
    if answer.squeeze().shape != truth.squeeze().shape:
        return False
    return bool(torch.allclose(answer.squeeze(), truth.squeeze().double(), rtol=tolerance, atol=tolerance * 1e-2))
