"""Two ways to adapt the tasks of a batch: one after the other, or all together.

Both yield the same numbers, in groups of adapted tasks:

* ``one_by_one`` works for every module and keeps the graph of one task at a time;
* ``together`` runs the model under ``torch.func.vmap``: many times faster for small networks. Not for modules with batch norm,
  whose second derivative under ``vmap`` is silently wrong in torch 2.13, nor for modules that draw random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import vmap

from mamlkit.functional import Parameters
from mamlkit.inner_loop import InnerLoop, descend
from mamlkit.tasks import TaskBatch

__all__ = ["AdaptedTasks", "Unroll", "can_run_together", "one_by_one", "together"]

# Modules that act on each point alone and draw nothing: safe under vmap, second derivatives included.
_POINTWISE = (
    nn.Sequential, nn.ModuleList, nn.Linear, nn.Flatten, nn.Identity, nn.LayerNorm,
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid,
)  # fmt: skip


@dataclass(frozen=True)
class AdaptedTasks:
    """A group of tasks after the inner loop.

    Attributes:
        path: parameters after 0, ..., K steps; each tensor has a leading axis for the tasks of the group.
        outputs: step -> query outputs after that many steps, ``(group, query, *output)``.
        losses: those outputs -> query losses ``(group,)``.
    """

    path: Sequence[Parameters]
    outputs: Callable[[int], Tensor]
    losses: Callable[[Tensor], Tensor]


Unroll = Callable[[InnerLoop, Parameters, TaskBatch, int], Iterator[AdaptedTasks]]


def one_by_one(
    inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, first_task: int = 0
) -> Iterator[AdaptedTasks]:
    """Groups of one task each.

    Args:
        inner: how a task is adapted.
        parameters: where every task starts, by name.
        tasks: the batch.
        first_task: number of its first task, for the dropout masks.
    """
    for number, task in enumerate(zip(*tasks, strict=True), start=first_task):
        yield _one(inner, inner.trajectory(parameters, task[0], task[1], number), task[2], task[3])


def _one(inner: InnerLoop, path: list[Parameters], query_x: Tensor, query_y: Tensor) -> AdaptedTasks:
    return AdaptedTasks(
        path=[{name: value[None] for name, value in parameters.items()} for parameters in path],
        outputs=lambda step: inner.query_outputs(path, query_x, step)[None],  # (1, query, *output)
        losses=lambda outputs: inner.loss(outputs[0], query_y)[None],  # (1,)
    )


def together(inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, first_task: int = 0) -> Iterator[AdaptedTasks]:
    """One group of all tasks; arguments as ``one_by_one``.

    Every task gets a copy of the parameters along a new leading axis. Tasks do not touch each other, so the gradient of the
    *sum* of their support losses is, row by row, the gradient of each.
    """
    losses = vmap(inner.loss)

    def support_loss(current: Parameters, step: int) -> Tensor:
        forward = vmap(lambda task_parameters, x: inner.support_forward(task_parameters, x, step))
        return losses(forward(current, tasks.support_x), tasks.support_y).sum()  # ()

    def query_outputs(step: int) -> Tensor:
        forward = vmap(lambda task_parameters, x: inner.query_forward(task_parameters, x, max(step - 1, 0)))
        return forward(path[step], tasks.query_x)  # (tasks, query, *output)

    copies = {name: value.expand(tasks.num_tasks, *value.shape) for name, value in parameters.items()}
    path = descend(support_loss, copies, inner.step_sizes, inner.steps, inner.order)
    yield AdaptedTasks(path, query_outputs, lambda outputs: losses(outputs, tasks.query_y))


def can_run_together(model: nn.Module) -> bool:
    """Whether a model is known to be safe under ``together``: only layers that act on each point alone."""
    return all(type(module) in _POINTWISE for module in model.modules())
