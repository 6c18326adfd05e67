"""What the outer loop minimises: a weighted sum of the query losses after each inner step."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mamlkit.validation import expect_at_least

__all__ = ["FinalStep", "OuterLoss"]


class OuterLoss(Protocol):
    """The weight of the query loss after each of K inner steps, possibly different in each epoch of meta-training."""

    def weights(self, steps: int, epoch: int) -> Tensor:
        """Weights ``(steps,)``; entry k-1 belongs to the query loss after k steps."""
        ...


class FinalStep:
    """MAML: only the loss after the last step counts (Finn et al., 2017, equation 2)."""

    def weights(self, steps: int, epoch: int = 0) -> Tensor:
        """Zero everywhere but at the last step."""
        expect_at_least("steps", steps, 1)
        weights = torch.zeros(steps)  # (steps,)
        weights[-1] = 1.0
        return weights
