"""Sinusoid regression, the first experiment of the MAML paper: Finn et al., 2017, arXiv:1703.03400, section 5.1."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mamlkit.arguments import expect_at_least, expect_kind
from mamlkit.tasks import TaskBatch

__all__ = ["Sinusoids", "sinusoid"]


def sinusoid(
    x: Float[Tensor, "*batch points 1"], amplitude: Float[Tensor, "*batch"], phase: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch points 1"]:
    """``amplitude * sin(x - phase)``.

    Args:
        x: ``(*batch, points, 1)``, in radians.
        amplitude: one per task, ``(*batch)``.
        phase: one per task, ``(*batch)``, in radians.
    """
    for name, value in (("x", x), ("amplitude", amplitude), ("phase", phase)):
        expect_kind(name, value, Tensor)
    return amplitude[..., None, None] * torch.sin(x - phase[..., None, None])


class Sinusoids:
    """Tasks ``y = a sin(x - b)`` with a in [0.1, 5], b in [0, pi], x in [-5, 5], each drawn uniformly.

    Args:
        shots: support points per task.
        queries: query points per task.

    Raises:
        ValueError: if either is below 1.
    """

    amplitudes = (0.1, 5.0)
    phases = (0.0, math.pi)
    inputs = (-5.0, 5.0)

    def __init__(self, shots: int = 10, queries: int = 10) -> None:
        self.shots = expect_at_least("shots", shots, 1)
        self.queries = expect_at_least("queries", queries, 1)

    def fingerprint(self) -> str:
        """A string that differs where a setting does: what a resumed run compares."""
        return f"sinusoids, {self.shots} shots, {self.queries} queries"

    def sample(self, num_tasks: int, generator: torch.Generator) -> TaskBatch:
        """Draw tasks: inputs and targets are ``(tasks, points, 1)``."""
        batch, _, _ = self.sample_with_curves(num_tasks, generator)
        return batch

    def sample_with_curves(self, num_tasks: int, generator: torch.Generator) -> tuple[TaskBatch, Tensor, Tensor]:
        """As ``sample``, and the amplitude and phase ``(tasks,)`` of each task, for drawing the whole curve."""
        expect_at_least("num_tasks", num_tasks, 1)
        expect_kind("generator", generator, torch.Generator)
        amplitude = _uniform((num_tasks,), self.amplitudes, generator)
        phase = _uniform((num_tasks,), self.phases, generator)
        x = _uniform((num_tasks, self.shots + self.queries, 1), self.inputs, generator)  # (tasks, support + query, 1)
        y = sinusoid(x, amplitude, phase)  # (tasks, support + query, 1)
        batch = TaskBatch(x[:, : self.shots], y[:, : self.shots], x[:, self.shots :], y[:, self.shots :])
        return batch, amplitude, phase


def _uniform(shape: tuple[int, ...], bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator)
