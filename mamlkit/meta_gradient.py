"""The meta-gradient: the derivative of the query loss after adaptation with respect to the parameters before it.

MAML (Finn et al., 2017, arXiv:1703.03400, algorithm 2) is the loop in ``TaskByTask`` below. For each task it walks the inner
loop, from theta^(0) = theta to theta^(K), asks how good the result is on the query set, and takes the derivative of the mean over
tasks with respect to theta, through all steps:

    meta-loss = 1/T sum_t sum_k w_k L_query,t(theta_t^(k)),        w = (0, ..., 0, 1) in MAML.

The docstring of ``maml`` in ``algorithms`` has the same in a dozen lines of plain PyTorch. From ``TaskByTask`` the way leads on
to ``one_task`` in ``task_groups``, which says what ``adapt`` and ``query_loss`` are for one task, and to ``inner_step`` in
``inner_loop``: theta^(k+1) = theta^(k) - alpha dL_support/dtheta^(k).

Comments that name MAML++ say where it and MAML part. The other parts of MAML++ come in with ``inner`` (its step sizes, its batch
norm) and with the meta-parameters, to which they add their own: see ``maml_plus_plus`` in ``algorithms``.

An *engine* is a way to compute this. All engines give the same numbers; they differ only in time and memory. The two here take
reverse mode through everything that happened; ``mamlkit.engines`` has faster and smaller ones. With ``engine="auto"`` a ``conv4``
takes one of those, and a network that is safe under ``vmap`` takes ``AllAtOnce``: ask for ``engine="task_by_task"`` to step
through ``TaskByTask`` with a debugger. The outer update is not here: it is ``optimiser.step()`` in the loop that calls
``learner.meta_backward``, see ``learners``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import vmap

from mamlkit.functional import Parameters, real_type
from mamlkit.inner_loop import InnerLoop, Loss
from mamlkit.task_groups import Grouping, each_task, one_by_one, together
from mamlkit.tasks import TaskBatch
from mamlkit.trees import Tree

__all__ = ["AllAtOnce", "Engine", "Request", "TaskByTask"]


@dataclass(frozen=True)
class Request:
    """What an engine is asked for: the meta-loss of one batch and its gradient.

    Attributes:
        inner: how a task is adapted.
        parameters: theta, by name.
        tasks: the meta-batch.
        weights: of the query loss after each step, ``(steps,)``.
        meta_parameters: what to differentiate with respect to.
        first_task: the number of the first task, for the dropout masks.
    """

    inner: InnerLoop
    parameters: Parameters
    tasks: TaskBatch
    weights: Tensor
    meta_parameters: Sequence[Tensor]
    first_task: int = 0

    def zero(self) -> Tensor:
        """A loss ``()`` to add to."""
        return torch.zeros((), dtype=real_type(self.parameters), device=self.tasks.device)


class Engine(ABC):
    """Computes the meta-loss of a batch and its gradient.

    Attributes:
        name: what ``print(learner)`` says.
        groups: how it takes the tasks of a batch.
        follows_directions: whether its inner loops may follow one of ``mamlkit.directions`` in place of the gradient.
    """

    name: ClassVar[str]
    follows_directions: ClassVar[bool] = True
    groups: Grouping

    @abstractmethod
    def __call__(self, request: Request) -> tuple[Tensor, list[Tensor]]:
        """The mean over tasks of the weighted query losses ``()``, and its gradient for each meta-parameter."""

    def network(self, model: nn.Module) -> nn.Module:
        """The model in the form that this engine calls: the same layers, perhaps for several tasks at once."""
        return model

    def task_losses(self, loss: Loss) -> Callable[[Tree, Tree], Tensor]:
        """The loss of each task, ``(tasks,)``, of outputs and targets with an axis for tasks in front."""
        return each_task(loss)


class TaskByTask(Engine):
    """MAML as it is written. Keeps the graph of one task at a time, and is right for every module."""

    name = "task_by_task"
    groups = staticmethod(one_by_one)

    def __call__(self, request: Request) -> tuple[Tensor, list[Tensor]]:
        """The gradient of the meta-loss, task by task (Finn et al., 2017, algorithm 2)."""
        total, gradients = request.zero(), [torch.zeros_like(parameter) for parameter in request.meta_parameters]
        for group in self.groups(request.inner, request.parameters, request.tasks, request.first_task):
            path = group.adapt()  # theta^(0), ..., theta^(K)
            losses = []
            for k, weight in enumerate(request.weights.tolist(), start=1):
                if weight:  # MAML: only after step K; MAML++: after every step
                    losses.append(weight * group.query_loss(path[k], k))
                else:
                    group.collect(path[k], k)  # MAML++: batch statistics of each step
            loss = torch.stack(losses).sum() / request.tasks.num_tasks  # ()
            shares = torch.autograd.grad(loss, list(request.meta_parameters), materialize_grads=True)
            for gradient, share in zip(gradients, shares, strict=True):
                gradient += share
            total += loss.detach()
        return total, gradients


class AllAtOnce(TaskByTask):
    """The same, with all tasks in one call, for models that are safe under ``torch.func.vmap``."""

    name = "all_at_once"
    groups = staticmethod(together)

    def task_losses(self, loss: Loss) -> Callable[[Tree, Tree], Tensor]:
        """See ``Engine``; this loss is known to run under ``vmap``."""
        return vmap(loss)
