"""Prototypical networks: no inner loop. A class is the mean of its support points, and a query point belongs to the nearest.

    c_n = mean of f(x) over the support points x of class n,        p(n | x) = softmax_n( -|f(x) - c_n|^2 )

(Snell et al., 2017, arXiv:1703.05175, equations 1 and 2.) What is meta-learned is the embedding f alone; a task adds the means of
its classes, which cost one forward pass. The gradient goes through them as through everything else.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.arguments import describe, expect_kind, explained
from mamlkit.functional import Parameters
from mamlkit.inner_loop import InnerLoop, Loss
from mamlkit.learners import Learner
from mamlkit.meta_gradient import Request
from mamlkit.step_sizes import FixedStepSize
from mamlkit.tasks import TaskBatch
from mamlkit.trees import Tree, each

__all__ = ["ProtoNet", "class_means", "distances"]


def class_means(
    features: Float[Tensor, "points features"], labels: Int64[Tensor, " points"], ways: int
) -> Float[Tensor, "ways features"]:
    """The mean of the features ``(points, features)`` of each class, ``(ways, features)``: equation (1).

    Args:
        features: one row per point.
        labels: class numbers from 0 to ``ways - 1``, each at least once.
        ways: how many classes.

    Raises:
        ValueError: for a class without a point, or a number out of range.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < ways:
        odd = int(labels.min()) if labels.min() < 0 else int(labels.max())
        raise ValueError(f"expected class numbers from 0 to {ways - 1}, got {odd}")
    members = F.one_hot(labels, ways).to(features.dtype)  # (points, ways)
    counts = members.sum(0)  # (ways,)
    if missing := (counts == 0).nonzero().flatten().tolist():
        raise ValueError(
            f"expected a support point of every class from 0 to {ways - 1}, got none of class {missing[0]}"
        )
    return members.T @ features / counts[:, None]


def distances(
    points: Float[Tensor, "points features"], centres: Float[Tensor, "ways features"]
) -> Float[Tensor, "points ways"]:
    """Squared Euclidean distances ``(points, ways)``."""
    return (points[:, None] - centres).square().sum(2)


class ProtoNet(Learner):
    """A prototypical network, trained by ``fit`` and judged by ``evaluate`` like any other learner, with 0 inner steps.

    Support and query points are embedded apart, each with the batch statistics of its own set, as all learners here do it.

    Args:
        model: the embedding f, ``(points, *input)`` to ``(points, *features)``; for instance ``conv4(5)[:-1]``, which has no
            last layer. How many ways a task has is the task's matter.
        loss: of the negative distances ``(query, ways)`` and class numbers ``(query,)``.
        query_statistics: as in ``Learner``.
        keep_statistics: as in ``Learner``.
        autocast: as in ``Learner``.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss = F.cross_entropy,
        query_statistics: Literal["batch", "running"] = "batch",
        keep_statistics: bool = False,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            model,
            loss=loss,
            inner_steps=1,
            step_sizes=partial(FixedStepSize, rate=1.0),  # of steps that are never taken
            order=1,
            query_statistics=query_statistics,
            keep_statistics=keep_statistics,
            dropout=False,
            autocast=autocast,
            engine="task_by_task",
        )
        self.inner_steps = 0

    def step_weights(self) -> Float[Tensor, " steps"]:
        """Of no step: the query loss is that of the prototypes."""
        return torch.zeros(0)

    def differentiated(self, request: Request) -> tuple[Tensor, list[Tensor]]:
        """The mean query loss ``()`` and its gradient, task by task."""
        total, gradients = request.zero(), [torch.zeros_like(parameter) for parameter in request.meta_parameters]
        ways = _ways(request.tasks.support_y)
        for support_x, support_y, query_x, query_y in zip(*map(each, request.tasks), strict=True):
            centres = _centres(request.inner, request.parameters, support_x, support_y, ways)
            outputs = _answers(request.inner, request.parameters, query_x, centres)  # (query, ways)
            loss = request.inner.loss(outputs, query_y) / request.tasks.num_tasks  # ()
            shares = torch.autograd.grad(loss, list(request.meta_parameters), materialize_grads=True)
            for gradient, share in zip(gradients, shares, strict=True):
                gradient += share
            total += loss.detach()
        return total, gradients

    def adapt(self, support_x: Tree, support_y: Tree, steps: int | None = None) -> list[Parameters]:
        """A list of one: the parameters, and under ``"prototypes"`` the class means ``(ways, features)`` of this task.

        Args:
            support_x: ``(support, *input)``.
            support_y: class numbers ``(support,)``.
            steps: 0, or not given: there are none to take.
        """
        _expect_no_steps(steps)
        theta = {name: value.detach().clone() for name, value in self.initialisation().items()}
        with torch.no_grad(), explained(("support inputs", support_x), ("support targets", support_y)):
            centres = _centres(self.inner_loop(), theta, support_x, support_y, _ways(support_y))
        return [{**theta, "prototypes": centres}]

    def predict(self, x: Tree, parameters: Parameters | None = None, step: int | None = None) -> Tree:
        """Negative squared distances ``(points, ways)`` of query inputs ``(points, *input)`` to the prototypes.

        Args:
            x: the inputs.
            parameters: as ``adapt`` gave them.
            step: 0, or not given.
        """
        _expect_no_steps(step)
        if parameters is None or "prototypes" not in parameters:
            raise ValueError("expected parameters with prototypes, as adapt(support_x, support_y)[-1] gives, got none")
        theta = {name: value for name, value in parameters.items() if name != "prototypes"}
        with explained(("inputs", x)):
            return _answers(self.inner_loop(), theta, x, parameters["prototypes"])

    def query_outputs(self, tasks: TaskBatch, steps: int | None = None) -> Tensor:
        """Negative squared distances of the query points of many tasks, ``(1, tasks, query, ways)``; no gradient is kept."""
        _expect_no_steps(steps)
        tasks, inner, theta, outputs = self.expect_tasks(tasks), self.inner_loop(), self.initialisation(), []
        ways = _ways(tasks.support_y)
        with torch.no_grad():
            for support_x, support_y, query_x, _ in zip(*map(each, tasks), strict=True):
                outputs.append(_answers(inner, theta, query_x, _centres(inner, theta, support_x, support_y, ways)))
        return torch.stack(outputs)[None]

    def _explain(self, tasks: TaskBatch) -> None:
        """Nothing: the loss names labels that do not fit, and ``class_means`` classes without a point."""


def _expect_no_steps(steps: int | None) -> None:
    if steps not in (None, 0) or isinstance(steps, bool):
        raise ValueError(f"expected no inner steps of a ProtoNet, which has none, got {steps!r}")


def _ways(labels: Tree) -> int:
    """How many classes there are, the highest number and one."""
    expect_kind("support targets of a ProtoNet", labels, Tensor)
    if labels.dtype != torch.int64:
        raise TypeError(f"expected class numbers of type torch.int64, got {labels.dtype}; convert with .long()")
    return int(labels.max()) + 1


def _centres(inner: InnerLoop, theta: Parameters, x: Tree, labels: Tree, ways: int) -> Tensor:
    return class_means(_flat(inner.support_forward(theta, x, 0)), labels, ways)  # (ways, features)


def _answers(inner: InnerLoop, theta: Parameters, x: Tree, centres: Tensor) -> Tensor:
    return -distances(_flat(inner.answers(theta, x, 0)), centres)  # (query, ways)


def _flat(features: Tree) -> Tensor:
    if not isinstance(features, Tensor) or features.ndim < 2:
        got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else describe(features)
        raise ValueError(f"expected an embedding with features (points, ...), got {got}")
    return features.flatten(1)
