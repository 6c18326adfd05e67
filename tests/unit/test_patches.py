"""Unfolding and the product, against torch's own convolution, and their derivatives against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from mamlkit.patches import folded, product, unfolded

TASKS, POINTS, CHANNELS, FILTERS = 2, 3, 2, 3


def draw(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 6), (5, 7), (2, 1)])
def test_patches_times_kernel_is_a_convolution(size, stride, layout):
    x = draw(POINTS, TASKS * CHANNELS, *size).contiguous(memory_format=layout)
    kernel = draw(TASKS, FILTERS, CHANNELS, 3, 3)
    truth = F.conv2d(x, kernel.flatten(0, 1), stride=stride, padding=1, groups=TASKS)
    c = product(unfolded(x, TASKS, stride), kernel.permute(0, 1, 3, 4, 2).flatten(2))
    maps = c.unflatten(1, (POINTS, *truth.shape[2:])).permute(1, 0, 4, 2, 3).flatten(1, 2)
    torch.testing.assert_close(maps, truth)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 6), (5, 7), (2, 1)])
def test_folding_is_the_transpose(size, stride):
    x = draw(POINTS, TASKS * CHANNELS, *size)
    patches = unfolded(x, TASKS, stride)
    other = draw(*patches.shape)
    back = folded(other, x.shape, TASKS, stride)
    assert back.is_contiguous(memory_format=torch.channels_last) or back.is_contiguous()
    torch.testing.assert_close((patches * other).sum(), (x * back).sum())


@pytest.mark.parametrize("stride", [1, 2])
def test_derivatives_of_unfolding(stride):
    x = draw(2, TASKS * CHANNELS, 4, 3)
    assert gradcheck(lambda x: unfolded(x, TASKS, stride) ** 2, x)
    assert gradgradcheck(lambda x: unfolded(x, TASKS, stride) ** 2, x)


def test_derivatives_of_the_product():
    rows, kernel = draw(TASKS, 4, 5), draw(TASKS, 3, 5)
    assert gradcheck(product, (rows, kernel))
    assert gradgradcheck(product, (rows, kernel))
    (slope,) = torch.autograd.grad(product(rows, kernel).square().sum(), kernel, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), kernel, create_graph=True)
    assert gradcheck(lambda k: torch.autograd.grad(_slope(rows, k).square().sum(), k, create_graph=True)[0], kernel)
    assert curvature.requires_grad


def _slope(rows, kernel):
    return torch.autograd.grad(product(rows, kernel).square().sum(), kernel, create_graph=True)[0]
