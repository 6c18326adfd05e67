"""The meta-gradient by an adjoint recursion: walk the inner loop back, one step at a time.

Reverse mode through the unrolled inner loop passes its steps one by one. With ``q_k`` the gradient of the weighted query loss at
``theta^(k)``,

    lambda_K = q_K,        lambda_k = q_k + (d theta^(k+1) / d theta^(k))^T lambda_{k+1},

and ``d theta^(k+1) / d theta^(k) = I - alpha H_k`` needs only the graph of step k. So no graph has to reach further than one
step:

* the query losses are differentiated once, as soon as their step is taken, a few tasks at a time, and their graphs are dropped;
* the way back asks autograd for the product of each step with ``lambda``: reverse mode over reverse mode. Learned step sizes and
  the batch-norm weights of each step collect their part of the gradient on the way.

With ``keep``, the graphs of the support losses wait for the way back. Without it, the way forward keeps only the K + 1 sets of
parameters, and the way back computes each step again: memory then hardly grows with K. MixFlow-MG (Kemaev et al., 2025,
arXiv:2505.00793) walks the same way with forward mode over reverse mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mamlkit.functional import Parameters
from mamlkit.inner_loop import InnerLoop, Order, inner_step
from mamlkit.meta_gradient import Engine, Request
from mamlkit.randomness import Replay
from mamlkit.task_groups import TaskGroup, one_by_one

__all__ = ["Adjoint", "Recomputed"]


class Adjoint(Engine):
    """The recursion, for engines that say how they take the tasks.

    Attributes:
        keep: whether the graphs of all K inner steps of a group are kept, or computed again.
    """

    keep: ClassVar[bool]
    follows_directions = False  # the recursion knows no memory besides theta

    def __call__(self, request: Request) -> tuple[Tensor, list[Tensor]]:
        """See ``Engine``."""
        parameters, tasks = request.parameters, request.tasks
        thetas = {id(value) for value in parameters.values()}
        others = [parameter for parameter in request.meta_parameters if id(parameter) not in thetas]
        found = {id(parameter): torch.zeros_like(parameter) for parameter in request.meta_parameters}
        total = request.zero()
        shares = [0.0, *(request.weights / tasks.num_tasks).tolist()]
        for group in self.groups(request.inner, parameters, tasks, request.first_task):
            walk = _Walk(request.inner, group, shares, others, keep=self.keep)
            total += walk.forward()
            for name, gradient in group.summed(walk.back()).items():
                found[id(parameters[name])] += gradient
            for parameter, gradient in zip(others, walk.for_others, strict=True):
                found[id(parameter)] += gradient
        return total, [found[id(parameter)] for parameter in request.meta_parameters]


class Recomputed(Adjoint):
    """One task at a time, keeping only its path: memory hardly grows with the number of inner steps."""

    name = "recomputed"
    groups = staticmethod(one_by_one)
    keep = False


class _Walk:
    """The inner loop of one group, there and back."""

    def __init__(
        self, inner: InnerLoop, group: TaskGroup, shares: Sequence[float], others: Sequence[Tensor], *, keep: bool
    ) -> None:
        self.inner, self.group, self.shares, self.others, self.keep = inner, group, shares, others, keep
        self.for_others = [torch.zeros_like(parameter) for parameter in others]
        self.replays: list[Replay] = []  # of the steps that are computed again
        self.points = [_leaves(group.start)]  # theta^(0), theta^(1), ...
        self.moved: list[Parameters] = []  # what each step made of its point, with a graph, where graphs are kept
        self.slopes: list[Parameters | None] = [None]  # q_0, q_1, ...; None where the query loss has no weight

    def forward(self) -> Tensor:
        """Take all steps; this group's part of the meta-loss ``()``."""
        losses = []
        for step in range(self.inner.steps):
            if not self.keep:
                self.replays.append(Replay(next(iter(self.points[0].values())).device))
            moved = self._step(step, self.inner.order if self.keep else 0)
            if self.keep:
                self.moved.append(moved)
            self.points.append(_leaves(moved))
            losses += self._query(step + 1)
        return torch.stack(losses).sum()

    def back(self) -> Parameters:
        """lambda_0, task by task; what the other meta-parameters collect on the way goes into ``for_others``."""
        adjoint = self.slopes.pop()
        for step in reversed(range(self.inner.steps)):
            leaves = self.points[step]
            slope = self.slopes.pop()
            if adjoint is not None:
                moved = self.moved.pop() if self.keep else self._again(step)
                wanted = [*leaves.values(), *self.others]
                products = torch.autograd.grad(
                    list(moved.values()), wanted, [adjoint[name] for name in moved], materialize_grads=True
                )
                del moved
                self._collect(products[len(leaves) :])
                adjoint = dict(zip(leaves, products, strict=False))
            adjoint = _sum(adjoint, slope)
            del self.points[step + 1 :]
        assert adjoint is not None
        return adjoint

    def _step(self, step: int, order: Order) -> Parameters:
        return inner_step(self.group.support_loss, self.points[step], self.inner.step_sizes(step), step, order)

    def _again(self, step: int) -> Parameters:
        """The step as it was taken, with the same random numbers, and now with a graph."""
        with self.replays[step]:
            return self._step(step, self.inner.order)

    def _query(self, step: int) -> list[Tensor]:
        """The weighted query losses after ``step`` steps ``()``; their gradient at the parameters there becomes a slope."""
        point, share = self.points[step], self.shares[step]
        losses: list[Tensor] = []
        if not share:
            self.slopes.append(None)
            self.group.collect(point, step)
            return losses
        slope = {name: torch.empty_like(value) for name, value in point.items()}
        for piece in self.group.pieces:
            leaves = _leaves(self.group.part(piece, point))
            with torch.enable_grad():
                loss = share * piece.loss(leaves, step)  # ()
            found = torch.autograd.grad(loss, [*leaves.values(), *self.others], materialize_grads=True)
            for target, gradient in zip(self.group.part(piece, slope).values(), found, strict=False):
                target.copy_(gradient)
            self._collect(found[len(leaves) :])
            losses.append(loss.detach())
        self.slopes.append(slope)
        return losses

    def _collect(self, gradients: Sequence[Tensor]) -> None:
        for total, gradient in zip(self.for_others, gradients, strict=True):
            total += gradient


def _leaves(parameters: Parameters) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in parameters.items()}


def _sum(first: Parameters | None, second: Parameters | None) -> Parameters | None:
    if first is None or second is None:
        return second if first is None else first
    return {name: value + second[name] for name, value in first.items()}
