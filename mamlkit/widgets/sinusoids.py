"""One sinusoid, three starts: a random one, one pretrained on all tasks together, MAML's (figure of chapter 1).

The network is that of Finn et al., 2017, section 5.1: 1-40-40-1 with ReLU, adapted by plain gradient descent on the mean
squared error of the support points. The weights are those that ship with mamlkit. The function below adapts by autograd;
the figure does it by its own back-propagation in the browser. A test holds the two to the same numbers.
"""

import math
from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from mamlkit.data.sinusoids import sinusoid
from mamlkit.models import mlp
from mamlkit.pretrained import pretrained
from mamlkit.widgets._assets import figure_module, style_sheet
from mamlkit.widgets._sinusoid_network import adapted_curves, drawn_points, line, packed

__all__ = ["ThreeStarts", "three_starts"]

STEPS, ALPHA, MOST_POINTS = 10, 0.01, 20  # alpha is the one that MAML's start was trained with


def starting_points() -> dict[str, dict[str, Tensor]]:
    """The three initialisations by name, each a mapping from parameter name to float32 tensor."""
    own = mlp(seed=0).state_dict()
    shipped = {name: pretrained(f"sinusoid-{name}") for name in ("pretrained", "maml")}
    return {"scratch": own} | {name: {key: weights[key] for key in own} for name, weights in shipped.items()}


def three_starts(amplitude: float, phase: float, support_x: Any) -> dict[str, Any]:
    """Adapt three initialisations to the sinusoid ``amplitude * sin(x - phase)``, in float64.

    Args:
        amplitude: of the task.
        phase: of the task, in radians.
        support_x: (points,) the inputs of the support points.

    Returns:
        A dictionary. Under "x" are (201,) inputs from -5 to 5, under "truth" (201,) the curve there. Under "curves" are, for
        "scratch", "pretrained" and "maml", (11, 201) the outputs after 0, 1, ..., 10 inner steps of size 0.01; under "mse",
        for the same names, (11,) the mean squared error over x.
    """
    curves, mse = {}, {}
    for name, start in starting_points().items():
        _, curves[name], mse[name] = adapted_curves(start, amplitude, phase, support_x, steps=STEPS, alpha=ALPHA)
    x = line()
    truth = sinusoid(x[:, None], *torch.tensor([amplitude, phase], dtype=torch.float64))[:, 0]  # (201,)
    return {"x": x, "truth": truth, "curves": curves, "mse": mse}


class ThreeStarts(anywidget.AnyWidget):
    """Live figure: choose a sinusoid and its support points, and watch three starts adapt to it.

    Args:
        amplitude: of the sinusoid, from 0.1 to 5.
        phase: of the sinusoid, from 0 to pi.
        shots: number of support points, from 1 to 20.
        inner_steps: number of inner steps that are drawn, from 0 to 10.
        points: inputs from -5 to 5, of which the first ``shots`` are the support points; 20 of them.

    Raises:
        traitlets.TraitError: if a value is outside these bounds.
    """

    _esm = figure_module("sinusoid_network", "sinusoids")
    _css = style_sheet()
    amplitude = traitlets.Float(4.0, min=0.1, max=5.0).tag(sync=True)
    phase = traitlets.Float(1.0, min=0.0, max=math.pi).tag(sync=True)
    shots = traitlets.Int(10, min=1, max=MOST_POINTS).tag(sync=True)
    inner_steps = traitlets.Int(1, min=0, max=STEPS).tag(sync=True)
    points = traitlets.List(traitlets.Float(min=-5.0, max=5.0), minlen=MOST_POINTS, maxlen=MOST_POINTS).tag(sync=True)
    weights = traitlets.Dict(read_only=True).tag(sync=True)

    @traitlets.default("points")
    def _points(self) -> list[float]:
        return drawn_points(MOST_POINTS)

    @traitlets.default("weights")
    def _weights(self) -> dict[str, str]:
        return {name: packed(start) for name, start in starting_points().items()}

    def curves(self) -> dict[str, Any]:
        """What the figure shows now, computed by autograd: see three_starts."""
        return three_starts(self.amplitude, self.phase, self.points[: self.shots])

    def __repr__(self) -> str:
        """The figure's settings, the same in every run."""
        settings = f"amplitude={self.amplitude}, phase={self.phase}, shots={self.shots}"
        return f"ThreeStarts({settings}, inner_steps={self.inner_steps})"
