"""The meta-gradient with memory that hardly grows with K: walk the inner loop back, one recomputed step at a time.

The unrolled engines keep the graph of all K inner steps until the end. But reverse mode passes through them one by one: with
``lambda_K`` the gradient of the query loss at ``theta^(K)``,

    lambda_k = gradient of the query loss at theta^(k) + (d theta^(k+1) / d theta^(k))^T lambda_{k+1},

and ``d theta^(k+1) / d theta^(k) = I - alpha H_k`` needs the graph of step k alone. So the way forward keeps only the K + 1 sets
of parameters, and the way back computes each step again, asks autograd for its product with ``lambda``, and drops it. Learned
step sizes and the batch-norm weights of each step collect their part of the gradient on the way. MixFlow-MG (Kemaev et al., 2025,
arXiv:2505.00793) walks the same way with forward mode over reverse mode; here it is reverse mode over reverse mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mamlkit.functional import Parameters
from mamlkit.inner_loop import InnerLoop, inner_step
from mamlkit.tasks import TaskBatch
from mamlkit.unrolling import Unroll, one_by_one

__all__ = ["Recomputed"]


class Recomputed:
    """An engine like ``Unrolled``, one task after the other, that keeps parameters instead of graphs."""

    def __init__(self) -> None:
        self.unroll: Unroll = one_by_one

    def __call__(
        self,
        inner: InnerLoop,
        parameters: Parameters,
        tasks: TaskBatch,
        weights: Tensor,
        meta_parameters: Sequence[Tensor],
        first_task: int = 0,
    ) -> tuple[Tensor, list[Tensor]]:
        """See ``Engine``."""
        total = torch.zeros((), dtype=tasks.query_x.dtype, device=tasks.query_x.device)  # ()
        gradients = [torch.zeros_like(parameter) for parameter in meta_parameters]
        for number, task in enumerate(zip(*tasks, strict=True), start=first_task):
            total += _one_task(inner, parameters, task, weights / tasks.num_tasks, meta_parameters, gradients, number)
        return total, gradients


def _one_task(
    inner: InnerLoop,
    parameters: Parameters,
    task: tuple[Tensor, ...],
    weights: Tensor,
    meta_parameters: Sequence[Tensor],
    gradients: list[Tensor],
    number: int,
) -> Tensor:
    """Add the meta-gradient of one task to ``gradients``; its part of the meta-loss ``()``."""
    support_x, support_y, query_x, query_y = task
    objective = inner.support_loss(support_x, support_y, number)
    path = [{name: value.detach() for name, value in parameters.items()}]
    for step in range(inner.steps):
        moved = inner_step(objective, path[-1], inner.step_sizes(step), step, order=0)
        path.append({name: value.detach() for name, value in moved.items()})

    total = torch.zeros((), dtype=query_x.dtype, device=query_x.device)  # ()
    adjoint = {name: torch.zeros_like(value) for name, value in parameters.items()}  # lambda
    weight_of = dict(enumerate(weights.tolist(), start=1))
    for step in range(inner.steps, -1, -1):
        leaves = {name: value.requires_grad_() for name, value in path[step].items()}
        with torch.enable_grad():
            outputs, factors = [], []
            if step < inner.steps:  # the inner step that begins here, and what arrives from its end
                after = inner_step(objective, leaves, inner.step_sizes(step), step, inner.order)
                outputs, factors = list(after.values()), [adjoint[name] for name in after]
            if weight_of.get(step):
                path_here = [leaves] * (step + 1)  # only its last entry is looked at
                loss = weight_of[step] * inner.loss(inner.query_outputs(path_here, query_x, step), query_y)  # ()
                total += loss.detach()
                outputs, factors = [*outputs, loss], [*factors, torch.ones_like(loss)]
            elif step and inner.collects_every_step:
                with torch.no_grad():
                    inner.query_outputs([leaves] * (step + 1), query_x, step)
        wanted = [*leaves.values(), *meta_parameters]
        products = torch.autograd.grad(outputs, wanted, factors, materialize_grads=True)
        adjoint = dict(zip(leaves, products[: len(leaves)], strict=True))
        for gradient, product in zip(gradients, products[len(leaves) :], strict=True):
            gradient += product
        del path[step + 1 :]  # no longer needed
    # theta itself is the start of the path, not part of any step's graph: its share is what arrives there.
    for name, value in parameters.items():
        for gradient, parameter in zip(gradients, meta_parameters, strict=True):
            if parameter is value:
                gradient += adjoint[name]
    return total
