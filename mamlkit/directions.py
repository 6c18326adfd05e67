"""Which way an inner step goes: down the gradient, or where momentum, weight decay, clipping or Adam turn it.

    d_k, s_{k+1} = direction(g_k, theta^(k), s_k),        theta^(k+1) = theta^(k) - alpha_k d_k

with g_k the gradient of the support loss and s_k what the direction remembers of earlier steps of this task; s_0 is empty. MAML
has d_k = g_k. Directions are small parts that work one after the other, and how far a step goes remains a matter of step sizes:

    maml_plus_plus(model, direction=[ClipNorm(10.0), Momentum(0.9)])    # learned rates, times momentum of clipped gradients
    maml(model, direction=[Adam(), WeightDecay(0.01)])                  # AdamW; the other way round: L2 within Adam

The meta-gradient goes through all of it. With order 1, the gradients and parameters that a direction gets are constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mamlkit.arguments import describe, expect_fraction, expect_rate
from mamlkit.functional import Parameters

__all__ = ["Adam", "ClipNorm", "Direction", "InTurn", "Memory", "Momentum", "Proximal", "WeightDecay", "in_turn"]

#: What a direction remembers from step to step: tensors by name, or dicts of such dicts.
Memory = Mapping[str, Any]


class Direction(nn.Module):
    """Base of all directions; a subclass fills in ``forward``. Parameters of its own are meta-learned."""

    def forward(
        self, gradients: Parameters, parameters: Parameters, memory: Memory, step: int
    ) -> tuple[Parameters, Memory]:
        """The direction of an inner step, and what the next step of the task has to know.

        Called for one task, possibly under ``torch.func.vmap``; nothing may be changed in place.

        Args:
            gradients: g_k of what is adapted, by name, or what the parts before this one made of it.
            parameters: theta^(k) of what is adapted, by name.
            memory: what the last step gave; empty in the first.
            step: k, from 0.

        Returns:
            One tensor per gradient, of its shape and by its name; and the memory.
        """
        raise NotImplementedError


class Momentum(Direction):
    """Keep going the way that earlier steps went: m_{k+1} = mu m_k + g_k, and d_k = m_{k+1}.

    As in ``torch.optim.SGD``, the rate multiplies the sum. (Sutskever et al., 2013, equations 1 and 2, with one rate for all
    steps; Nesterov's, equations 3 and 4, in the form g_k + mu m_{k+1}.)

    Args:
        mu: how much of the sum each step keeps, from 0 to below 1.
        nesterov: look one step ahead.

    Raises:
        TypeError, ValueError: if mu is not such a number.
    """

    def __init__(self, mu: float = 0.9, *, nesterov: bool = False) -> None:
        super().__init__()
        self.mu, self.nesterov = expect_fraction("mu", mu), nesterov

    def forward(
        self, gradients: Parameters, parameters: Parameters, memory: Memory, step: int
    ) -> tuple[Parameters, Memory]:
        """The running sum of gradients."""
        sums = {name: self.mu * memory.get(name, 0.0) + gradient for name, gradient in gradients.items()}
        if not self.nesterov:
            return sums, sums
        return {name: gradient + self.mu * sums[name] for name, gradient in gradients.items()}, sums

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"mu={self.mu}, nesterov={self.nesterov}"


class WeightDecay(Direction):
    """Towards zero as well: d_k = g_k + lambda theta^(k).

    As the first of several directions it is the gradient of a penalty, half of lambda times the squared norm; as the last it is
    weight decay decoupled from the gradient (Loshchilov and Hutter, 2019, arXiv:1711.05101, algorithms 1 and 2). The step size
    multiplies both.

    Args:
        rate: lambda, finite and at least 0.

    Raises:
        TypeError, ValueError: if the rate is not such a number.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = expect_rate("the weight decay", rate, zero=True)

    def forward(
        self, gradients: Parameters, parameters: Parameters, memory: Memory, step: int
    ) -> tuple[Parameters, Memory]:
        """The gradient and a share of the parameters."""
        return {name: gradient + self.rate * parameters[name] for name, gradient in gradients.items()}, memory

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"rate={self.rate}"


class Proximal(Direction):
    """Not too far from the start: d_k = g_k + lambda (theta^(k) - theta^(0)).

    The gradient of a penalty, half of lambda times the squared distance to where the task began: the inner problem of iMAML
    (Rajeswaran et al., 2019, arXiv:1909.04630, equation 4). First in turn, as WeightDecay as a penalty is.

    Args:
        strength: lambda, finite and at least 0.

    Raises:
        TypeError, ValueError: if the strength is not such a number.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = expect_rate("the strength of the proximal term", strength, zero=True)

    def forward(
        self, gradients: Parameters, parameters: Parameters, memory: Memory, step: int
    ) -> tuple[Parameters, Memory]:
        """The gradient and a pull back to the start, which the memory keeps."""
        start = memory or parameters
        pulled = {
            name: gradient + self.strength * (parameters[name] - start[name]) for name, gradient in gradients.items()
        }
        return pulled, start

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"strength={self.strength}"


class ClipNorm(Direction):
    """No longer than a given norm, over everything that a task adapts: d_k = min(1, c / norm(g_k)) g_k.

    (Pascanu et al., 2013, arXiv:1211.5063, algorithm 1.) The derivative goes through the norm where it is clipped.

    Args:
        norm: c, finite and above 0.

    Raises:
        TypeError, ValueError: if the norm is not such a number.
    """

    def __init__(self, norm: float) -> None:
        super().__init__()
        self.norm = expect_rate("the norm to clip to", norm)

    def forward(
        self, gradients: Parameters, parameters: Parameters, memory: Memory, step: int
    ) -> tuple[Parameters, Memory]:
        """The gradient, scaled down where it is long."""
        first, *others = (_squares(gradient).sum() for gradient in gradients.values())
        square = sum(others, first)  # ()
        long = square > self.norm**2
        length = torch.where(long, square, 1.0).sqrt()  # the root of zero has no derivative
        scale = torch.where(long, self.norm / length, 1.0)
        return {name: gradient * scale.to(gradient.dtype) for name, gradient in gradients.items()}, memory

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"norm={self.norm}"


class Adam(Direction):
    """Each weight at its own pace: d_k = m / (sqrt(v) + eps), of means over the steps of a task, corrected for their start at 0.

        m_{k+1} = beta_1 m_k + (1 - beta_1) g_k,     m = m_{k+1} / (1 - beta_1^(k+1)),     v the same of g_k^2 with beta_2

    (Kingma and Ba, 2015, arXiv:1412.6980, algorithm 1.) A weight whose gradients were all zero stays where it is,
    and its derivative is the limit of d_k as they go to zero: 1 / eps times that of m.

    Args:
        betas: how slowly the means of gradients and of squares forget, from 0 to below 1.
        eps: finite and above 0.

    Raises:
        TypeError, ValueError: if one of them is not such a number, or a gradient is complex.
    """

    def __init__(self, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__()
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"expected betas to be two numbers, got {describe(betas)}")
        self.betas = expect_fraction("beta_1", betas[0]), expect_fraction("beta_2", betas[1])
        self.eps = expect_rate("eps", eps)

    def forward(
        self, gradients: Parameters, parameters: Parameters, memory: Memory, step: int
    ) -> tuple[Parameters, Memory]:
        """The ratio of the two means."""
        if odd := [name for name, gradient in gradients.items() if gradient.is_complex()]:
            raise TypeError(f"expected real parameters for Adam, got complex ones in {odd[0]!r}")
        squares = {name: gradient.square() for name, gradient in gradients.items()}
        means = {
            "m": _mean(self.betas[0], memory.get("m", {}), gradients),
            "v": _mean(self.betas[1], memory.get("v", {}), squares),
        }
        correct_m, correct_v = (1 - beta ** (step + 1) for beta in self.betas)
        directions = {
            name: (means["m"][name] / correct_m) / (_root(means["v"][name] / correct_v) + self.eps)
            for name in gradients
        }
        return directions, means

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"betas={self.betas}, eps={self.eps}"


class InTurn(Direction):
    """Several directions one after the other; each gets what the one before it made of the gradient.

    Args:
        parts: at least one.
    """

    def __init__(self, parts: Iterable[Direction]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(
        self, gradients: Parameters, parameters: Parameters, memory: Memory, step: int
    ) -> tuple[Parameters, Memory]:
        """What the last part gives, and the memories of all."""
        memories = {}
        for number, part in enumerate(self.parts):
            key = str(number)
            gradients, memories[key] = part(gradients, parameters, memory.get(key, {}), step)
        return gradients, memories


def in_turn(direction: Direction | Iterable[Direction] | None) -> Direction | None:
    """One direction, of one or several; ``None`` is the gradient itself.

    Raises:
        TypeError: for anything else.
    """
    if direction is None or isinstance(direction, Direction):
        return direction
    parts: list[Any] = list(direction) if isinstance(direction, (list, tuple, nn.ModuleList)) else [direction]
    if odd := [part for part in parts if not isinstance(part, Direction)]:
        raise TypeError(
            f"expected direction to be a Direction, such as Momentum(0.9), or a list of them, got {describe(odd[0])}"
        )
    return InTurn(parts) if parts else None


def _squares(value: Tensor) -> Tensor:
    return value.real.square() + value.imag.square() if value.is_complex() else value.square()


def _mean(beta: float, before: Memory, values: Parameters) -> Parameters:
    return {name: beta * before.get(name, 0.0) + (1 - beta) * value for name, value in values.items()}


def _root(value: Tensor) -> Tensor:
    """The root, with derivative zero at zero, where it would be infinity times zero."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1.0).sqrt(), 0.0)
