"""The networks of the course."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mamlkit


@given(sizes=st.lists(st.integers(1, 7), min_size=2, max_size=5), points=st.integers(1, 4))
def test_mlp_is_linear_layers_with_relu_between(sizes, points):
    model = mamlkit.mlp(sizes, seed=0)
    x = torch.randn((points, sizes[0]), generator=torch.Generator().manual_seed(0))
    linear = [module for module in model if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == list(pairwise(sizes))
    expected = x
    for number, layer in enumerate(linear):
        expected = expected @ layer.weight.T + layer.bias
        if number < len(linear) - 1:
            expected = expected.clamp(min=0)
    assert model(x).shape == (points, sizes[-1])
    assert torch.allclose(model(x), expected, atol=1e-6)


def test_the_default_is_the_network_of_the_paper():
    shapes = [tuple(p.shape) for p in mamlkit.mlp().parameters()]
    assert shapes == [(40, 1), (40,), (40, 40), (40,), (1, 40), (1,)]


def weights(seed):
    return torch.cat([parameter.flatten() for parameter in mamlkit.mlp(seed=seed).parameters()])


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone(same_rng):
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_without_a_seed_the_global_generator_decides():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = weights(None)
        second = weights(None)
        torch.manual_seed(1)
        assert torch.equal(weights(None), first) and not torch.equal(first, second)


def test_the_global_generator_is_restored_when_something_raises(same_rng):
    with pytest.raises(ValueError):
        mamlkit.mlp((1, 0), seed=3)
    from mamlkit.models import seeded

    with pytest.raises(RuntimeError, match="inside"), seeded(3):
        torch.rand(3)
        raise RuntimeError("inside")
