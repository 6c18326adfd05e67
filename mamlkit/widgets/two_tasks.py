r"""Two tasks on a loss surface: the true meta-gradient beside FOMAML's and Reptile's (figure of chapter 3).

Both losses of a task have the same shape, with $d = \theta - c$ and $u = R(\varphi)^\top d$,

$$\mathcal L(\theta; c) = \tfrac12 (a\,u_1^2 + b\,u_2^2) + \frac{w}{m^2} \log\cosh\big(m\,(u_1 + u_2)\big),$$

and different minima $c$: one for the support set, one close by for the query set. The log-cosh term makes the Hessian
change along the inner steps, so that the order and the place of every factor $I - \alpha H$ matter.

The functions below differentiate by autograd; the figure multiplies the closed-form factors in the browser. A test
holds the two to the same numbers.
"""

import math
from typing import Any

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from mamlkit.widgets._assets import figure_module, style_sheet

__all__ = ["TwoTasks", "two_task_arrows", "two_task_losses"]

# The one place of the constants: the figure gets them as a trait. angle is phi, in radians.
TASKS: tuple[dict[str, Any], ...] = (
    {"name": "A", "support": [-1.15, 0.75], "query": [-0.85, 1.0], "angle": 0.45,
     "a": 1.1, "b": 0.12, "w": 0.5, "m": 1.4},
    {"name": "B", "support": [1.25, -0.45], "query": [1.55, -0.8], "angle": 2.0,
     "a": 0.7, "b": 0.22, "w": 0.6, "m": 1.1},
)  # fmt: skip
ARROWS = ("maml", "fomaml", "reptile")
MAX_THETA, MAX_ALPHA, MAX_INNER_STEPS = (3.0, 2.4), 0.8, 10


def _loss(task: dict[str, Any], centre: list[float], theta: Float[Tensor, "2"]) -> Float[Tensor, ""]:
    d = theta - theta.new_tensor(centre)  # (2,)
    cos, sin = math.cos(task["angle"]), math.sin(task["angle"])
    u1, u2 = cos * d[0] + sin * d[1], -sin * d[0] + cos * d[1]
    z = task["m"] * (u1 + u2)
    log_cosh = z + torch.nn.functional.softplus(-2 * z) - math.log(2)  # no overflow for large |z|
    return 0.5 * (task["a"] * u1**2 + task["b"] * u2**2) + task["w"] / task["m"] ** 2 * log_cosh


def two_task_losses(theta: Any) -> Float[Tensor, "2 2"]:
    """Losses of both tasks at theta.

    Args:
        theta: (2,) the parameters; a tensor, or two numbers (then float64).

    Returns:
        (tasks, 2) support loss and query loss of each task.
    """
    theta = torch.as_tensor(theta, dtype=None if isinstance(theta, Tensor) else torch.float64)
    return torch.stack([torch.stack([_loss(t, t[part], theta) for part in ("support", "query")]) for t in TASKS])


def two_task_arrows(theta: Any, alpha: float, inner_steps: int) -> dict[str, Tensor]:
    """The descent directions of MAML, FOMAML and Reptile at theta, each the mean over both tasks.

    MAML is minus the gradient, by theta, of the query loss at theta_i^(K), through all K inner steps (Finn et al., 2017,
    eq. 1). FOMAML is minus the gradient of the query loss by theta_i^(K) itself. Reptile is theta_i^(K) - theta (Nichol et
    al., 2018).

    Args:
        theta: (2,) the initialisation; a tensor, or two numbers (then float64).
        alpha: inner step size.
        inner_steps: number K of inner steps, at least 1.

    Returns:
        A dictionary. Under "maml", "fomaml" and "reptile" are (2,) the directions, under "steps" (tasks, K + 1, 2) the inner
        steps, theta first, under "adapted" (tasks, 2) their ends, under "support" and "query" (tasks,) the losses at theta,
        under "query_after" (tasks,) the query losses at the ends.

    Raises:
        ValueError: if inner_steps is less than 1.
    """
    if inner_steps < 1:
        raise ValueError(f"inner_steps must be at least 1, got {inner_steps}")
    theta = torch.as_tensor(theta, dtype=None if isinstance(theta, Tensor) else torch.float64)
    theta = theta.detach().clone().requires_grad_()  # (2,)
    steps, maml, fomaml, after = [], [], [], []
    for task in TASKS:
        path = [theta]
        for _ in range(inner_steps):
            (g,) = torch.autograd.grad(_loss(task, task["support"], path[-1]), path[-1], create_graph=True)
            path.append(path[-1] - alpha * g)  # (2,)
        query = _loss(task, task["query"], path[-1])
        fomaml.append(torch.autograd.grad(query, path[-1], retain_graph=True)[0])
        maml.append(torch.autograd.grad(query, theta)[0])
        steps.append(torch.stack(path).detach())
        after.append(query.detach())
    trajectory = torch.stack(steps)  # (tasks, K + 1, 2)
    before = two_task_losses(theta.detach())  # (tasks, 2)
    return {
        "maml": -torch.stack(maml).mean(0),
        "fomaml": -torch.stack(fomaml).mean(0),
        "reptile": (trajectory[:, -1] - trajectory[:, 0]).mean(0),
        "steps": trajectory,
        "adapted": trajectory[:, -1],
        "support": before[:, 0],
        "query": before[:, 1],
        "query_after": torch.stack(after),
    }


class TwoTasks(anywidget.AnyWidget):
    """Live figure: drag theta over the loss surfaces of two tasks and compare three meta-gradients.

    Args:
        theta: the initialisation, two numbers within 3.0 and 2.4 of the origin.
        alpha: inner step size, from 0.02 to 0.8.
        inner_steps: number K of inner steps, from 1 to 10.
        show: the arrows to draw, any of "maml", "fomaml", "reptile".

    Raises:
        traitlets.TraitError: if a value is outside these bounds.
    """

    _esm = figure_module("two_tasks")
    _css = style_sheet()
    theta = traitlets.List(traitlets.Float(), minlen=2, maxlen=2, default_value=[-0.2, -1.3]).tag(sync=True)
    alpha = traitlets.Float(0.4, min=0.02, max=MAX_ALPHA).tag(sync=True)
    inner_steps = traitlets.Int(3, min=1, max=MAX_INNER_STEPS).tag(sync=True)
    show = traitlets.List(traitlets.Enum(ARROWS), default_value=list(ARROWS)).tag(sync=True)
    meta_contours = traitlets.Bool(False).tag(sync=True)
    tasks = traitlets.List(traitlets.Dict(), default_value=list(TASKS), read_only=True).tag(sync=True)

    @traitlets.validate("theta")
    def _inside_the_figure(self, proposal: Any) -> list[float]:
        for value, limit in zip(proposal["value"], MAX_THETA, strict=True):
            if not abs(value) <= limit:
                raise traitlets.TraitError(f"theta must lie within {MAX_THETA} of the origin, got {proposal['value']}")
        return proposal["value"]

    def arrows(self) -> dict[str, Tensor]:
        """What the figure shows now, computed by autograd: see two_task_arrows."""
        return two_task_arrows(self.theta, self.alpha, self.inner_steps)

    def __repr__(self) -> str:
        """The figure's settings, the same in every run."""
        return f"TwoTasks(theta={tuple(self.theta)}, alpha={self.alpha}, inner_steps={self.inner_steps})"
