"""The networks of the course. Any other ``nn.Module`` works too: nothing here is special to meta-learning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from mamlkit.validation import expect_at_least

__all__ = ["mlp"]


def mlp(sizes: Sequence[int] = (1, 40, 40, 1), *, seed: int | None = None) -> nn.Sequential:
    """Fully connected layers with ReLU between them; the default is the sinusoid network of Finn et al., 2017, section 5.1.

    Args:
        sizes: width of the input, of each hidden layer, and of the output.
        seed: for the initial weights; ``None`` takes them from torch's global generator.

    Raises:
        ValueError: with fewer than two sizes, or a size below 1.
    """
    if len(sizes) < 2:
        raise ValueError(f"expected at least an input and an output size, got {tuple(sizes)}")
    for size in sizes:
        expect_at_least("each size", size, 1)
    with seeded(seed):
        layers: list[nn.Module] = []
        for width, next_width in pairwise(sizes):
            layers += [nn.Linear(width, next_width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # no ReLU after the output


class seeded:
    """``with seeded(3): ...`` draws from seed 3 and leaves torch's global generator as it was; ``None`` changes nothing."""

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        if self.seed is not None:
            self.state = torch.random.get_rng_state()
            torch.random.default_generator.manual_seed(self.seed)

    def __exit__(self, *exception: object) -> None:
        if self.seed is not None:
            torch.random.set_rng_state(self.state)
