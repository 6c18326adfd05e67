r"""The step size against the curvature, on a real task of a trained network (figure of chapter 6).

Along an eigenvector of the support loss's Hessian with eigenvalue $h$ an inner step multiplies the distance to the bottom of a
parabola by $1 - \alpha h$. The functions below take $h$, the eigenvalue that is largest in size, by power iteration with
Hessian-vector products of autograd; the figure does it in the browser, with differences of gradients. A test holds the two to the
same numbers.
"""

import math
from collections.abc import Mapping
from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import mse_loss

from mamlkit.data.sinusoids import sinusoid
from mamlkit.models import mlp
from mamlkit.widgets._assets import figure_module, style_sheet
from mamlkit.widgets._sinusoid_network import adapted_curves, drawn_points, named, packed

__all__ = ["StepSize", "curvature_and_losses"]

STEPS, POINTS, ROUNDS = 10, 10, 60
LEAST, MOST = 0.001, 0.06  # of alpha


def curvature_and_losses(
    start: Mapping[str, Tensor], alpha: float, amplitude: float, phase: float, support_x: Any
) -> dict[str, Any]:
    """Ten inner steps from a start on the sinusoid ``amplitude * sin(x - phase)``, and the curvature there, in float64.

    Args:
        start: the six parameters of a 1-40-40-1 network in order, weight before bias, by any names.
        alpha: size of the inner steps.
        amplitude: of the task.
        phase: of the task, in radians.
        support_x: (points,) the inputs of the support points.

    Returns:
        A dictionary: under "curvature" the eigenvalue of largest size of the support loss's Hessian at the start, after 60
        rounds of power iteration; under "support" and "line" (11,) the mean squared error on the support points and over 201
        inputs from -5 to 5, after 0, 1, ..., 10 steps.
    """
    a, b = torch.tensor(amplitude, dtype=torch.float64), torch.tensor(phase, dtype=torch.float64)
    model = mlp(seed=0).double()
    x = torch.as_tensor(support_x, dtype=torch.float64)[:, None]  # (points, 1)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return mse_loss(functional_call(model, weights, (x,)), sinusoid(x, a, b))

    leaves = {name: value.clone().requires_grad_() for name, value in named(start).items()}
    slopes = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True)
    gradient = torch.cat([slope.flatten() for slope in slopes])  # (parameters,)
    vector = torch.cos(torch.arange(len(gradient), dtype=torch.float64))  # (parameters,) as in the figure
    curvature = 0.0
    for _ in range(ROUNDS):
        vector = vector / vector.norm()
        pieces = torch.autograd.grad(gradient, list(leaves.values()), vector, retain_graph=True)
        product = torch.cat([piece.flatten() for piece in pieces])  # (parameters,) the Hessian times the vector
        curvature, vector = (vector @ product).item(), product
    path, _, error = adapted_curves(start, amplitude, phase, support_x, steps=STEPS, alpha=alpha)
    with torch.no_grad():
        support = torch.stack([loss(dict(weights)) for weights in path])  # (11,)
    return {"curvature": curvature, "support": support, "line": error}


class StepSize(anywidget.AnyWidget):
    """Live figure: move the step size on a real task, and watch the losses where it passes two over the curvature.

    Args:
        start: see curvature_and_losses.
        alpha: size of the inner steps, from 0.001 to 0.06.
        amplitude: of the sinusoid, from 0.1 to 5.
        phase: of the sinusoid, from 0 to pi.
        points: 10 inputs from -5 to 5 of the support points.

    Raises:
        ValueError: if the start is that of a different network.
        traitlets.TraitError: if a value is outside these bounds.
    """

    _esm = figure_module("sinusoid_network", "step_size")
    _css = style_sheet()
    alpha = traitlets.Float(0.01, min=LEAST, max=MOST).tag(sync=True)
    amplitude = traitlets.Float(3.0, min=0.1, max=5.0).tag(sync=True)
    phase = traitlets.Float(1.0, min=0.0, max=math.pi).tag(sync=True)
    points = traitlets.List(traitlets.Float(min=-5.0, max=5.0), minlen=POINTS, maxlen=POINTS).tag(sync=True)
    weights = traitlets.Unicode(read_only=True).tag(sync=True)
    constants = traitlets.Dict(
        default_value={"steps": STEPS, "rounds": ROUNDS, "least": LEAST, "most": MOST}, read_only=True
    ).tag(sync=True)

    def __init__(self, start: Mapping[str, Tensor], **settings: Any) -> None:
        self._start = dict(start)
        self.set_trait("weights", packed(start))
        super().__init__(**settings)

    @traitlets.default("points")
    def _points(self) -> list[float]:
        return drawn_points(POINTS)

    def values(self) -> dict[str, Any]:
        """What the figure shows now, computed by autograd: see curvature_and_losses."""
        return curvature_and_losses(self._start, self.alpha, self.amplitude, self.phase, self.points)

    def __repr__(self) -> str:
        """The figure's settings, the same in every run."""
        return f"StepSize(alpha={self.alpha}, amplitude={self.amplitude}, phase={self.phase})"
