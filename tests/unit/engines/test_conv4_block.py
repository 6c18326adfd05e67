"""The hand-written derivatives of a convolutional block against autograd's own, in float64."""

from __future__ import annotations

import itertools

import oracles
import pytest
import torch
from torch.nn import functional as F

from mamlkit.engines.conv4.block import convolution, norm_activate


def plain(c, gamma, beta, pool, slope, eps):
    y = F.leaky_relu(F.batch_norm(c, None, None, gamma, beta, True, eps=eps), slope)
    return F.max_pool2d(y, 2) if pool else y


def derivatives(block, layout, size):
    """Values, first derivatives, and those of a function of all first derivatives, with random weights."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    c = draw(5, 6, size, size).contiguous(memory_format=layout).requires_grad_()
    gamma, beta = draw(6).requires_grad_(), draw(6).requires_grad_()  # both signs of gamma
    r = block(c, gamma, beta)
    v = draw(*r.shape).requires_grad_()
    first = torch.autograd.grad((r.sin() * v).sum(), (c, gamma, beta), create_graph=True)
    total = sum((g * draw(*g.shape)).sum() + g.pow(3).sum() for g in first)
    return [r], first, torch.autograd.grad(total, (c, gamma, beta, v))


CASES = list(
    itertools.product(
        (True, False), (0.0, 0.01, 1.0), (torch.contiguous_format, torch.channels_last), (8, 7), (1e-5, 0.1)
    )
)


@pytest.mark.parametrize(("pool", "slope", "layout", "size", "eps"), CASES)
def test_both_derivatives_are_those_of_autograd(pool, slope, layout, size, eps):
    found = derivatives(lambda *x: norm_activate(*x, pool=pool, slope=slope, eps=eps), layout, size)
    truth = derivatives(lambda *x: plain(*x, pool, slope, eps), layout, size)
    for answers, expected in zip(found, truth, strict=True):
        for answer, value in zip(answers, expected, strict=True):
            assert oracles.relative_error([answer], [value]) < 1e-11


@pytest.mark.parametrize("pool", [True, False])
def test_both_derivatives_against_finite_differences(pool):
    generator = torch.Generator().manual_seed(1)
    c = torch.randn((3, 2, 4, 4), generator=generator, dtype=torch.float64, requires_grad=True)
    gamma = torch.tensor([1.3, -0.7], dtype=torch.float64, requires_grad=True)
    beta = torch.tensor([0.2, -0.1], dtype=torch.float64, requires_grad=True)

    def block(c, gamma, beta):
        return norm_activate(c, gamma, beta, pool=pool, slope=0.1)

    assert torch.autograd.gradcheck(block, (c, gamma, beta))
    assert torch.autograd.gradgradcheck(block, (c, gamma, beta))


def test_a_third_derivative_is_refused():
    generator = torch.Generator().manual_seed(2)
    c = torch.randn((3, 2, 4, 4), generator=generator, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(2, dtype=torch.float64)
    (first,) = torch.autograd.grad(norm_activate(c, ones, ones, pool=True).pow(3).sum(), c, create_graph=True)
    with pytest.raises(RuntimeError, match="at most two derivatives"):
        torch.autograd.grad(first.pow(2).sum(), c, create_graph=True)


@pytest.mark.parametrize("groups", [1, 3])
def test_convolution_and_both_its_derivatives(groups):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn((2, 6, 5, 6), generator=generator, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn((9, 6 // groups, 3, 3), generator=generator, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, kernel, padding=1, groups=groups)
    assert torch.equal(convolution(x, kernel, groups), expected)

    def call(x, kernel):
        return convolution(x, kernel, groups)

    assert torch.autograd.gradcheck(call, (x, kernel), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, kernel), fast_mode=True)
