"""One object with model, learner and optimiser: the shortest way to meta-train a model of your own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from mamlkit.algorithms import ALGORITHMS
from mamlkit.arguments import (
    describe,
    expect_at_least,
    expect_kind,
    expect_one_of,
    expect_rate,
    expect_switch,
    tensors_of_tasks,
)
from mamlkit.evaluation import Evaluation, evaluate
from mamlkit.functional import Parameters, unchanged_on_error
from mamlkit.inner_loop import Loss
from mamlkit.learners import Learner, Switches
from mamlkit.step_sizes import LearnedStepSizes
from mamlkit.tasks import TaskBatch, TaskList, Tasks, listed
from mamlkit.trees import Several, Tree

__all__ = ["ModelAgnosticMetaLearning", "evaluate_maml", "expect_system", "train_maml"]

Batch = Tensor | Sequence[Tree] | Mapping[str, Tree]


class ModelAgnosticMetaLearning:
    """MAML and its relatives around any classifier or regressor (Finn et al., 2017, arXiv:1703.03400).

        system = ModelAgnosticMetaLearning(model, inner_lr=0.01, outer_lr=0.001, inner_steps=5, plus_plus=True)
        loss = system.meta_train_step(support_data, support_labels, query_data, query_labels)

    Args:
        model: any ``nn.Module``.
        inner_lr: alpha, the step size of adaptation, or what learned step sizes start from.
        outer_lr: beta, the learning rate of the meta-optimiser (Adam).
        inner_steps: K.
        plus_plus: MAML++ instead of MAML (Antoniou et al., 2019, arXiv:1810.09502).
        algorithm: a name in ``mamlkit.algorithms.ALGORITHMS``, such as ``"anil"`` or ``"meta-sgd"``, but not ``"maml++"``: that
            is ``plus_plus``, which only goes with ``"maml"``.
        loss: of outputs and targets, averaged over points; cross-entropy when not given.
        mixed_precision: run the model in bfloat16 where torch deems it safe.
        switches: anything else that the algorithm or ``Learner`` takes, by name: ``step_sizes``, ``dropout``, ...

    Attributes:
        learner: the ``Learner`` inside.
        meta_optimizer: the ``torch.optim.Adam`` over its meta-parameters, learned step sizes included.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """

    def __init__(
        self,
        model: nn.Module,
        inner_lr: float = 0.01,
        outer_lr: float = 0.001,
        inner_steps: int = 5,
        plus_plus: bool = False,
        *,
        algorithm: str = "maml",
        loss: Loss = F.cross_entropy,
        mixed_precision: bool = False,
        **switches: Any,
    ) -> None:
        expect_one_of("algorithm", algorithm, [name for name in ALGORITHMS if name != "maml++"])
        if expect_switch("plus_plus", plus_plus) and algorithm != "maml":
            raise ValueError(f"expected algorithm='maml' with plus_plus=True, got {algorithm!r}")
        expect_rate("outer_lr", outer_lr)
        expect_switch("mixed_precision", mixed_precision)
        make = ALGORITHMS["maml++" if plus_plus else algorithm]
        taken = {*inspect.signature(make).parameters, *Switches.__annotations__} - {"model", "switches", "autocast"}
        if unknown := [name for name in switches if name not in taken]:
            raise TypeError(f"expected switches out of {', '.join(sorted(taken))}, got {unknown[0]!r}")
        autocast = torch.bfloat16 if mixed_precision else None
        self.learner: Learner = make(
            model, inner_steps=inner_steps, inner_lr=inner_lr, loss=loss, autocast=autocast, **switches
        )
        self.meta_optimizer = torch.optim.Adam(self.learner.meta_parameters().values(), lr=outer_lr)

    @property
    def alpha(self) -> Mapping[str, Tensor | float]:
        """The step sizes as they are now, learned or fixed, by parameter name."""
        sizes = self.learner.step_sizes
        return sizes.alpha if isinstance(sizes, LearnedStepSizes) else dict(sizes(0))

    def meta_train_step(
        self, support_data: Batch, support_labels: Batch, query_data: Batch, query_labels: Batch
    ) -> float:
        """One step of the outer loop on a meta-batch.

        Annealed parts of MAML++ count in epochs: ``train_maml`` moves them on; with a loop of your own set
        ``system.learner.epoch``. Each argument is a tensor with a leading task axis or a list with one tensor per task; in lists
        tasks may differ in size, and each weighs the same. Where a model has several inputs, it is a dict of such tensors, or a
        list with a tuple or dict per task: see ``mamlkit.trees``.

        Args:
            support_data: ``(tasks, support, *input)``, floating point.
            support_labels: ``(tasks, support)`` class numbers, or ``(tasks, support, *output)`` values.
            query_data: ``(tasks, query, *input)``.
            query_labels: as ``support_labels``.

        Returns:
            The meta-loss before the step, the mean over the tasks of the query loss after the last inner step, or, with the
            multi-step loss of MAML++, of the weighted query losses after each.

        Raises:
            ValueError: if the meta-loss or the meta-gradient is not finite; parameters and buffers are as they were.
        """
        names = ("support_data", "support_labels", "query_data", "query_labels")
        given = dict(zip(names, (support_data, support_labels, query_data, query_labels), strict=True))
        parts = tensors_of_tasks(given)
        return self._step(TaskList.of(*parts) if isinstance(parts[0], list) else TaskBatch(*parts))

    def _step(self, tasks: Tasks) -> float:
        self.meta_optimizer.zero_grad()
        with unchanged_on_error(self.learner):  # before the step, so that the parameters are as they were
            loss = self.learner.meta_backward(tasks)
            gradients = {name: p.grad for name, p in self.learner.meta_parameters().items() if p.grad is not None}
            norm = torch.nn.utils.get_total_norm(list(gradients.values())).item()
            if not (math.isfinite(value := loss.item()) and math.isfinite(norm)):
                self.meta_optimizer.zero_grad()
                what = f"a finite meta-loss, got {value}"
                if math.isfinite(value):
                    odd = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
                    what = (
                        f"a finite meta-gradient, got {norm} in {', '.join(odd[:3])} where the meta-loss is {value:g}"
                    )
                raise ValueError(f"expected {what}: look for NaN in the data, or lower inner_lr")
        self.meta_optimizer.step()
        return value

    def inner_update(
        self, support: Float[Tensor, "support *input"] | Several, labels: Shaped[Tensor, "support *output"] | Several
    ) -> Parameters:
        """The parameters adapted to one task, by name, with the step sizes as learned.

        Args:
            support: ``(support, *input)``.
            labels: ``(support,)`` class numbers, or ``(support, *output)`` values.
        """
        return self.learner.adapt(support, labels)[-1]

    def forward_with_weights(self, x: Float[Tensor, "points *input"] | Several, weights: Parameters) -> Tree:
        """The outputs ``(points, *output)`` of the model for ``x`` ``(points, *input)`` when it has these parameters."""
        return self.learner.predict(x, weights)


def train_maml(
    system: ModelAgnosticMetaLearning,
    batches: Iterable[Tasks],
    steps: int,
    *,
    steps_per_epoch: int = 500,
    progress: bool = False,
) -> list[float]:
    """Meta-train for a number of outer steps. For validation, checkpoints and schedules, use ``mamlkit.fit``.

    Args:
        system: what to train, in place.
        batches: meta-batches, for instance a ``TaskStream``; at least ``steps`` of them.
        steps: outer steps.
        steps_per_epoch: outer steps per epoch; annealed parts of MAML++ count in epochs.
        progress: show a bar, on the error stream.

    Returns:
        The meta-loss of each outer step, for ``mamlkit.plots.plot_learning_curve``.

    Raises:
        ValueError: if ``steps`` is below 1, or the batches end early.
    """
    expect_at_least("steps", steps, 1)
    expect_at_least("steps_per_epoch", steps_per_epoch, 1)
    losses: list[float] = []
    expect_system(system)
    expect_kind("batches", batches, (Iterable,))
    if isinstance(batches, TaskBatch):
        raise TypeError("expected meta-batches one after the other, such as a TaskStream or a list, got one TaskBatch")
    source = iter(batches)
    for step in tqdm(range(steps), disable=not progress, unit="step"):
        tasks = next(source, None)
        if tasks is None:
            raise ValueError(f"expected {steps} meta-batches, got {step}")
        # Counted over all calls: a second one goes on where the first ended.
        system.learner.epoch = system.learner.meta_steps // steps_per_epoch
        tasks = listed(tasks)
        if not isinstance(tasks, TaskList) and (not isinstance(tasks, (list, tuple)) or len(tasks) != 4):
            raise TypeError(f"expected meta-batches as TaskBatch, got {describe(tasks)}")
        losses.append(system._step(tasks) if isinstance(tasks, TaskList) else system.meta_train_step(*tasks))
    return losses


def evaluate_maml(system: ModelAgnosticMetaLearning, tasks: Tasks, *, steps: int | None = None) -> Evaluation:
    """Accuracy and loss before and after adaptation, with the step sizes as learned.

    ``result.accuracy(0)`` is before, ``result.accuracy()`` after, ``result.gain`` the difference, ``result.share_above(0.8)`` the
    share of tasks above 80 %; ``mamlkit.plots.plot_adaptation({"MAML": result})`` draws it.
    """
    return evaluate(expect_system(system).learner, tasks, steps=steps)


def expect_system(system: ModelAgnosticMetaLearning) -> ModelAgnosticMetaLearning:
    """The facade, not the learner inside."""
    return expect_kind("system", system, ModelAgnosticMetaLearning, "; for a learner take fit and evaluate")
