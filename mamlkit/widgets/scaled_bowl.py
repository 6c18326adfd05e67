r"""A badly scaled bowl with a step size for each coordinate, and the gradient of each step size (figure of chapter 8).

Support and query loss are the same bowl about the origin, flat along one axis and steep along the other,

$$\mathcal L(\theta) = \tfrac12 \big(h_1 \theta_1^2 + h_2 \theta_2^2\big), \qquad h_1 \ll h_2,$$

so that $K$ inner steps multiply coordinate $j$ by $(1 - \alpha_j h_j)^K$, and the final loss has the derivative
$-K h_j^2 (1 - \alpha_j h_j)^{2K-1} \theta_j^2$ with respect to $\alpha_j$.

The function below differentiates by autograd; the figure adds up the terms of the adjoint, step by step, in the browser. A
test holds the two to the same numbers.
"""

from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from mamlkit.widgets._assets import figure_module, style_sheet

__all__ = ["ScaledBowl", "bowl_descent"]

# The one place of the constants: the figure gets them as a trait.
CURVATURES, THETA = (0.5, 8.0), (-2.2, 0.8)
MAX_ALPHAS, MAX_SHARED_ALPHA, MAX_INNER_STEPS = (4.0, 0.3), 0.3, 8


def bowl_descent(alpha: Any, inner_steps: int) -> dict[str, Tensor]:
    """K inner steps in the bowl, the loss after each, and the meta-gradient by the step size.

    Args:
        alpha: one step size for both coordinates, or two; a number, a list or a tensor (float64 unless it is a tensor).
        inner_steps: number K of inner steps, at least 1.

    Returns:
        A dictionary. Under "steps" are (K + 1, 2) the parameters, theta first, under "losses" (K + 1,) the loss at each of
        them, under "alpha_gradient", with alpha's own shape () or (2,), the derivative of the last loss by alpha.

    Raises:
        ValueError: if inner_steps is less than 1, or alpha is neither one number nor two.
    """
    if inner_steps < 1:
        raise ValueError(f"inner_steps must be at least 1, got {inner_steps}")
    alpha = torch.as_tensor(alpha, dtype=None if isinstance(alpha, Tensor) else torch.float64)
    if alpha.shape not in ((), (2,)):
        raise ValueError(f"alpha must be one number or two, got shape {tuple(alpha.shape)}")
    alpha = alpha.detach().clone().requires_grad_()  # () or (2,)
    h, theta = alpha.new_tensor(CURVATURES), alpha.new_tensor(THETA).requires_grad_()  # (2,) each
    path, losses = [theta], []
    for _ in range(inner_steps):
        losses.append(0.5 * (h * path[-1] ** 2).sum())
        (g,) = torch.autograd.grad(losses[-1], path[-1], create_graph=True)
        path.append(path[-1] - alpha * g)  # (2,)
    losses.append(0.5 * (h * path[-1] ** 2).sum())
    (slope,) = torch.autograd.grad(losses[-1], alpha)
    return {"steps": torch.stack(path).detach(), "losses": torch.stack(losses).detach(), "alpha_gradient": slope}


class ScaledBowl(anywidget.AnyWidget):
    """Live figure: choose the step sizes of a badly scaled bowl, and see which way the meta-gradient pushes each.

    Args:
        alpha1: step size along the flat axis, from 0 to 4.
        alpha2: step size along the steep axis, from 0 to 0.3.
        same: one step size for both axes, alpha, in place of the two.
        alpha: that one, from 0 to 0.3.
        inner_steps: number K of inner steps, from 1 to 8.

    Raises:
        traitlets.TraitError: if a value is outside these bounds.
    """

    _esm = figure_module("scaled_bowl")
    _css = style_sheet()
    alpha1 = traitlets.Float(0.2, min=0.0, max=MAX_ALPHAS[0]).tag(sync=True)
    alpha2 = traitlets.Float(0.2, min=0.0, max=MAX_ALPHAS[1]).tag(sync=True)
    alpha = traitlets.Float(0.2, min=0.0, max=MAX_SHARED_ALPHA).tag(sync=True)
    same = traitlets.Bool(True).tag(sync=True)
    inner_steps = traitlets.Int(3, min=1, max=MAX_INNER_STEPS).tag(sync=True)
    bowl = traitlets.Dict(
        default_value={
            "curvatures": list(CURVATURES),
            "theta": list(THETA),
            "max_alphas": list(MAX_ALPHAS),
            "max_shared": MAX_SHARED_ALPHA,
            "max_steps": MAX_INNER_STEPS,
        },
        read_only=True,
    ).tag(sync=True)

    def numbers(self) -> dict[str, Tensor]:
        """What the figure shows now, computed by autograd: see bowl_descent."""
        return bowl_descent(self.alpha if self.same else (self.alpha1, self.alpha2), self.inner_steps)

    def __repr__(self) -> str:
        """The figure's settings, the same in every run."""
        rates = (
            f"same=True, alpha={self.alpha}" if self.same else f"same=False, alpha1={self.alpha1}, alpha2={self.alpha2}"
        )
        return f"ScaledBowl({rates}, inner_steps={self.inner_steps})"
