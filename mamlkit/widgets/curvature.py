r"""One quadratic task: the angle between MAML's direction and FOMAML's (figure of chapter 4).

The support loss is a bowl about $c$, the query loss a round bowl about $q$,

$$\mathcal L^{s}(\theta) = \tfrac12 \big(h_1 (\theta_1 - c_1)^2 + h_2 (\theta_2 - c_2)^2\big), \qquad
\mathcal L^{q}(\theta) = \tfrac12 \lVert \theta - q \rVert^2,$$

so that along each axis the $K$ factors of the meta-gradient are one number, $(1 - \alpha h_j)^K$.

The function below differentiates by autograd; the figure uses the closed form in the browser. A test holds the two to the
same numbers.
"""

from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from mamlkit.widgets._assets import figure_module, style_sheet

__all__ = ["Curvature", "curvature_arrows"]

# The one place of the constants: the figure gets them as a trait.
THETA, SUPPORT, QUERY = (-1.4, 1.2), (0.6, -0.3), (0.9, 0.35)
MAX_CURVATURE, MAX_ALPHA, MAX_INNER_STEPS = 10.0, 0.3, 10


def curvature_arrows(curvatures: Any, alpha: float, inner_steps: int) -> dict[str, Tensor]:
    """MAML's and FOMAML's descent direction on the quadratic task, and the angle between them.

    MAML is minus the gradient, by theta, of the query loss at theta^(K), through all K inner steps (Finn et al., 2017, eq. 1).
    FOMAML is minus the gradient of the query loss by theta^(K) itself.

    Args:
        curvatures: (2,) h1 and h2 of the support loss; a tensor, or two numbers (then float64).
        alpha: inner step size.
        inner_steps: number K of inner steps, at least 1.

    Returns:
        A dictionary. Under "maml" and "fomaml" are (2,) the directions, under "steps" (K + 1, 2) the inner steps, theta first,
        under "factors" (2,) what K steps leave of a push along each axis, under "angle" () the angle in degrees.

    Raises:
        ValueError: if inner_steps is less than 1.
    """
    if inner_steps < 1:
        raise ValueError(f"inner_steps must be at least 1, got {inner_steps}")
    h = torch.as_tensor(curvatures, dtype=None if isinstance(curvatures, Tensor) else torch.float64)  # (2,)
    theta = h.new_tensor(THETA).requires_grad_()  # (2,)
    support, query = h.new_tensor(SUPPORT), h.new_tensor(QUERY)  # (2,) each
    path = [theta]
    for _ in range(inner_steps):
        loss = 0.5 * (h * (path[-1] - support) ** 2).sum()
        (g,) = torch.autograd.grad(loss, path[-1], create_graph=True)
        path.append(path[-1] - alpha * g)  # (2,)
    (fomaml,) = torch.autograd.grad(0.5 * ((path[-1] - query) ** 2).sum(), path[-1], retain_graph=True)
    (maml,) = torch.autograd.grad(0.5 * ((path[-1] - query) ** 2).sum(), theta, retain_graph=True)
    (factors,) = torch.autograd.grad(path[-1].sum(), theta)
    cross = maml[0] * fomaml[1] - maml[1] * fomaml[0]
    angle = torch.rad2deg(torch.atan2(cross.abs(), maml @ fomaml))  # (): exact near 0 and 180 too
    return {
        "maml": -maml,
        "fomaml": -fomaml,
        "steps": torch.stack(path).detach(),
        "factors": factors,
        "angle": angle,
    }


class Curvature(anywidget.AnyWidget):
    """Live figure: change the curvature of a quadratic task and watch FOMAML's direction turn away from MAML's.

    Args:
        h1: curvature along the first axis, from 0 to 10.
        h2: curvature along the second axis, from 0 to 10.
        alpha: inner step size, from 0.01 to 0.3.
        inner_steps: number K of inner steps, from 1 to 10.

    Raises:
        traitlets.TraitError: if a value is outside these bounds.
    """

    _esm = figure_module("curvature")
    _css = style_sheet()
    h1 = traitlets.Float(1.0, min=0.0, max=MAX_CURVATURE).tag(sync=True)
    h2 = traitlets.Float(4.0, min=0.0, max=MAX_CURVATURE).tag(sync=True)
    alpha = traitlets.Float(0.1, min=0.01, max=MAX_ALPHA).tag(sync=True)
    inner_steps = traitlets.Int(3, min=1, max=MAX_INNER_STEPS).tag(sync=True)
    points = traitlets.Dict(
        default_value={"theta": list(THETA), "support": list(SUPPORT), "query": list(QUERY)}, read_only=True
    ).tag(sync=True)

    def arrows(self) -> dict[str, Tensor]:
        """What the figure shows now, computed by autograd: see curvature_arrows."""
        return curvature_arrows((self.h1, self.h2), self.alpha, self.inner_steps)

    def __repr__(self) -> str:
        """The figure's settings, the same in every run."""
        return f"Curvature(h1={self.h1}, h2={self.h2}, alpha={self.alpha}, inner_steps={self.inner_steps})"
