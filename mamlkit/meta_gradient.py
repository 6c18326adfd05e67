"""The meta-gradient: the derivative of the query loss after adaptation with respect to what was there before it.

An *engine* computes it for a batch of tasks. All engines give the same numbers; they differ in time and memory only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mamlkit.adjoint import Adjoint
from mamlkit.batched_conv4 import Conv4, conv4_together
from mamlkit.compiling import Compiled
from mamlkit.functional import Parameters, real_type
from mamlkit.inner_loop import InnerLoop, descend
from mamlkit.task_groups import Grouping, TaskGroup, can_run_together, one_by_one, together
from mamlkit.tasks import TaskBatch
from mamlkit.validation import expect_one_of

__all__ = ["ENGINES", "Engine", "Unrolled", "choose_engine", "displacement", "query_outputs"]


@runtime_checkable
class Engine(Protocol):
    """Computes the meta-loss of a batch and its gradient."""

    grouping: Grouping

    def __call__(
        self,
        inner: InnerLoop,
        parameters: Parameters,
        tasks: TaskBatch,
        weights: Tensor,
        meta_parameters: Sequence[Tensor],
        first_task: int = 0,
    ) -> tuple[Tensor, list[Tensor]]:
        """The meta-gradient of a batch.

        Args:
            inner: how a task is adapted.
            parameters: the initialisation, by name.
            tasks: the meta-batch.
            weights: ``(steps,)``, of the query loss after each step.
            meta_parameters: what to differentiate with respect to.
            first_task: number of the first task, for the dropout masks.

        Returns:
            The mean over tasks of the weighted query loss ``()``, and its gradient for each meta-parameter.
        """
        ...


class Unrolled:
    """Differentiate through the unrolled inner loop: reverse mode over everything that happened."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping

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
        total = torch.zeros((), dtype=real_type(parameters), device=tasks.query_x.device)  # ()
        gradients = [torch.zeros_like(parameter) for parameter in meta_parameters]
        for group in self.grouping(inner, parameters, tasks, first_task):
            path = _path(inner, group)
            losses = []
            for step, weight in enumerate(weights.tolist(), start=1):
                for queries in group.queries:
                    if weight:
                        outputs = queries.outputs(queries.of(path[step]), step)
                        losses.append(weight * queries.losses(outputs).sum())
                    elif inner.collects_every_step:
                        with torch.no_grad():
                            queries.outputs(queries.of(path[step]), step)
            loss = torch.stack(losses).sum() / tasks.num_tasks  # ()
            shares = torch.autograd.grad(loss, list(meta_parameters), materialize_grads=True)
            for gradient, share in zip(gradients, shares, strict=True):
                gradient += share
            total += loss.detach()
        return total, gradients


def _path(inner: InnerLoop, group: TaskGroup) -> list[Parameters]:
    """The parameters of a group's tasks after 0, 1, ..., K steps."""
    return descend(group.support_loss, group.start, inner.step_sizes, inner.steps, inner.order)


ENGINES: dict[str, Engine] = {
    "task_by_task": Unrolled(one_by_one),
    "all_at_once": Unrolled(together),
    "recomputed": Adjoint(one_by_one, keep=False),
    "compiled": Compiled(),
}
# What two of them are for ``conv4``, which has a batched version of its own.
_CONV4: dict[str, Engine] = {
    "all_at_once": Adjoint(conv4_together, keep=True),
    "recomputed": Adjoint(conv4_together, keep=False),
}


def choose_engine(name: str, model: nn.Module, *, general: bool = False) -> tuple[str, Engine]:
    """The engine of that name, and its name; ``"auto"`` takes ``all_at_once`` where it is known to be right.

    That is for ``conv4``, which has a batched version of its own, and for models known to be safe under ``vmap``.

    Args:
        name: ``"auto"`` or a name in ``ENGINES``.
        model: what is adapted.
        general: whether the model is called in ways that ``conv4_together`` does not know: dropout, autocast, running statistics.

    Raises:
        ValueError: for an unknown name, or ``all_at_once`` or ``compiled`` for another model with batch norm.
    """
    expect_one_of("engine", name, ("auto", *ENGINES))
    conv4 = isinstance(model, Conv4) and model.runs_together() and not general
    if name == "auto":
        name = "all_at_once" if conv4 or can_run_together(model) else "task_by_task"
    if conv4 and name in _CONV4:
        return name, _CONV4[name]
    normalises = any(isinstance(m, nn.modules.batchnorm._NormBase) for m in model.modules())
    if normalises and name in ("all_at_once", "compiled"):
        raise ValueError(
            f"expected a model without batch norm or instance norm for engine {name!r}, got one with it; use 'task_by_task'"
        )
    return name, Compiled() if name == "compiled" else ENGINES[name]  # a program belongs to one learner


def displacement(
    grouping: Grouping, inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, first_task: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reptile's direction, theta minus the mean of the adapted parameters (Nichol et al., 2018, arXiv:1803.02999, algorithm 2).

    Every task starts from the same theta.

    Returns:
        The mean query loss after adaptation ``()``, and the direction by parameter name.
    """
    total = torch.zeros((), dtype=real_type(parameters), device=tasks.query_x.device)  # ()
    direction = {name: torch.zeros_like(value) for name, value in parameters.items()}
    with torch.no_grad():
        for group in grouping(inner, parameters, tasks, first_task):
            end = _path(inner, group)[-1]
            for name, way in group.summed({name: group.start[name] - end[name] for name in end}).items():
                direction[name] += way / tasks.num_tasks  # the parameter's shape
            for queries in group.queries:
                total += queries.losses(queries.outputs(queries.of(end), inner.steps)).sum() / tasks.num_tasks
    return total, direction


def query_outputs(grouping: Grouping, inner: InnerLoop, parameters: Parameters, tasks: TaskBatch) -> Tensor:
    """Outputs for the query points before adaptation and after each step; no gradient is kept.

    Returns:
        ``(steps + 1, tasks, query, *output)``.
    """
    outputs = []
    with torch.no_grad():
        for group in grouping(inner, parameters, tasks, 0):
            path = list(enumerate(_path(inner, group)))
            for queries in group.queries:
                outputs.append(torch.stack([queries.outputs(queries.of(here), step) for step, here in path]))
    return torch.cat(outputs, 1)
