"""How far an inner step goes: one rate for everything, or rates that are learned like weights.

A ``StepSizes`` says which parameters each inner step adapts, and how far: ``step_sizes(k)`` maps parameter names to the rates of
step ``k``. Parameters that it does not name keep their meta-learned values (which is all there is to ANIL).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from mamlkit.arguments import describe, expect_at_least, expect_kind, expect_names, expect_one_of, expect_rate
from mamlkit.functional import key_of

__all__ = ["Adapted", "FixedStepSize", "LearnedStepSizes", "Rates", "StepSizes", "which"]

#: Parameter name -> step size: a scalar, or one number for each of its entries.
Rates = Mapping[str, Tensor | float]
#: Names of parameters, or a function that picks them by name.
Adapted = Iterable[str] | Callable[[str], bool]


def which(names: Iterable[str], adapted: Adapted | None) -> list[str]:
    """The parameters that the inner loop moves: those of ``names`` that are in ``adapted``; all where it is ``None``.

    Raises:
        TypeError, ValueError: if ``adapted`` is neither names nor a function, names something unknown, or picks nothing.
    """
    names = list(names)
    if adapted is None:
        return names
    if isinstance(adapted, (str, type, nn.Module)) or not (callable(adapted) or isinstance(adapted, Iterable)):
        raise TypeError(f"expected adapted to be a list of names or a function of a name, got {describe(adapted)}")
    chosen = [name for name in names if adapted(name)] if callable(adapted) else list(adapted)
    if odd := [value for value in chosen if not isinstance(value, str)]:
        raise TypeError(f"expected adapted to hold names of parameters, got {type(odd[0]).__name__}")
    expect_names(names, chosen)
    if not chosen:
        raise ValueError("expected at least one parameter to adapt, got none")
    return chosen


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
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise TypeError(f"expected the names of parameters, got {describe(names)}")
        self.rate = expect_rate("the inner step size", rate)
        self._rates = dict.fromkeys(names, self.rate)

    def forward(self, step: int) -> Rates:
        """The same rate at every step."""
        return self._rates

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"rate={self.rate}, adapted={len(self._rates)}"


class LearnedStepSizes(StepSizes):
    """Rates that are meta-learned along with the initialisation. They may become negative: nothing clamps them.

    ``per`` says how finely:

    * ``"tensor"``: one rate per parameter tensor;
    * ``"tensor_and_step"``: one per tensor and inner step, LSLR (Antoniou et al., 2019, arXiv:1810.09502, section 4);
    * ``"parameter"``: one for every single entry, Meta-SGD (Li et al., 2017, arXiv:1707.09835, equation 3).

    Args:
        parameters: the adapted parameters, by name; only their shapes, types and devices are used.
        rate: what every rate starts from, finite and above 0.
        per: how finely.
        steps: K; inner steps beyond it, at evaluation, take the rates of step K.

    Attributes:
        alpha: by parameter name: ``()``, ``(steps,)`` or the parameter's own shape.

    Raises:
        TypeError, ValueError: if the rate is not a finite number above 0, ``per`` unknown or ``steps`` below 1.
    """

    kinds = ("tensor", "tensor_and_step", "parameter")

    def __init__(self, parameters: Mapping[str, Tensor], rate: float, per: str, steps: int) -> None:
        super().__init__()
        expect_rate("the inner step size", rate)
        self.per, self.steps = expect_one_of("per", per, self.kinds), expect_at_least("steps", steps, 1)
        for name, value in expect_kind("parameters", parameters, (Mapping,)).items():
            if not (value.is_floating_point() or value.is_complex()):
                raise TypeError(f"expected parameters of floating point, got {name!r} of {value.dtype}")
        self.names = tuple(parameters)
        self._alpha = nn.ParameterDict()
        for name, value in parameters.items():
            shape = {"tensor": (), "tensor_and_step": (steps,), "parameter": tuple(value.shape)}[per]
            start = torch.full(shape, float(rate), dtype=value.dtype, device=value.device)
            self._alpha[key_of(name)] = nn.Parameter(start)

    @property
    def alpha(self) -> dict[str, Tensor]:
        """The learned rates as they are now, by parameter name."""
        return {name: self._alpha[key_of(name)] for name in self.names}

    def forward(self, step: int) -> Rates:
        """The rates of this inner step."""
        if self.per != "tensor_and_step":
            return self.alpha
        row = min(expect_at_least("step", step, 0), self.steps - 1)
        return {name: rates[row] for name, rates in self.alpha.items()}

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"per={self.per!r}, steps={self.steps}"
