"""Two ways to take the tasks of a batch: one after the other, or all together.

Both describe the same computation, as groups of tasks with what MAML needs of a task: ``adapt()``, the inner loop, and
``query_loss(parameters, step)``, how good its result is. Engines put these together and differentiate.

* ``one_by_one`` works for every module and holds one task at a time;
* ``together`` runs the model under ``torch.func.vmap``: many times faster for small networks. Not for modules with batch norm,
  whose second derivative under ``vmap`` is silently wrong in torch 2.13, nor for modules that draw random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional as F

from mamlkit.functional import Parameters, is_strange
from mamlkit.inner_loop import DirectionFunction, InnerLoop, Loss, Objective, descend
from mamlkit.tasks import TaskBatch
from mamlkit.trees import Tree, each, joined, mapped

__all__ = [
    "Grouping",
    "Queries",
    "TaskGroup",
    "each_task",
    "one_by_one",
    "one_group",
    "one_task",
    "safe_under_vmap",
    "together",
]

# Modules that act on each point separately and draw nothing: safe under vmap, second derivatives included.
_POINTWISE = (
    nn.Sequential, nn.ModuleList, nn.Linear, nn.Flatten, nn.Identity, nn.LayerNorm,
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid,
)  # fmt: skip


@dataclass(frozen=True)
class Queries:
    """The query sets of some tasks of a group.

    Attributes:
        tasks: which tasks of the group.
        outputs: (their parameters, number of inner steps that made them) -> ``(tasks, query, *output)``.
        losses: those outputs -> ``(tasks,)``.
    """

    tasks: slice
    outputs: Callable[[Parameters, int], Tree]
    losses: Callable[[Tree], Tensor]

    def loss(self, parameters: Parameters, step: int) -> Tensor:
        """The sum of the losses of these tasks ``()``, with parameters of these tasks that ``step`` inner steps made."""
        return self.losses(self.outputs(parameters, step)).sum()


@dataclass(frozen=True)
class TaskGroup:
    """Some tasks of a batch, computed in one go. Their parameters go by the names that those of a single task have.

    Attributes:
        inner: how each of them is adapted.
        start: theta for each task, by name, with a leading axis for the tasks where ``has_axis`` says so.
        support_loss: (parameters, inner step from 0) -> the sum of the tasks' support losses ``()``. Tasks do not affect each
            other, so row by row its gradient is the gradient of each.
        pieces: the query sets, in pieces that can be computed one at a time.
        has_axis: whether parameters have an axis for the tasks; those of a group of one task need none.
    """

    inner: InnerLoop
    start: Parameters
    support_loss: Objective
    pieces: Sequence[Queries]
    has_axis: bool = True

    def adapt(self) -> list[Parameters]:
        """The inner loop: the parameters after 0, 1, ..., K steps, theta^(0) to theta^(K)."""
        direction: DirectionFunction | None = self.inner.direction
        if direction is not None and self.has_axis:
            direction = vmap(direction, in_dims=(0, 0, 0, None))  # each task's own
        return descend(
            self.support_loss, self.start, self.inner.step_sizes, self.inner.steps, self.inner.order, direction
        )

    def query_loss(self, parameters: Parameters, step: int) -> Tensor:
        """The sum of the tasks' query losses ``()``, with parameters that ``step`` inner steps made."""
        first, *others = self.query_losses(parameters, step)
        return sum(others, first)

    def query_losses(self, parameters: Parameters, step: int) -> Iterator[Tensor]:
        """The summands of ``query_loss``, one for each piece ``()``."""
        for piece in self.pieces:
            yield piece.loss(self.part(piece, parameters), step)

    def query_outputs(self, parameters: Parameters, step: int) -> Tree:
        """The outputs for the query points ``(tasks, query, *output)``; arguments as in ``query_loss``."""
        return joined(torch.cat, [piece.outputs(self.part(piece, parameters), step) for piece in self.pieces])

    def part(self, piece: Queries, parameters: Parameters) -> Parameters:
        """The parameters of the tasks of a piece."""
        return {name: value[piece.tasks] for name, value in parameters.items()} if self.has_axis else parameters

    def collect(self, parameters: Parameters, step: int) -> None:
        """Where each inner step has statistics of its own, show this one its query points, although their loss does not count."""
        if self.inner.collects_every_step:
            with torch.no_grad():
                self.query_outputs(parameters, step)

    def summed(self, values: Parameters) -> Parameters:
        """Sums over the tasks of the group."""
        return {name: value.sum(0) for name, value in values.items()} if self.has_axis else values


#: Takes the tasks of a meta-batch one by one, or together.
Grouping = Callable[[InnerLoop, Parameters, TaskBatch, int], Iterator[TaskGroup]]


def one_by_one(inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, first_task: int = 0) -> Iterator[TaskGroup]:
    """Groups of one task each.

    Args:
        inner: how a task is adapted.
        parameters: where every task starts, by name.
        tasks: the batch.
        first_task: the number of its first task, for the dropout masks.
    """
    for number, task in enumerate(zip(*map(each, tasks), strict=True), start=first_task):
        yield one_task(inner, parameters, task, number)


def one_task(inner: InnerLoop, parameters: Parameters, task: tuple[Tree, ...], number: int) -> TaskGroup:
    """A single task as a group: its support loss, on which ``adapt`` descends, and its query loss.

    Args:
        inner: how it is adapted.
        parameters: where it starts, by name.
        task: support inputs and targets, query inputs and targets.
        number: of the task, for the dropout masks.
    """
    support_x, support_y, query_x, query_y = task
    queries = Queries(
        tasks=slice(None),
        outputs=lambda current, step: mapped(_one_task, inner.answers(current, query_x, step)),  # (1, query, *output)
        losses=lambda outputs: inner.loss(mapped(_the_task, outputs), query_y)[None],  # (1,)
    )
    return TaskGroup(inner, parameters, inner.support_loss(support_x, support_y, number), [queries], has_axis=False)


def _one_task(value: Tensor) -> Tensor:
    return value[None]


def _the_task(value: Tensor) -> Tensor:
    return value[0]


def together(inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, first_task: int = 0) -> Iterator[TaskGroup]:
    """One group of all tasks under ``vmap``; arguments as in ``one_by_one``."""
    yield one_group(inner, parameters, tasks, losses=vmap(inner.loss), for_each=vmap)


def one_group(
    inner: InnerLoop,
    parameters: Parameters,
    tasks: TaskBatch,
    *,
    losses: Callable[[Tree, Tree], Tensor],
    for_each: Callable[[Callable[..., Tree]], Callable[..., Tree]] = lambda forward: forward,
) -> TaskGroup:
    """All tasks of a batch as one group.

    Args:
        inner: how a task is adapted.
        parameters: where every task starts, by name.
        tasks: the batch.
        losses: outputs and targets, with an axis for tasks in front -> ``(tasks,)``.
        for_each: makes a function of all tasks out of one of a single task; not needed if the model takes all tasks in one call.
    """

    def support_loss(current: Parameters, step: int) -> Tensor:
        forward = for_each(lambda task_parameters, x: inner.support_forward(task_parameters, x, step))
        return losses(forward(current, tasks.support_x), tasks.support_y).sum()  # ()

    def outputs(current: Parameters, step: int) -> Tree:
        forward = for_each(lambda task_parameters, x: inner.answers(task_parameters, x, step))
        return forward(current, tasks.query_x)  # (tasks, query, *output)

    start = {name: value.expand(tasks.num_tasks, *value.shape) for name, value in parameters.items()}
    everything = Queries(slice(None), outputs, lambda outputs: losses(outputs, tasks.query_y))
    return TaskGroup(inner, start, support_loss, [everything])


def safe_under_vmap(model: nn.Module) -> bool:
    """Whether a model is known to be right under ``together``: all its layers act on each point separately."""
    return all(type(module) in _POINTWISE and not is_strange(module) for module in model.modules())


def each_task(loss: Loss, general: Callable[[Tree, Tree], Tensor] | None = None) -> Callable[[Tree, Tree], Tensor]:
    """The loss of each task, ``(tasks,)``, of outputs and targets with an axis for tasks in front.

    Cross-entropy and the squared error take all tasks in one call.

    Args:
        loss: of one task.
        general: what to do with any other loss, and where it is to say what is wrong; by default, one task after the other.
    """

    def one_after_the_other(outputs: Tree, targets: Tree) -> Tensor:
        return torch.stack([loss(out, y) for out, y in zip(each(outputs), each(targets), strict=True)])

    others = one_after_the_other if general is None else general

    def cross_entropy(outputs: Tree, labels: Tree) -> Tensor:
        if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)):
            return others(outputs, labels)
        if (
            labels.dtype != torch.int64 or outputs.ndim != 3
        ):  # probabilities, maps, or a mistake that the loss will name
            return others(outputs, labels)
        with torch.no_grad():
            loss(outputs[0], labels[0])  # checks shapes and types
        counts = labels != -100  # as in torch: points with this label are left out
        chosen = outputs.log_softmax(-1).gather(-1, labels.where(counts, 0)[..., None])[..., 0]  # (tasks, points)
        number = counts.sum(1)  # (tasks,)
        means = -(chosen * counts).sum(1) / number.clamp(min=1)
        return means.where(number > 0, math.nan)  # as in torch: no label gives no number, and a gradient of zero

    def squared_error(outputs: Tree, targets: Tree) -> Tensor:
        if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)) or outputs.shape != targets.shape:
            return others(outputs, targets)
        return F.mse_loss(outputs, targets, reduction="none").flatten(1).mean(1)

    plain = getattr(loss, "__wrapped__", loss)
    if plain is F.cross_entropy:
        return cross_entropy
    return squared_error if plain is F.mse_loss else others
