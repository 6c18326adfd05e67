"""In float32 the fast engines are as exact as the plain loop: their errors against float64, side by side."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch.nn import functional as F

from mamlkit.bench.precision import CASES, PASS, cases_of, errors_of_a_pass, errors_of_the_meta_gradient, seeds_of
from mamlkit.engines.conv4.block import norm_activate

FACTOR = 3  # the promise: at most so many times the plain loop's own error


@pytest.mark.parametrize("name", CASES)
def test_a_pass_and_a_hessian_vector_product_are_as_exact_as_the_plain_networks(name):
    errors = [errors_of_a_pass(*cases_of(name, seed)) for seed in seeds_of(name)]
    for part in PASS:
        plain, together = (statistics.median(each[kind][part] for each in errors) for kind in ("plain", "together"))
        assert 1e-9 < together <= FACTOR * plain < 1e-4, part


@pytest.mark.parametrize("name", ["W5", "W5 on glyphs"])
def test_a_meta_gradient_is_as_exact_as_the_plain_loops(name):
    """On the strided network, where few errors cross a kink; on the other the medians of ten seeds are decided by those."""
    engines = ("loop", "mamlkit", "mamlkit-lean")
    errors = [errors_of_the_meta_gradient(*cases_of(name, seed), "maml", engines) for seed in range(10)]
    plain, *fast = (statistics.median(each[engine] for each in errors) for engine in engines)
    assert all(1e-9 < error <= FACTOR * plain < 1e-4 for error in fast)


@pytest.mark.parametrize("pool", [True, False])
def test_a_block_of_many_values_loses_no_digit(pool):
    """Sums of 25 x 42 x 42 numbers, one after the other, would lose one or two."""
    draw = torch.Generator().manual_seed(0)
    c = (torch.randn((25, 8, 42, 42), generator=draw) + 0.7).contiguous(memory_format=torch.channels_last)
    gamma, beta = torch.rand(8, generator=draw) + 0.5, torch.randn(8, generator=draw)
    v = torch.randn((25, 8, 21, 21) if pool else c.shape, generator=draw)

    def run(block, dtype):
        leaves = [value.to(dtype).requires_grad_() for value in (c, gamma, beta)]
        r = block(*leaves)
        return [r, *torch.autograd.grad(r, leaves, v.to(dtype))]

    def plain(c, gamma, beta):
        y = F.relu(F.batch_norm(c, None, None, gamma, beta, True))
        return F.max_pool2d(y, 2) if pool else y

    truth = run(plain, torch.float64)
    for found, value in zip(run(lambda *x: norm_activate(*x, pool=pool), torch.float32), truth, strict=True):
        assert (found.double() - value).norm() / value.norm() < 3e-7
