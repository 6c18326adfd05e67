"""The strided convolution by patches, against torch's own, and its derivatives against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from mamlkit.engines.conv4.strided import strided_convolution

GROUPS, POINTS = 2, 3


def draw(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", [(6, 6), (5, 7), (2, 1)])
@pytest.mark.parametrize(("inputs", "filters"), [(1, 12), (2, 3)])  # a thin matrix of patches, and a wide one
def test_is_a_convolution_with_its_derivatives(inputs, filters, size, layout):
    x = draw(POINTS, GROUPS * inputs, *size).detach().contiguous(memory_format=layout).requires_grad_()
    kernel = draw(GROUPS * filters, inputs, 3, 3).detach().contiguous(memory_format=layout).requires_grad_()
    truth = F.conv2d(x, kernel, stride=2, padding=1, groups=GROUPS)
    c = strided_convolution(x, kernel, GROUPS)
    torch.testing.assert_close(c, truth)
    assert c.is_contiguous(memory_format=torch.channels_last)

    def slopes(c):
        first = torch.autograd.grad(c.sin().sum(), (x, kernel), create_graph=True)
        return [*first, *torch.autograd.grad(sum(g.square().sum() for g in first), (x, kernel))]

    for answer, value in zip(slopes(c), slopes(truth), strict=True):
        torch.testing.assert_close(answer, value)


def test_derivatives_by_finite_differences():
    x, kernel = draw(2, GROUPS * 2, 4, 3), draw(GROUPS * 2, 2, 3, 3)

    def convolve(x, kernel):
        return strided_convolution(x, kernel, GROUPS)

    def slope(x, kernel):
        return torch.autograd.grad(convolve(x, kernel).square().sum(), (x, kernel), create_graph=True)

    assert gradcheck(convolve, (x, kernel))
    assert gradgradcheck(convolve, (x, kernel))
    assert gradgradcheck(slope, (x, kernel))  # the third derivative, too
