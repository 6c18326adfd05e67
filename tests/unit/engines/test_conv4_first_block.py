"""The first block without its full-size map, against convolution, batch norm, activation and pool in float64."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch.nn import functional as F

from mamlkit.engines.conv4 import first_block as module
from mamlkit.engines.conv4.first_block import first_block, patches_of

TASKS, POINTS, FILTERS = 2, 3, 4


def draw(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def plain(x, kernel, gamma, beta, slope, eps):
    maps = []
    for task in range(TASKS):
        c = F.conv2d(x[task], kernel[task], padding=1)
        y = F.leaky_relu(F.batch_norm(c, None, None, gamma[task], beta[task], True, eps=eps), slope)
        maps.append(F.max_pool2d(y, 2))
    return torch.cat(maps, 1)  # (points, tasks * filters, height, width)


def derivatives(block, x, slope, eps):
    """Values, first derivatives, and those of a function of all first derivatives."""
    kernel, gamma, beta = (
        tensor.requires_grad_()
        for tensor in (draw(TASKS, FILTERS, x.shape[2], 3, 3), draw(TASKS, FILTERS), draw(TASKS, FILTERS))
    )
    assert (gamma < 0).any() and (gamma > 0).any()
    r = block(x, kernel, gamma, beta, slope=slope, eps=eps)
    v = draw(*r.shape).requires_grad_()
    first = torch.autograd.grad((r.sin() * v).sum(), (kernel, gamma, beta), create_graph=True)
    total = sum((g * draw(*g.shape)).sum() + g.pow(3).sum() for g in first)
    return [r, *first, *torch.autograd.grad(total, (kernel, gamma, beta, v))]


@pytest.mark.parametrize("entries", [1, 40, 1 << 20])  # a row a piece, a few, all
@pytest.mark.parametrize(("slope", "eps"), [(0.0, 1e-5), (0.01, 0.1), (1.0, 1e-5)])
@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (3, (7, 5)), (2, (2, 3))])
def test_both_derivatives_are_those_of_autograd(channels, size, slope, eps, entries, monkeypatch):
    monkeypatch.setattr(module, "ENTRIES_TOGETHER", entries)
    x = draw(TASKS, POINTS, channels, *size)
    found, truth = (derivatives(block, x, slope, eps) for block in (first_block, plain))
    for answer, value in zip(found, truth, strict=True):
        assert oracles.relative_error([answer], [value]) < 1e-10


def test_of_equal_values_the_first_counts_as_in_torch():
    x = torch.zeros(TASKS, POINTS, 1, 4, 4, dtype=torch.float64)
    x[:, :, :, 1, 1] = 1.0
    found, truth = (derivatives(block, x, 0.0, 1e-5) for block in (first_block, plain))
    for answer, value in zip(found, truth, strict=True):
        torch.testing.assert_close(answer, value)


def test_patches_are_made_once_for_the_same_images():
    x = draw(TASKS, POINTS, 1, 4, 4)
    patches = patches_of(x)
    assert patches_of(x) is patches
    assert patches_of(x.clone()) is not patches
    x.mul_(2)
    torch.testing.assert_close(patches_of(x).rows, 2 * patches.rows)


def test_a_third_derivative_is_refused():
    x = draw(TASKS, POINTS, 1, 4, 4)
    kernel, ones = draw(TASKS, FILTERS, 1, 3, 3).requires_grad_(), draw(TASKS, FILTERS)
    r = first_block(x, kernel, ones, ones, slope=0.0, eps=1e-5)
    (first,) = torch.autograd.grad(r.pow(3).sum(), kernel, create_graph=True)
    with pytest.raises(RuntimeError, match="at most two derivatives"):
        torch.autograd.grad(first.pow(2).sum(), kernel, create_graph=True)
