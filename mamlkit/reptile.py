"""Reptile's direction: where the tasks went, instead of the derivative of how good they got there.

    theta  <-  theta - beta * 1/T sum_t (theta - theta_t^(K))

(Nichol et al., 2018, arXiv:1803.02999, algorithm 2.) No query loss is differentiated, and theta is the only meta-parameter that
moves.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mamlkit.functional import Parameters, real_type
from mamlkit.task_groups import TaskGroup
from mamlkit.tasks import TaskBatch

__all__ = ["displacement"]


def displacement(
    groups: Iterable[TaskGroup], parameters: Parameters, tasks: TaskBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    """theta minus the mean of the adapted parameters.

    Args:
        groups: the tasks, each of which starts from the same theta.
        parameters: theta, by name.
        tasks: the batch that the groups make up.

    Returns:
        The mean query loss after adaptation ``()``, and the direction by parameter name.
    """
    total = torch.zeros((), dtype=real_type(parameters), device=tasks.device)  # ()
    direction = {name: torch.zeros_like(value) for name, value in parameters.items()}
    with torch.no_grad():
        for group in groups:
            end = group.adapt()[-1]
            for name, gone in group.summed({name: group.start[name] - end[name] for name in end}).items():
                direction[name] += gone / tasks.num_tasks  # the parameter's shape
            for loss in group.query_losses(end, group.inner.steps):
                total += loss / tasks.num_tasks
    return total, direction
