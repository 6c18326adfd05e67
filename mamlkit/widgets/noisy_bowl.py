r"""Noisy gradient descent in a round bowl, at a constant rate and along a cosine (figure of chapter 10).

The loss is $\tfrac12 h \lVert x \rVert^2$ in the plane, with $h = 1$. Each step sees its gradient with noise of variance $v$ in
both directions, as an outer step sees few tasks: $x \leftarrow x - \beta_t (h x + n_t)$. So the mean square of the distance
to the minimum follows

$$m_{t+1} = (1 - \beta_t h)^2\, m_t + 2 \beta_t^2 v ,$$

and at a constant rate it comes to rest at the floor $2 \beta v / (h (2 - \beta h))$. The functions below and the figure draw the
same noise; a test holds the two to the same numbers.
"""

import math
from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from mamlkit.widgets._assets import figure_module, style_sheet

__all__ = ["NoisyBowl", "cosine_rates", "noisy_descent"]

# The one place of the constants: the figure gets them as a trait.
STEPS, START = 300, (2.4, 1.8)
MAX_RATE, MAX_NOISE = 0.1, 4.0


def cosine_rates(first: float, last: float, steps: int = STEPS) -> Tensor:
    """The rate of each step along half a cosine: (steps,). With first = last it is constant.

    Args:
        first: rate of the first step.
        last: rate that the cosine would reach one step after the last.
        steps: their number.
    """
    t = torch.arange(steps, dtype=torch.float64)
    return last + 0.5 * (first - last) * (1 + torch.cos(math.pi * t / steps))


def noisy_descent(rates: Any, noise: float, seed: int) -> dict[str, Tensor]:
    """Gradient descent from (2.4, 1.8) in the bowl, on gradients with noise.

    Args:
        rates: (T,) the rate of each step.
        noise: standard deviation of a gradient's noise in each of the two directions, the root of v.
        seed: of the noise; all rates meet the same.

    Returns:
        A dictionary. Under "path" (T + 1, 2) the points, under "distance" (T + 1,) their distances to the minimum; under "rms"
        (T + 1,) the root mean square of the distance over all noise, under "floor" (T,) where it would rest at the rate of
        each step.

    Raises:
        ValueError: if the rates are not a list of numbers from 0 to below 2.
    """
    rates = torch.as_tensor(rates, dtype=torch.float64)
    if rates.ndim != 1 or not ((rates >= 0) & (rates < 2)).all():
        raise ValueError(f"expected rates (T,) from 0 to below 2, got {rates}")
    point = torch.tensor(START, dtype=torch.float64)
    path, squares = [point], [point.square().sum()]
    for rate, epsilon in zip(rates, _normal_numbers(seed, len(rates)), strict=True):
        path.append(path[-1] - rate * (path[-1] + noise * epsilon))
        squares.append((1 - rate) ** 2 * squares[-1] + 2 * (rate * noise) ** 2)
    points = torch.stack(path)
    floor = (2 * rates * noise**2 / (2 - rates)).sqrt()
    return {"path": points, "distance": points.norm(dim=1), "rms": torch.stack(squares).sqrt(), "floor": floor}


def _normal_numbers(seed: int, pairs: int) -> Tensor:
    """Standard normal numbers (pairs, 2) that a browser can draw too: mulberry32, then Box and Muller's transform."""
    state = seed & 0xFFFFFFFF
    uniform = []
    for _ in range(2 * pairs):
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        bits = ((state ^ state >> 15) * (state | 1)) & 0xFFFFFFFF
        bits ^= (bits + (bits ^ bits >> 7) * (bits | 61)) & 0xFFFFFFFF
        uniform.append(((bits ^ bits >> 14) + 0.5) / 2**32)
    one, two = torch.tensor(uniform, dtype=torch.float64).view(pairs, 2).unbind(1)
    radius = (-2 * one.log()).sqrt()
    return torch.stack([radius * torch.cos(2 * math.pi * two), radius * torch.sin(2 * math.pi * two)], 1)


class NoisyBowl(anywidget.AnyWidget):
    """Live figure: set the rate at the start and at the end, and see how near the minimum a noisy descent ends.

    Args:
        first: rate at the start, from 0 to 0.1; the constant rate keeps it.
        last: rate at the end, from 0 to 0.1.
        noise: standard deviation of the gradients' noise, from 0 to 4.
        seed: of the noise.
        step: how far the runs are shown, from 0 to 300.

    Raises:
        traitlets.TraitError: if a value is outside these bounds.
    """

    _esm = figure_module("noisy_bowl")
    _css = style_sheet()
    first = traitlets.Float(0.06, min=0.0, max=MAX_RATE).tag(sync=True)
    last = traitlets.Float(0.0, min=0.0, max=MAX_RATE).tag(sync=True)
    noise = traitlets.Float(2.0, min=0.0, max=MAX_NOISE).tag(sync=True)
    seed = traitlets.Int(1, min=0).tag(sync=True)
    step = traitlets.Int(STEPS, min=0, max=STEPS).tag(sync=True)
    constants = traitlets.Dict(
        default_value={"steps": STEPS, "start": list(START), "maxRate": MAX_RATE, "maxNoise": MAX_NOISE}, read_only=True
    ).tag(sync=True)

    def runs(self) -> dict[str, dict[str, Tensor]]:
        """What the figure shows now, by "constant" and "cosine": see noisy_descent."""
        return {
            name: noisy_descent(cosine_rates(self.first, last), self.noise, self.seed)
            for name, last in (("constant", self.first), ("cosine", self.last))
        }

    def __repr__(self) -> str:
        """The figure's settings, the same in every run."""
        return f"NoisyBowl(first={self.first}, last={self.last}, noise={self.noise}, seed={self.seed})"
