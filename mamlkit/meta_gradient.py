"""The meta-gradient: the derivative of the query loss after adaptation with respect to what was there before it.

An *engine* computes it for a batch of tasks. All engines give the same numbers; they differ in time and memory only:

* ``task_by_task`` unrolls the inner loop of one task after the other. Works for every module.
* ``all_at_once`` unrolls all tasks together, with ``torch.func.vmap`` over the model. Many times faster for small networks; not
  for modules with batch norm, whose second derivative under ``vmap`` is silently wrong in torch 2.13, nor for random ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import vmap

from mamlkit.inner_loop import InnerLoop, Parameters, descend
from mamlkit.tasks import TaskBatch

__all__ = ["ENGINES", "Engine", "MetaGradient", "all_at_once", "choose_engine", "query_losses", "task_by_task"]

MetaGradient = tuple[Tensor, list[Tensor]]  # the meta-loss (), and its gradient for each meta-parameter asked for
Engine = Callable[[InnerLoop, Parameters, TaskBatch, Tensor, Sequence[Tensor]], MetaGradient]

# Modules that act on each point alone and draw nothing: safe to run under vmap, second derivatives included.
_POINTWISE = (
    nn.Sequential, nn.ModuleList, nn.Linear, nn.Flatten, nn.Identity, nn.LayerNorm,
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid,
)  # fmt: skip


def task_by_task(
    inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, weights: Tensor, meta_parameters: Sequence[Tensor]
) -> MetaGradient:
    """Unroll one task after the other, and differentiate each on its own, so that one graph is alive at a time.

    Args:
        inner: how a task is adapted.
        parameters: the initialisation, by name.
        tasks: the meta-batch.
        weights: ``(steps,)``, of the query loss after each step.
        meta_parameters: what to differentiate with respect to.

    Returns:
        The mean over tasks of the weighted query loss ``()``, and its gradients.
    """
    total = torch.zeros((), dtype=tasks.query_x.dtype, device=tasks.query_x.device)  # ()
    gradients = [torch.zeros_like(parameter) for parameter in meta_parameters]
    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
        trajectory = inner.trajectory(parameters, support_x, support_y)

        def query_loss(
            step: int, path: list[Parameters] = trajectory, x: Tensor = query_x, y: Tensor = query_y
        ) -> Tensor:
            return inner.loss(inner.forward(path[step], x, step), y)  # ()

        loss = _weighted(query_loss, weights) / tasks.num_tasks  # ()
        for gradient, share in zip(gradients, _gradients(loss, meta_parameters), strict=True):
            gradient += share
        total += loss.detach()
    return total, gradients


def all_at_once(
    inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, weights: Tensor, meta_parameters: Sequence[Tensor]
) -> MetaGradient:
    """Unroll all tasks together; arguments and result as ``task_by_task``.

    Every task gets a copy of the parameters along a new leading axis. Tasks do not touch each other, so the gradient of the
    *sum* of their support losses is, row by row, the gradient of each.
    """
    losses = _batched_loss(inner)
    copies = _copies(parameters, tasks.num_tasks)
    trajectory = descend(
        lambda current, step: losses(current, tasks.support_x, tasks.support_y, step).sum(),
        copies, inner.step_sizes, inner.steps, inner.order,
    )  # fmt: skip
    loss = _weighted(lambda step: losses(trajectory[step], tasks.query_x, tasks.query_y, step).mean(), weights)  # ()
    return loss.detach(), _gradients(loss, meta_parameters)


def query_losses(inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, engine: Engine) -> tuple[Tensor, Tensor]:
    """Query outputs and losses before adaptation and after each step; no gradient is kept.

    Returns:
        Outputs ``(steps + 1, tasks, query, *output)`` and losses ``(steps + 1, tasks)``.
    """
    if engine is all_at_once:
        losses = _batched_loss(inner)
        trajectory = descend(
            lambda current, step: losses(current, tasks.support_x, tasks.support_y, step).sum(),
            _copies(parameters, tasks.num_tasks), inner.step_sizes, inner.steps, 0,
        )  # fmt: skip
        with torch.no_grad():
            outputs = [_batched_forward(inner)(p, tasks.query_x, step) for step, p in enumerate(trajectory)]
            values = [vmap(inner.loss)(out, tasks.query_y) for out in outputs]
        return torch.stack(outputs), torch.stack(values)
    outputs_of_tasks, losses_of_tasks = [], []
    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
        trajectory = inner.trajectory(parameters, support_x, support_y)
        with torch.no_grad():
            outputs = [inner.forward(p, query_x, step) for step, p in enumerate(trajectory)]
            outputs_of_tasks.append(torch.stack(outputs))  # (steps + 1, query, *output)
            losses_of_tasks.append(torch.stack([inner.loss(out, query_y) for out in outputs]))  # (steps + 1,)
    return torch.stack(outputs_of_tasks, 1), torch.stack(losses_of_tasks, 1)


def choose_engine(name: str, model: nn.Module) -> Engine:
    """The engine of that name; ``"auto"`` takes ``all_at_once`` where the model is known to be safe under ``vmap``.

    Raises:
        ValueError: for an unknown name, or ``all_at_once`` for a model with batch norm.
    """
    if name == "auto":
        return all_at_once if all(isinstance(module, _POINTWISE) for module in model.modules()) else task_by_task
    if name not in ENGINES:
        raise ValueError(f"expected engine to be one of 'auto', {', '.join(map(repr, ENGINES))}, got {name!r}")
    if name == "all_at_once" and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise ValueError(
            "expected a model without batch norm for engine 'all_at_once', got one with it; use 'task_by_task'"
        )
    return ENGINES[name]


ENGINES: dict[str, Engine] = {"task_by_task": task_by_task, "all_at_once": all_at_once}


def _weighted(query_loss: Callable[[int], Tensor], weights: Tensor) -> Tensor:
    """Sum of weight times query loss, skipping the steps that do not count."""
    terms = [weight * query_loss(step) for step, weight in enumerate(weights.tolist(), start=1) if weight != 0]
    return torch.stack(terms).sum()  # ()


def _gradients(loss: Tensor, meta_parameters: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(meta_parameters), materialize_grads=True))


def _copies(parameters: Parameters, num_tasks: int) -> dict[str, Tensor]:
    return {name: value.expand(num_tasks, *value.shape) for name, value in parameters.items()}  # (tasks, *shape)


def _batched_forward(inner: InnerLoop) -> Callable[[Parameters, Tensor, int], Tensor]:
    return lambda parameters, x, step: vmap(lambda p, task_x: inner.forward(p, task_x, step))(parameters, x)


def _batched_loss(inner: InnerLoop) -> Callable[[Parameters, Tensor, Tensor, int], Tensor]:
    forward = _batched_forward(inner)
    return lambda parameters, x, y, step: vmap(inner.loss)(forward(parameters, x, step), y)  # (tasks,)
