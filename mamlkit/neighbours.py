"""The baseline that learns nothing: the answer for a query point is the label of the support point that lies nearest.

(Vinyals et al., 2016, arXiv:1606.04080, table 1, has it on pixels.) A learner that does not beat it has learnt nothing that the
inputs do not say by themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

from mamlkit.arguments import describe, expect_same_tasks
from mamlkit.tasks import TaskBatch

__all__ = ["nearest_neighbour"]


def nearest_neighbour(
    tasks: TaskBatch, *, features: Callable[[Tensor], Tensor] | None = None
) -> Shaped[Tensor, "tasks query"]:
    """The label of the support point nearest to each query point, by Euclidean distance; of equally near ones the first.

    Args:
        tasks: inputs ``(tasks, points, *input)``, class numbers ``(tasks, points)``.
        features: of inputs ``(points, *input)``, gives ``(points, *features)``, what distance is measured in; the inputs
            themselves when not given.

    Returns:
        Class numbers ``(tasks, query)``, to be compared with ``tasks.query_y``.

    Raises:
        TypeError, ValueError: if the tensors do not fit each other, or targets are not class numbers.
    """
    expect_same_tasks(tasks)
    if features is not None and (isinstance(features, type) or not callable(features)):
        raise TypeError(f"expected features to be a function of inputs, got {describe(features)}")
    support_x, support_y, query_x, _ = tasks
    if not (isinstance(support_x, Tensor) and isinstance(support_y, Tensor) and isinstance(query_x, Tensor)):
        raise TypeError(f"expected one tensor of inputs and one of targets, got {describe(support_x)}")
    if support_y.ndim != 2 or support_y.is_floating_point():
        raise ValueError(
            f"expected class numbers (tasks, support), got {support_y.dtype} of shape {tuple(support_y.shape)}"
        )
    answers = []
    with torch.no_grad():
        for x, labels, query in zip(support_x, support_y, query_x, strict=True):
            near, far = (part if features is None else features(part) for part in (query, x))
            lengths = torch.cdist(near.flatten(1), far.flatten(1))  # (query, support)
            answers.append(labels[lengths.argmin(1)])  # (query,)
    return torch.stack(answers)  # (tasks, query)
