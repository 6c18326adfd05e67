"""A meta-training, played: the start after so many outer steps, and what inner steps make of it (figure of chapter 2).

The starts are those of a training in the notebook, or any others of the 1-40-40-1 network of Finn et al., 2017, section 5.1. The
function below adapts by autograd; the figure does it by its own back-propagation in the browser. A test holds the two to the
same numbers.
"""

import math
from collections.abc import Mapping
from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from mamlkit.widgets._assets import figure_module, style_sheet
from mamlkit.widgets._sinusoid_network import adapted_curves, drawn_points, packed

__all__ = ["MetaTraining", "errors_in_training"]

ALPHA, MOST_STEPS, POINTS = 0.01, 5, 10


def errors_in_training(
    starts: Mapping[int, Mapping[str, Tensor]], amplitude: float, phase: float, support_x: Any
) -> Tensor:
    """Adapt the start of each moment of a training to ``amplitude * sin(x - phase)``, in float64.

    Args:
        starts: by outer step, the six parameters of a 1-40-40-1 network in order, weight before bias, by any names.
        amplitude: of the task.
        phase: of the task, in radians.
        support_x: (points,) the inputs of the support points.

    Returns:
        (moments, 6) mean squared errors over 201 inputs from -5 to 5 after 0, 1, ..., 5 inner steps of size 0.01.
    """
    return torch.stack(
        [
            adapted_curves(start, amplitude, phase, support_x, steps=MOST_STEPS, alpha=ALPHA)[2]
            for start in starts.values()
        ]
    )


class MetaTraining(anywidget.AnyWidget):
    """Live figure: walk or play through a meta-training, and watch the start become one that a step adapts.

    Args:
        starts: at least two, by outer step in rising order: see errors_in_training.
        moment: which of them is shown, from 0; the first when not given.
        inner_steps: number of inner steps that are drawn, from 0 to 5.
        amplitude: of the sinusoid that the start is adapted to, from 0.1 to 5.
        phase: of the sinusoid, from 0 to pi.
        points: 10 inputs from -5 to 5 of the support points.

    Raises:
        ValueError: if the starts are fewer than two, out of order, or of a different network.
        traitlets.TraitError: if a value is outside these bounds.
    """

    _esm = figure_module("sinusoid_network", "meta_training")
    _css = style_sheet()
    moment = traitlets.Int(0, min=0).tag(sync=True)
    inner_steps = traitlets.Int(1, min=0, max=MOST_STEPS).tag(sync=True)
    amplitude = traitlets.Float(4.0, min=0.1, max=5.0).tag(sync=True)
    phase = traitlets.Float(1.0, min=0.0, max=math.pi).tag(sync=True)
    points = traitlets.List(traitlets.Float(min=-5.0, max=5.0), minlen=POINTS, maxlen=POINTS).tag(sync=True)
    outer_steps = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)
    weights = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)

    def __init__(self, starts: Mapping[int, Mapping[str, Tensor]], **settings: Any) -> None:
        if len(starts) < 2 or list(starts) != sorted(starts):
            raise ValueError(f"expected at least two starts, by outer step in rising order, got {list(starts)}")
        self._starts = dict(starts)
        self.set_trait("outer_steps", list(starts))
        self.set_trait("weights", [packed(start) for start in starts.values()])
        super().__init__(**settings)

    @traitlets.default("points")
    def _points(self) -> list[float]:
        return drawn_points(POINTS)

    @traitlets.validate("moment")
    def _moment(self, proposal: Any) -> int:
        moment: int = proposal["value"]
        if moment >= len(self.outer_steps):
            raise traitlets.TraitError(f"expected a moment from 0 to {len(self.outer_steps) - 1}, got {moment}")
        return moment

    def errors(self) -> Tensor:
        """What the figure shows now, computed by autograd: see errors_in_training."""
        return errors_in_training(self._starts, self.amplitude, self.phase, self.points)

    def __repr__(self) -> str:
        """The figure's settings, the same in every run."""
        outer = self.outer_steps[self.moment]
        return f"MetaTraining({len(self.outer_steps)} starts, outer step {outer}, inner_steps={self.inner_steps})"
