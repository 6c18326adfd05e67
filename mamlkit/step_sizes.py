"""How far an inner step goes: one rate for everything, or rates that are learned like weights.

A ``StepSizes`` says for each inner step which parameters are adapted and how far: ``step_sizes(k)`` is a mapping from
parameter name to the rate of step ``k``. Parameters it does not name keep their meta-learned value (that is all ANIL is).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mamlkit.validation import expect_rate

__all__ = ["FixedStepSize", "Rates", "StepSizes"]

Rates = Mapping[str, Tensor | float]  # parameter name -> step size: a scalar, or one number for each of its entries


class StepSizes(nn.Module):
    """Base of all step sizes; a subclass fills in ``forward``."""

    def forward(self, step: int) -> Rates:
        """The rate of every adapted parameter at inner step ``step`` (counted from 0)."""
        raise NotImplementedError


class FixedStepSize(StepSizes):
    """One constant rate alpha for every parameter and step, as in MAML (Finn et al., 2017, equation 1).

    Args:
        names: the parameters that are adapted.
        rate: alpha, finite and above 0.

    Raises:
        ValueError: if the rate is 0, negative, infinite or NaN.
    """

    def __init__(self, names: Iterable[str], rate: float) -> None:
        super().__init__()
        self.rate = expect_rate("the inner step size", rate)
        self._rates = dict.fromkeys(names, self.rate)

    def forward(self, step: int) -> Rates:
        """The same rate at every step."""
        return self._rates

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"rate={self.rate}, adapted={len(self._rates)}"
