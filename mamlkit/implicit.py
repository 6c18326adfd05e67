"""iMAML: the meta-gradient of where the inner loop ends up, not of the steps that led there.

The inner problem is to lower the support loss and to stay near theta,

    phi* = argmin_phi  L_support(phi) + lambda/2 |phi - theta|^2,

and at its solution grad L_support(phi*) + lambda (phi* - theta) = 0. The derivative of this equation by theta gives, with the
Hessian H of the support loss at phi* and g = grad L_query(phi*),

    d L_query(phi*) / d theta  =  (I + H / lambda)^-1 g  =  lambda v,        (H + lambda I) v = g

(Rajeswaran et al., 2019, arXiv:1909.04630; the inner problem is their equation 4). The system is solved by conjugate gradients,
which ask for products H p alone. How many inner steps were taken, and which, no longer matters; nothing of them is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamlkit.arguments import expect_at_least, expect_rate
from mamlkit.directions import Direction, Proximal, in_turn
from mamlkit.functional import Parameters
from mamlkit.learners import Learner
from mamlkit.meta_gradient import Request
from mamlkit.task_groups import TaskGroup

__all__ = ["ImplicitLearner", "conjugate_gradients"]


class ImplicitLearner(Learner):
    """A learner whose meta-gradient is the implicit one: see ``mamlkit.algorithms.imaml``, which makes it.

    Args:
        model: as in ``Learner``.
        regularisation: lambda, above 0, by how much the inner problem stays near theta. Where it is not above the most negative
            curvature of the support loss at the end of the inner loop, that end is no minimum. Conjugate gradients then stop at
            the first direction of negative curvature that they meet, and the gradient is what they have until then.
        conjugate_gradient_steps: how many, from the first-order answer v = g / lambda on; 0 leaves it at that.
        direction: what inner steps follow, of the whole inner problem: momentum, for instance.
        parts: as in ``Learner``.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        regularisation: float,
        conjugate_gradient_steps: int,
        direction: Direction | Iterable[Direction] | None = None,
        **parts: Any,
    ) -> None:
        self.regularisation = expect_rate("the regularisation", regularisation)
        self.conjugate_gradient_steps = expect_at_least("conjugate_gradient_steps", conjugate_gradient_steps, 0)
        turn = in_turn(direction)
        super().__init__(model, direction=[Proximal(self.regularisation), *([] if turn is None else [turn])], **parts)

    def describe(self) -> dict[str, Any]:
        """As ``Learner.describe``, with the length of the conjugate gradients."""
        return {**super().describe(), "conjugate_gradient_steps": self.conjugate_gradient_steps}

    def differentiated(self, request: Request) -> tuple[Tensor, list[Tensor]]:
        """The mean query loss ``()`` at the adapted parameters, and the implicit gradient of each meta-parameter."""
        total, gradients = request.zero(), [torch.zeros_like(parameter) for parameter in request.meta_parameters]
        inner = dataclasses.replace(request.inner, order=0)  # nothing of the inner steps is kept
        for group in self.engine.groups(inner, request.parameters, request.tasks, request.first_task):
            loss, lagrangian = self._at_the_solution(group, group.adapt()[-1])
            lagrangian = lagrangian / request.tasks.num_tasks
            shares = torch.autograd.grad(lagrangian, list(request.meta_parameters), materialize_grads=True)
            for gradient, share in zip(gradients, shares, strict=True):
                gradient += share
            total += loss / request.tasks.num_tasks
        return total, gradients

    def _at_the_solution(self, group: TaskGroup, end: Parameters) -> tuple[Tensor, Tensor]:
        """The query loss ``()``, and something ``()`` whose derivative by all that is not adapted is that of the query loss.

        It is L_query + v . (lambda theta - grad L_support) with phi and v held: the derivative by theta is lambda v, and what is
        meta-learned without being adapted has its direct part and the part that goes through the solution.
        """
        steps, moved = group.inner.steps, list(group.inner.step_sizes(0))
        here = {name: end[name].detach().requires_grad_() for name in moved}
        everything = {**group.start, **here}
        support_loss = group.support_loss(everything, steps - 1)
        slope = torch.autograd.grad(support_loss, list(here.values()), create_graph=True, materialize_grads=True)
        query_loss = group.query_loss(everything, steps)
        aim = torch.autograd.grad(query_loss, list(here.values()), retain_graph=True, materialize_grads=True)
        single = not group.has_axis
        shapes = [value.shape if single else value.shape[1:] for value in here.values()]

        def flat(values: Iterable[Tensor]) -> Tensor:  # a row per task
            return torch.cat([value.reshape(-1, shape.numel()) for value, shape in zip(values, shapes, strict=True)], 1)

        def product(rows: Tensor) -> Tensor:  # (H + lambda I) rows
            parts = rows.split([shape.numel() for shape in shapes], 1)
            along = [part.reshape_as(value) for part, value in zip(parts, here.values(), strict=True)]
            curved = torch.autograd.grad(slope, list(here.values()), along, retain_graph=True, materialize_grads=True)
            return flat(curved) + self.regularisation * rows

        right = flat(aim)  # (tasks of the group, numbers)
        start = right / self.regularisation
        v = conjugate_gradients(product, right, self.conjugate_gradient_steps, start)
        theta = flat(group.start[name] for name in moved)
        return query_loss.detach(), query_loss + (v * (self.regularisation * theta - flat(slope))).sum()


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Float[Tensor, "systems numbers"],
    steps: int,
    start: Float[Tensor, "systems numbers"] | None = None,
) -> Float[Tensor, "systems numbers"]:
    """Solve A x = b by conjugate gradients, for symmetric positive definite A.

    (Hestenes and Stiefel, 1952, doi:10.6028/jres.049.044.) Several systems are solved side by side, a row each. A row that is
    solved, or that meets a direction in which A is not positive, stays as it is from then on.

    Args:
        product: x to A x, row by row.
        right: b.
        steps: how many; as many as there are numbers solve the system, up to rounding.
        start: where to begin; zero when not given.

    Returns:
        x, of the shape of b.
    """
    found = torch.zeros_like(right) if start is None else start
    residual = right if start is None else right - product(start)
    towards, square = residual, _dot(residual, residual)
    goes_on = square > 0  # (systems, 1)
    for _ in range(expect_at_least("steps", steps, 0)):
        image = product(towards)
        curvature = _dot(towards, image)
        goes_on = goes_on & (curvature > 0)
        length = torch.where(goes_on, square / curvature.where(goes_on, 1.0), 0.0)
        found, residual = found + length * towards, residual - length * image
        before, square = square, _dot(residual, residual)
        goes_on = goes_on & (square > 0)
        towards = residual + torch.where(goes_on, square / before.where(goes_on, 1.0), 0.0) * towards
    return found


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(1, keepdim=True)  # (systems, 1)
