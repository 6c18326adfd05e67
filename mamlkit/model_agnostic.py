"""One object that holds model, learner and optimiser: the shortest way to meta-train a model of your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.functional import Parameters
from mamlkit.inner_loop import Loss
from mamlkit.learners import Learner, fomaml, maml
from mamlkit.tasks import TaskBatch
from mamlkit.validation import expect_one_of, expect_rate, stack_tasks

__all__ = ["ModelAgnosticMetaLearning"]

Batch = Tensor | Sequence[Tensor]


class ModelAgnosticMetaLearning:
    """MAML and its relatives around any classifier or regressor (Finn et al., 2017, arXiv:1703.03400).

        system = ModelAgnosticMetaLearning(model, inner_lr=0.01, outer_lr=0.001, inner_steps=5)
        loss = system.meta_train_step(support_data, support_labels, query_data, query_labels)

    Args:
        model: any ``nn.Module``.
        inner_lr: alpha, the step size of adaptation.
        outer_lr: beta, the learning rate of the meta-optimiser (Adam).
        inner_steps: K.
        algorithm: ``"maml"`` or ``"fomaml"``.
        loss: of outputs and targets, averaged over points; cross-entropy when not given.

    Attributes:
        learner: the ``Learner`` inside.
        meta_optimizer: the ``torch.optim.Adam`` over its meta-parameters.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """

    def __init__(
        self,
        model: nn.Module,
        inner_lr: float = 0.01,
        outer_lr: float = 0.001,
        inner_steps: int = 5,
        *,
        algorithm: str = "maml",
        loss: Loss = F.cross_entropy,
    ) -> None:
        expect_one_of("algorithm", algorithm, tuple(_ALGORITHMS))
        expect_rate("outer_lr", outer_lr)
        self.learner: Learner = _ALGORITHMS[algorithm](model, inner_steps=inner_steps, inner_lr=inner_lr, loss=loss)
        self.meta_optimizer = torch.optim.Adam(self.learner.parameters(), lr=outer_lr)

    def meta_train_step(
        self, support_data: Batch, support_labels: Batch, query_data: Batch, query_labels: Batch
    ) -> float:
        """One step of the outer loop on a meta-batch.

        Each argument is a tensor with a leading task axis or a list with one tensor a task.

        Args:
            support_data: ``(tasks, support, *input)``, floating point.
            support_labels: ``(tasks, support)`` class numbers, or ``(tasks, support, *output)`` values.
            query_data: ``(tasks, query, *input)``.
            query_labels: as ``support_labels``.

        Returns:
            The meta-loss before the step: the mean over tasks of the query loss after the last inner step.
        """
        tasks = TaskBatch(
            stack_tasks("support_data", support_data),
            stack_tasks("support_labels", support_labels),
            stack_tasks("query_data", query_data),
            stack_tasks("query_labels", query_labels),
        )
        self.meta_optimizer.zero_grad()
        loss = self.learner.meta_backward(tasks)
        self.meta_optimizer.step()
        return loss.item()

    def inner_update(self, support: Tensor, labels: Tensor) -> Parameters:
        """The parameters adapted to one task, by name; ``support`` is ``(support, *input)``."""
        return self.learner.adapt(support, labels)[-1]

    def forward_with_weights(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """The outputs of the model for ``x`` ``(points, *input)`` when it has these parameters."""
        return self.learner.predict(x, weights)


_ALGORITHMS = {"maml": maml, "fomaml": fomaml}
