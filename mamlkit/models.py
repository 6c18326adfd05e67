"""The networks of the course. Any other ``nn.Module`` works too: nothing here is specific to meta-learning."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise

import torch
from torch import nn

from mamlkit.arguments import describe, expect_at_least, expect_one_of, expect_seed
from mamlkit.randomness import fixed_randomness

__all__ = ["Conv4", "conv4", "mlp"]


def mlp(sizes: Sequence[int] = (1, 40, 40, 1), *, seed: int | None = None) -> nn.Sequential:
    """Fully connected layers with ReLU between them; the default is the sinusoid network of Finn et al., 2017, section 5.1.

    Args:
        sizes: width of the input, of each hidden layer, and of the output.
        seed: for the initial weights; ``None`` takes them from torch's global generator.

    Raises:
        ValueError: with fewer than two sizes, or a size below 1.
    """
    if not isinstance(sizes, (list, tuple)):
        raise TypeError(f"expected sizes as a list of whole numbers, got {describe(sizes)}")
    if len(sizes) < 2:
        raise ValueError(f"expected at least an input and an output size, got {tuple(sizes)}")
    for size in sizes:
        expect_at_least("each size", size, 1)
    with seeded(seed):
        layers: list[nn.Module] = []
        for width, next_width in pairwise(sizes):
            layers += [nn.Linear(width, next_width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # no ReLU after the output


class Conv4(nn.Sequential):
    """What ``conv4`` makes: layers in sequence, under a name by which engines recognise them."""


def conv4(
    ways: int,
    *,
    channels: int = 1,
    image_size: int = 28,
    filters: int = 64,
    downsample: str = "pool",
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int | None = None,
) -> nn.Sequential:
    """Four convolutions of 3 x 3 with batch norm, and a linear layer: the network of the few-shot papers.

    Finn et al., 2017, section 5.2 (Omniglot): ``downsample="stride"``, ReLU, and the mean over the last 2 x 2 map.
    Antoniou et al., 2019, section 5: ``downsample="pool"``, ``activation="leaky_relu"``. Weights start as in both codes: Xavier's
    uniform distribution, and zero for biases. The convolutions have no bias, which batch norm would cancel exactly.

    Args:
        ways: N, the number of classes of a task; inputs are ``(points, channels, image_size, image_size)``, outputs
            ``(points, ways)``.
        channels: of the input images.
        image_size: height and width of the input images in pixels, at least 16.
        filters: of each convolution.
        downsample: halve each map by a ``"stride"`` of 2 or by a max-``"pool"`` of 2.
        activation: ``"relu"`` or ``"leaky_relu"`` (slope 0.01).
        dropout: the share of values dropped after each block; 0 for no dropout layer.
        seed: for the initial weights; ``None`` takes them from torch's global generator.

    Raises:
        ValueError: for a number or a word out of range.
    """
    expect_at_least("ways", ways, 2)
    expect_at_least("channels", channels, 1)
    expect_at_least("image_size", image_size, 16)
    expect_at_least("filters", filters, 1)
    expect_one_of("downsample", downsample, ("pool", "stride"))
    expect_one_of("activation", activation, ("relu", "leaky_relu"))
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ValueError(f"expected 0 <= dropout < 1, got {dropout!r}")
    strided = downsample == "stride"
    layers: list[nn.Module] = []
    size = image_size
    with seeded(seed):
        for depth in range(4):
            inputs = channels if depth == 0 else filters
            # No bias: batch norm subtracts it again, and Adam would walk on the rounding errors of its zero gradient.
            layers.append(nn.Conv2d(inputs, filters, 3, stride=2 if strided else 1, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(filters))
            layers.append(nn.ReLU() if activation == "relu" else nn.LeakyReLU())
            if not strided:
                layers.append(nn.MaxPool2d(2))
            if dropout:
                layers.append(nn.Dropout(dropout))
            size = (size + 1) // 2 if strided else size // 2
        if strided:
            layers.append(nn.AdaptiveAvgPool2d(1))  # the mean over the map, (points, filters, 1, 1)
            size = 1
        layers += [nn.Flatten(), nn.Linear(filters * size * size, ways)]
        for layer in layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(layer.weight)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
    return Conv4(*layers)


def seeded(seed: int | None) -> AbstractContextManager[None]:
    """``with seeded(3): ...`` draws from seed 3 and leaves torch's global generator as it was; ``None`` changes nothing."""
    if seed is not None:
        expect_seed("seed", seed)
    return fixed_randomness(seed, torch.device("cpu"))
