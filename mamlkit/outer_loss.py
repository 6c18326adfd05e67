"""What the outer loop minimises: a weighted sum of the query losses after each inner step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mamlkit.arguments import describe, expect_at_least

__all__ = ["AnnealedMultiStep", "FinalStep", "MultiStep", "OuterLoss"]


@runtime_checkable
class OuterLoss(Protocol):
    """The weight of the query loss after each of K inner steps, possibly different in each epoch of meta-training."""

    def weights(self, steps: int, epoch: int) -> Float[Tensor, " steps"]:
        """Weights ``(steps,)``; entry k-1 belongs to the query loss after k steps."""
        ...


class FinalStep:
    """MAML: only the loss after the last step counts (Finn et al., 2017, equation 2)."""

    def weights(self, steps: int, epoch: int = 0) -> Float[Tensor, " steps"]:
        """Zero everywhere but at the last step."""
        expect_at_least("steps", steps, 1)
        weights = torch.zeros(steps, dtype=torch.float64)  # (steps,)
        weights[-1] = 1.0
        return weights


class MultiStep:
    """The query loss after every step counts, with the same weights in every epoch.

    Args:
        weights: one for each of K steps, none negative, not all zero; equal weights 1/K when not given.

    Raises:
        ValueError: if a weight is negative or not finite, all are zero, or their number is not K.
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        if weights is not None:
            numbers = isinstance(weights, Iterable) and not isinstance(weights, str)
            if not numbers or any(isinstance(weight, str) for weight in weights):
                raise TypeError(f"expected one weight, a number, for each inner step, got {describe(weights)}")
            weights = [float(weight) for weight in weights]
            if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
                raise ValueError(f"expected finite weights >= 0 that are not all 0, got {weights}")
        self._weights = weights

    def weights(self, steps: int, epoch: int = 0) -> Float[Tensor, " steps"]:
        """The given weights, or 1/K each."""
        expect_at_least("steps", steps, 1)
        if self._weights is None:
            return torch.full((steps,), 1 / steps, dtype=torch.float64)  # (steps,)
        if len(self._weights) != steps:
            raise ValueError(f"expected one weight for each of {steps} inner steps, got {len(self._weights)}")
        return torch.tensor(self._weights, dtype=torch.float64)  # (steps,)


class AnnealedMultiStep:
    """The multi-step loss of MAML++: from equal weights to the last step only (Antoniou et al., 2019, section 4).

    In epoch e of E, every step but the last weighs ``max(1/K - e/(K E), 0.03/K)`` and the last
    ``min(1/K + e (K - 1)/(K E), 1 - (K - 1) 0.03/K)``, as in the authors' code; from epoch E on only the last counts.

    Args:
        epochs: E, at least 1.

    Raises:
        ValueError: if E is below 1.
    """

    floor = 0.03  # of 1/K: early steps keep this much until annealing ends

    def __init__(self, epochs: int) -> None:
        self.epochs = expect_at_least("epochs", epochs, 1)

    def weights(self, steps: int, epoch: int) -> Float[Tensor, " steps"]:
        """The weights of this epoch, counted from 0; they sum to 1."""
        expect_at_least("epoch", epoch, 0)
        if epoch >= self.epochs:
            return FinalStep().weights(steps)
        early = max(1 / steps - epoch / (steps * self.epochs), self.floor / steps)
        last = min(1 / steps + epoch * (steps - 1) / (steps * self.epochs), 1 - (steps - 1) * self.floor / steps)
        return torch.tensor([early] * (steps - 1) + [last], dtype=torch.float64)  # (steps,)
