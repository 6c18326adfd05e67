"""This process among those that ``torchrun`` started, and what they exchange after each meta-gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from mamlkit.functional import batch_norm_layers
from mamlkit.learners import Learner

__all__ = ["Processes"]


class Processes:
    """This process among others; without ``torchrun``, the only one.

    Attributes:
        rank: the number of this process.
        count: how many there are.
    """

    def __init__(self) -> None:
        self.several = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if self.several else 0
        self.count = dist.get_world_size() if self.several else 1

    def average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message."""
        if self.several and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, mean in zip(tensors, (flat / self.count).split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def follow_the_last(self, tensors: list[Tensor]) -> None:
        """Take each tensor from the process whose tasks are the last of the meta-batch, as a single process would."""
        if self.several:
            for tensor in tensors:
                dist.broadcast(tensor, self.count - 1)

    @contextmanager
    def one_after_the_other(self, learner: Learner) -> Iterator[None]:
        """Running statistics of batch norm after a meta-batch, as if one process had added all tasks in their order.

        Each pass replaces r by ``(1 - m) r + m s``. So process p, whose t passes began with r, ends with ``d r + S_p`` where
        ``d = (1 - m)^t``, and all P processes in a row would have ended with ``d^P r + sum_p d^(P - 1 - p) S_p``. (A layer with
        momentum ``None`` keeps the mean of the n passes so far: ``d = n / (n + t)``, and the sums of all processes add up.)
        """
        collected = _collected(learner) if self.several and learner.query_statistics == "running" else []
        before = [
            ([value.to(torch.float64, copy=True) for value in values], int(passes)) for _, values, passes in collected
        ]
        yield
        parts, kept = [], []
        for (momentum, values, passes), (start, first) in zip(collected, before, strict=True):
            new = int(passes) - first
            count = new // (len(values) // 2)  # passes of each inner step that has a mean and a variance of its own
            if momentum is None:
                decay, last = first / max(1, first + new), first / max(1, first + new * self.count)
                share = (first + new) / max(1, first + new * self.count)
            else:
                decay = (1 - momentum) ** count
                share, last = decay ** (self.count - 1 - self.rank), decay**self.count
            parts += [share * (value.double() - decay * r) for value, r in zip(values, start, strict=True)]
            kept += [last * r for r in start]
            passes.add_(new * (self.count - 1))
        if not parts:
            return
        flat = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(flat)
        values = [value for _, own, _ in collected for value in own]
        for value, rest, total in zip(values, kept, flat.split([part.numel() for part in parts]), strict=True):
            value.copy_(rest + total.view_as(rest))


def _collected(learner: Learner) -> list[tuple[float | None, list[Tensor], Tensor]]:
    """For each batch-norm layer that collects: its momentum, means and variances of each inner step, and its count of passes."""
    found = []
    for name, layer in batch_norm_layers(learner.model).items():
        if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
            continue
        values = [layer.running_mean, layer.running_var]
        if learner.batch_norm is not None and learner.batch_norm.has_statistics:
            each = [learner.batch_norm.statistics(step) for step in range(learner.inner_steps)]
            values = [rows[f"{name}.{part}"] for rows in each for part in ("running_mean", "running_var")]
        found.append((layer.momentum, values, layer.num_batches_tracked))
    return found
