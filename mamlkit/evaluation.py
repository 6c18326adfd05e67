"""How good is a learner on tasks that it has never seen? A mean over tasks, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from mamlkit.arguments import describe, expect_at_least, expect_function, expect_kind, expect_switch
from mamlkit.inner_loop import Loss
from mamlkit.learners import Learner
from mamlkit.tasks import Tasks
from mamlkit.trees import Tree, each, joined, leaves

__all__ = ["Evaluation", "Interval", "evaluate", "evaluate_ensemble", "expect_learner", "interval"]


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
        losses: mean over the query points of each task, ``(steps + 1, tasks)``.
        accuracies: ``(steps + 1, tasks)`` as fractions, or ``None`` if targets are not classes: if outputs are not
            ``(points, classes, ...)`` with class numbers ``(points, ...)``, or come in a tuple or dict. Ignored labels are left
            out; a task with no other labels has NaN.
        scores: ``(steps + 1, tasks)`` of the ``metric``, or ``None`` if none was given.
    """

    losses: Tensor
    accuracies: Tensor | None
    scores: Tensor | None = None

    def loss(self, step: int = -1) -> Interval:
        """Mean query loss after ``step`` steps (the last one when not given)."""
        return interval(_at(self.losses, step))

    def accuracy(self, step: int = -1) -> Interval:
        """Mean query accuracy after ``step`` steps, a fraction."""
        return interval(_known(_at(self._accuracies(), step)))

    def score(self, step: int = -1) -> Interval:
        """Mean of the metric that was given, after ``step`` steps."""
        if self.scores is None:
            raise ValueError("expected an evaluation with metric=..., got one without")
        return interval(_at(self.scores, step))

    @property
    def gain(self) -> Interval:
        """Accuracy after the last step minus accuracy before adaptation, task by task."""
        return interval(_known(self._accuracies()[-1] - self._accuracies()[0]))

    def share_above(self, accuracy: float) -> float:
        """The share of tasks whose accuracy after the last step is above this fraction."""
        if not (isinstance(accuracy, (int, float)) and 0 <= accuracy <= 1):
            raise ValueError(f"expected an accuracy as a fraction from 0 to 1, got {accuracy!r}")
        return (_known(self._accuracies()[-1]) > accuracy).double().mean().item()

    def to_json(self) -> dict[str, Any]:
        """Per-task values and their summary, as plain lists and numbers."""
        record: dict[str, Any] = {"tasks": self.losses.shape[1], "losses": self.losses.tolist()}
        record["loss"], record["loss_ci95"] = self.loss().mean, self.loss().half_width
        if self.accuracies is not None:
            record["accuracies"] = self.accuracies.tolist()
            record["accuracy"], record["accuracy_ci95"] = self.accuracy().mean, self.accuracy().half_width
        if self.scores is not None:
            record["scores"] = self.scores.tolist()
            record["score"], record["score_ci95"] = self.score().mean, self.score().half_width
        return record

    def _accuracies(self) -> Tensor:
        if self.accuracies is None:
            raise ValueError(
                "expected outputs (points, classes) and class numbers (points,) for an accuracy, "
                "got other or real-valued targets: use loss(), or metric="
            )
        return self.accuracies


def expect_learner(learner: Learner) -> Learner:
    """A learner, as an algorithm makes it: neither the model nor the facade."""
    inside = getattr(learner, "learner", None)
    hint = ": pass its learner" if isinstance(inside, Learner) else "; maml(model), for instance, makes one"
    return expect_kind("learner", learner, Learner, hint)


def _at(values: Tensor, step: int) -> Tensor:
    """The row of an inner step; negative ones count from the end."""
    last = len(values) - 1
    if isinstance(step, bool) or not isinstance(step, int) or not -last - 1 <= step <= last:
        raise ValueError(f"expected an inner step from 0 to {last}, got {step!r}")
    return values[step]


def _known(accuracies: Tensor) -> Tensor:
    """The accuracies of tasks that have a label."""
    return accuracies if accuracies.is_meta else accuracies[~accuracies.isnan()]


def interval(values: Shaped[Tensor, " tasks"]) -> Interval:
    """Mean and 95 % interval over tasks: 1.96 sample standard deviations divided by the root of the number of tasks.

    The spread is over *tasks*, each with its own average over query points, as in Finn et al., 2017, table 1.

    Args:
        values: ``(tasks,)``, one number per task.

    Raises:
        ValueError: with fewer than two tasks, which have no spread.
    """
    if not isinstance(values, Tensor):
        raise TypeError(f"expected a tensor with one value for each task, got {type(values).__name__}")
    if values.is_complex():
        raise TypeError(f"expected real values, got {values.dtype}")
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"expected one value for each of at least two tasks, got shape {tuple(values.shape)}")
    wide = values.double()
    return Interval(wide.mean().item(), 1.96 * wide.std().item() / math.sqrt(len(values)), len(values))


def evaluate(
    learner: Learner,
    tasks: Tasks,
    *,
    steps: int | None = None,
    chunk: int = 100,
    metric: Loss | None = None,
    progress: bool = False,
) -> Evaluation:
    """Adapt to each task's support set and measure on its query set, before adaptation and after each step.

    Args:
        learner: what to evaluate; it is not changed.
        tasks: test tasks, 600 of them in most papers. Tasks of unequal sizes are a list of batches, ``TaskList``.
        steps: inner steps; as many as in training when not given. In further steps, learned step sizes and per-step batch norm
            take what they have for the last step of training.
        chunk: how many tasks are held in memory at a time.
        metric: of the outputs ``(query, *output)`` and targets of a task, one number; see ``Evaluation.score``. Outputs in a
            tuple or dict have no accuracy of their own: give it here.
        progress: show a bar that counts tasks, a chunk at a time, on the error stream.

    Raises:
        TypeError, ValueError: if the tensors of the batch do not fit each other.
    """
    return evaluate_ensemble([learner], tasks, steps=steps, chunk=chunk, metric=metric, progress=progress)


def evaluate_ensemble(
    learners: Sequence[Learner],
    tasks: Tasks,
    *,
    steps: int | None = None,
    chunk: int = 100,
    metric: Loss | None = None,
    progress: bool = False,
) -> Evaluation:
    """As ``evaluate``, with the mean of the outputs of several learners, each adapted on its own.

    The MAML++ authors' code averages the logits of its five best checkpoints in this way.

    Args:
        learners: at least one; all with the loss and the number of inner steps of the first.
        tasks: test tasks.
        steps: as in ``evaluate``.
        chunk: how many tasks are held in memory at a time.
        metric: as in ``evaluate``.
        progress: as in ``evaluate``.

    Raises:
        TypeError, ValueError: without a learner, or if the tensors of the batch do not fit each other.
    """
    if not isinstance(learners, (list, tuple)) or not learners:
        raise ValueError(f"expected at least one learner in a list, got {describe(learners) if learners else 'none'}")
    for learner in learners:
        expect_learner(learner)
        batches = learner.expect_batches(tasks)
    expect_at_least("chunk", chunk, 1)
    expect_switch("progress", progress)
    steps = learners[0].inner_steps if steps is None else expect_at_least("steps", steps, 1)
    if metric is not None:
        expect_function("metric", metric, "outputs and targets")
    losses, accuracies, scores = [], [], []
    starts = [(batch, first) for batch in batches for first in range(0, batch.num_tasks, chunk)]
    with tqdm(total=sum(batch.num_tasks for batch in batches), disable=not progress, unit="task") as bar:
        for batch, first in starts:
            part = batch.select(slice(first, first + chunk))
            outputs = [learner.query_outputs(part, steps) for learner in learners]
            if len(shapes := {_shapes(values) for values in outputs}) > 1:
                raise ValueError(f"expected learners with outputs of one shape, got {', '.join(sorted(shapes))}")
            mean = joined(_mean, outputs) if len(outputs) > 1 else outputs[0]  # (steps + 1, chunk, query, *output)
            losses.append(torch.stack([learners[0].task_losses(values, part.query_y) for values in each(mean)]))
            accuracies.append(_accuracies(learners[0].loss, mean, part.query_y))
            if metric is not None:
                rows = [
                    [_score(metric, *pair) for pair in zip(each(values), each(part.query_y), strict=True)]
                    for values in each(mean)
                ]
                scores.append(torch.tensor(rows, dtype=torch.float64))  # (steps + 1, chunk)
            bar.update(part.num_tasks)
    known = [values for values in accuracies if values is not None]
    return Evaluation(
        torch.cat(losses, 1),
        torch.cat(known, 1) if len(known) == len(accuracies) else None,
        torch.cat(scores, 1) if scores else None,
    )


def _shapes(outputs: Tree) -> str:
    """The shape of a tensor, or of several, by name if they have names."""
    if isinstance(outputs, Mapping):
        named = [f"{name!r}: {_shapes(outputs[name])}" for name in sorted(outputs, key=str) if leaves(outputs[name])]
        return f"{{{', '.join(named)}}}"
    shapes = ", ".join(str(tuple(value.shape)) for value in leaves(outputs))
    return shapes if isinstance(outputs, Tensor) else f"{type(outputs).__name__} of {shapes}"


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)


def _accuracies(loss: Loss, outputs: Tree, targets: Tree) -> Tensor | None:
    """Accuracies ``(steps + 1, tasks)`` of outputs ``(steps + 1, tasks, query, classes, ...)``; ``None`` without classes."""
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return None
    shape, given = tuple(outputs.shape[2:]), tuple(targets.shape[1:])
    if targets.is_floating_point() or targets.is_complex() or len(shape) < 2 or given != shape[:1] + shape[2:]:
        return None
    for_classes = loss is F.cross_entropy or isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)) or loss is F.nll_loss
    if shape[1] < 2 or (
        len(shape) > 2 and given == shape[:-1] and not for_classes
    ):  # classes on the last axis, perhaps
        return None
    counts = targets != getattr(loss, "ignore_index", -100)  # (tasks, query, ...)
    outside = counts & ((targets < 0) | (targets >= shape[1]))
    if not targets.is_meta and outside.any():
        return None  # counts or ratings
    right = (outputs.argmax(3) == targets) & counts  # (steps + 1, tasks, query, ...)
    return right.flatten(2).sum(2, dtype=torch.float64) / counts.flatten(1).sum(1)  # 0 / 0 is NaN


def _score(metric: Loss, outputs: Tree, targets: Tree) -> float:
    value = metric(outputs, targets)
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()  # type: ignore[assignment]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected metric to give one number, got {describe(value)}")
    return float(value)
