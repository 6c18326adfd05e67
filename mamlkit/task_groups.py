"""Two ways to take the tasks of a batch: one after the other, or all together.

Both describe the same computation, as groups of tasks whose losses are functions of parameters; the engines of ``meta_gradient``
and ``adjoint`` differentiate them.

* ``one_by_one`` works for every module and holds one task at a time;
* ``together`` runs the model under ``torch.func.vmap``: many times faster for small networks. Not for modules with batch norm,
  whose second derivative under ``vmap`` is silently wrong in torch 2.13, nor for modules that draw random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import vmap

from mamlkit.functional import Parameters, is_strange
from mamlkit.inner_loop import InnerLoop, Objective
from mamlkit.tasks import TaskBatch

__all__ = ["Grouping", "Queries", "TaskGroup", "can_run_together", "one_by_one", "together"]

# Modules that act on each point alone and draw nothing: safe under vmap, second derivatives included.
_POINTWISE = (
    nn.Sequential, nn.ModuleList, nn.Linear, nn.Flatten, nn.Identity, nn.LayerNorm,
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid,
)  # fmt: skip


@dataclass(frozen=True)
class Queries:
    """The query sets of some tasks of a group.

    Attributes:
        tasks: which of the group; ``None`` for a group of one task whose parameters have no axis for tasks.
        outputs: (their parameters, number of inner steps that made them) -> ``(tasks, query, *output)``.
        losses: those outputs -> ``(tasks,)``.
    """

    tasks: slice | None
    outputs: Callable[[Parameters, int], Tensor]
    losses: Callable[[Tensor], Tensor]

    def of(self, parameters: Parameters) -> Parameters:
        """The parameters of these tasks."""
        return parameters if self.tasks is None else {name: value[self.tasks] for name, value in parameters.items()}


@dataclass(frozen=True)
class TaskGroup:
    """Some tasks of a batch.

    Attributes:
        start: theta for each task, by name, with a leading axis for the tasks; without it in a group of one task.
        support_loss: (parameters, inner step from 0) -> the sum of the tasks' support losses ``()``. Tasks do not touch each
            other, so that its gradient is, row by row, the gradient of each.
        queries: the query sets, in pieces that are computed one at a time.
    """

    start: Parameters
    support_loss: Objective
    queries: Sequence[Queries]

    def summed(self, values: Parameters) -> Parameters:
        """Sums over the tasks of the group."""
        single = self.queries[0].tasks is None
        return values if single else {name: value.sum(0) for name, value in values.items()}


Grouping = Callable[[InnerLoop, Parameters, TaskBatch, int], Iterator[TaskGroup]]


def one_by_one(inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, first_task: int = 0) -> Iterator[TaskGroup]:
    """Groups of one task each.

    Args:
        inner: how a task is adapted.
        parameters: where every task starts, by name.
        tasks: the batch.
        first_task: number of its first task, for the dropout masks.
    """
    for number, task in enumerate(zip(*tasks, strict=True), start=first_task):
        yield _one(inner, parameters, task, number)


def _one(inner: InnerLoop, parameters: Parameters, task: tuple[Tensor, ...], number: int) -> TaskGroup:
    support_x, support_y, query_x, query_y = task
    queries = Queries(
        tasks=None,
        outputs=lambda current, step: inner.query_outputs(current, query_x, step)[None],  # (1, query, *output)
        losses=lambda outputs: inner.loss(outputs[0], query_y)[None],  # (1,)
    )
    return TaskGroup(parameters, inner.support_loss(support_x, support_y, number), [queries])


def together(inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, first_task: int = 0) -> Iterator[TaskGroup]:
    """One group of all tasks; arguments as ``one_by_one``."""
    losses = vmap(inner.loss)

    def support_loss(current: Parameters, step: int) -> Tensor:
        forward = vmap(lambda task_parameters, x: inner.support_forward(task_parameters, x, step))
        return losses(forward(current, tasks.support_x), tasks.support_y).sum()  # ()

    def query_outputs(current: Parameters, step: int) -> Tensor:
        forward = vmap(lambda task_parameters, x: inner.query_outputs(task_parameters, x, step))
        return forward(current, tasks.query_x)  # (tasks, query, *output)

    start = {name: value.expand(tasks.num_tasks, *value.shape) for name, value in parameters.items()}
    everything = Queries(slice(None), query_outputs, lambda outputs: losses(outputs, tasks.query_y))
    yield TaskGroup(start, support_loss, [everything])


def can_run_together(model: nn.Module) -> bool:
    """Whether a model is known to be safe under ``together``: only layers that act on each point alone."""
    return all(type(module) in _POINTWISE and not is_strange(module) for module in model.modules())
