"""The meta-steps that are measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mamlkit.data.sinusoids import Sinusoids
from mamlkit.models import conv4, mlp
from mamlkit.tasks import TaskBatch

__all__ = ["WORKLOADS", "Workload"]


@dataclass(frozen=True)
class Workload:
    """One meta-step.

    Attributes:
        about: what it is, in words.
        tasks: how many the meta-batch has.
        ways: N; 0 for sinusoids.
        shots: support points per class.
        queries: query points per class.
        filters: of each convolution.
        size: height and width of the images.
        channels: of the images.
        downsample: see ``mamlkit.conv4``.
        inner_lr: alpha.
        inner_steps: K.
        seed: of the weights and the images.
    """

    about: str
    tasks: int
    ways: int
    shots: int
    queries: int
    filters: int = 64
    size: int = 28
    channels: int = 1
    downsample: str = "pool"
    inner_lr: float = 0.1
    inner_steps: int = 5
    seed: int = 0

    def model(self) -> nn.Module:
        """The network."""
        if not self.ways:
            return mlp(seed=self.seed)
        return conv4(
            self.ways,
            channels=self.channels,
            image_size=self.size,
            filters=self.filters,
            downsample=self.downsample,
            seed=self.seed,
        )

    def batch(self, dtype: torch.dtype) -> TaskBatch:
        """The tasks: sinusoids, or noise around one picture per class."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        if not self.ways:
            drawn = Sinusoids(self.shots, self.queries).sample(self.tasks, generator)
            return TaskBatch(*(tensor.to(dtype) for tensor in drawn))
        shape = self.tasks, self.ways, 1, self.channels, self.size, self.size
        pictures = torch.randn(shape, generator=generator)

        def points(each: int) -> tuple[Tensor, Tensor]:
            noise = torch.randn((*shape[:2], each, *shape[3:]), generator=generator)
            labels = torch.arange(self.ways).repeat_interleave(each).repeat(self.tasks, 1)
            return (pictures + noise).flatten(1, 2).to(dtype), labels

        return TaskBatch(*points(self.shots), *points(self.queries))


WORKLOADS = {
    "W1": Workload("sinusoids, 1-40-40-1, 25 tasks, 10 + 10 points", 25, 0, 10, 10, inner_lr=0.01),
    "W2": Workload("Omniglot's shape, 5-way 1-shot, 16 tasks, 75 query images", 16, 5, 1, 15),
    "W3": Workload("Omniglot's shape, 20-way 1-shot, 8 tasks, 100 query images", 8, 20, 1, 5),
    "W4": Workload("Mini-ImageNet's shape, 5-way 5-shot, 2 tasks", 2, 5, 5, 15, 32, 84, 3, inner_lr=0.01),
    "W5": Workload("strided network, 5-way 1-shot, 8 tasks, 5 query images", 8, 5, 1, 1, downsample="stride"),
    "W6": Workload("what MAML++ trains on Omniglot with, 5-way 1-shot, 8 tasks, 5 query images", 8, 5, 1, 1),
    "W7": Workload(
        "the same for MAML as its authors train it: one inner step, 25 query images",
        8,
        5,
        1,
        5,
        inner_lr=0.4,
        inner_steps=1,
    ),
}
