"""How good is a learner on tasks it has never seen? A mean over tasks, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from mamlkit.arguments import expect_at_least
from mamlkit.learners import Learner
from mamlkit.tasks import TaskBatch

__all__ = ["Evaluation", "Interval", "evaluate", "evaluate_ensemble", "interval"]


@dataclass(frozen=True)
class Interval:
    """A mean over tasks with its 95 % confidence interval, ``mean`` plus or minus ``half_width``."""

    mean: float
    half_width: float
    tasks: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half_width:.3f}"


@dataclass(frozen=True)
class Evaluation:
    """Query results of many tasks, before adaptation (index 0) and after each inner step.

    Attributes:
        losses: ``(steps + 1, tasks)``.
        accuracies: ``(steps + 1, tasks)`` as fractions, or ``None`` where targets are not classes.
    """

    losses: Tensor
    accuracies: Tensor | None

    def loss(self, step: int = -1) -> Interval:
        """Mean query loss after ``step`` steps (the last one when not given)."""
        return interval(self.losses[step])

    def accuracy(self, step: int = -1) -> Interval:
        """Mean query accuracy after ``step`` steps, a fraction."""
        return interval(self._accuracies()[step])

    @property
    def gain(self) -> Interval:
        """Accuracy after the last step minus accuracy before adaptation, task by task."""
        return interval(self._accuracies()[-1] - self._accuracies()[0])

    def share_above(self, accuracy: float) -> float:
        """The share of tasks whose accuracy after the last step is above this fraction."""
        return (self._accuracies()[-1] > accuracy).double().mean().item()

    def to_json(self) -> dict[str, Any]:
        """Per-task values and their summary, as plain lists and numbers."""
        record: dict[str, Any] = {"tasks": self.losses.shape[1], "losses": self.losses.tolist()}
        record["loss"], record["loss_ci95"] = self.loss().mean, self.loss().half_width
        if self.accuracies is not None:
            record["accuracies"] = self.accuracies.tolist()
            record["accuracy"], record["accuracy_ci95"] = self.accuracy().mean, self.accuracy().half_width
        return record

    def _accuracies(self) -> Tensor:
        if self.accuracies is None:
            raise ValueError("expected tasks with class numbers as targets, got real-valued targets: use loss()")
        return self.accuracies


def interval(values: Shaped[Tensor, " tasks"]) -> Interval:
    """Mean and 95 % interval over tasks: 1.96 sample standard deviations divided by the root of the number of tasks.

    The spread is over *tasks*, each with its own average over query points, as in Finn et al., 2017, table 1.

    Args:
        values: ``(tasks,)``, one number a task.

    Raises:
        ValueError: with fewer than two tasks, which have no spread.
    """
    if not isinstance(values, Tensor):
        raise TypeError(f"expected a tensor with one value for each task, got {type(values).__name__}")
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"expected one value for each of at least two tasks, got shape {tuple(values.shape)}")
    wide = values.double()
    return Interval(wide.mean().item(), 1.96 * wide.std().item() / math.sqrt(len(values)), len(values))


def evaluate(learner: Learner, tasks: TaskBatch, *, steps: int | None = None, chunk: int = 100) -> Evaluation:
    """Adapt to each task's support set and measure on its query set, before adaptation and after each step.

    Args:
        learner: what to evaluate; it is not changed.
        tasks: test tasks, 600 of them in most papers.
        steps: inner steps; those of training when not given. Beyond those, learned step sizes and per-step batch norm go on with
            what they have for the last step of training.
        chunk: how many tasks are held in memory at a time.

    Raises:
        TypeError, ValueError: if the tensors of the batch do not fit each other.
    """
    return evaluate_ensemble([learner], tasks, steps=steps, chunk=chunk)


def evaluate_ensemble(
    learners: Sequence[Learner], tasks: TaskBatch, *, steps: int | None = None, chunk: int = 100
) -> Evaluation:
    """As ``evaluate``, with the mean of the outputs of several learners, each adapted on its own.

    The MAML++ authors' code averages the logits of its five best checkpoints in this way.

    Args:
        learners: at least one; all with the loss and the number of inner steps of the first.
        tasks: test tasks.
        steps: inner steps.
        chunk: how many tasks are held in memory at a time.

    Raises:
        TypeError, ValueError: without a learner, or if the tensors of the batch do not fit each other.
    """
    if not learners:
        raise ValueError("expected at least one learner, got none")
    for learner in learners:
        tasks = learner.expect_tasks(tasks)
    expect_at_least("chunk", chunk, 1)
    steps = learners[0].inner_steps if steps is None else steps
    losses, accuracies = [], []
    for first in range(0, tasks.num_tasks, chunk):
        part = tasks.select(slice(first, first + chunk))
        outputs = [learner.query_outputs(part, steps) for learner in learners]
        mean = torch.stack(outputs).mean(0) if len(outputs) > 1 else outputs[0]  # (steps + 1, chunk, query, *output)
        losses.append(torch.stack([learners[0].task_losses(values, part.query_y) for values in mean]))
        if not part.query_y.is_floating_point():
            accuracies.append((mean.argmax(-1) == part.query_y).double().mean(-1))  # (steps + 1, chunk)
    return Evaluation(torch.cat(losses, 1), torch.cat(accuracies, 1) if accuracies else None)
