"""Sinusoid tasks against numpy and against the ranges of the paper."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

import mamlkit

SEEDS = st.integers(0, 2**62)


@given(seed=SEEDS, tasks=st.integers(1, 6), shots=st.integers(1, 7), queries=st.integers(1, 7))
def test_targets_lie_on_the_curve_of_their_task(seed, tasks, shots, queries):
    generator = torch.Generator().manual_seed(seed)
    batch, amplitude, phase = mamlkit.Sinusoids(shots, queries).sample_with_curves(tasks, generator)
    assert [tuple(part.shape) for part in batch] == [(tasks, shots, 1)] * 2 + [(tasks, queries, 1)] * 2
    assert amplitude.shape == phase.shape == (tasks,)
    for x, y in ((batch.support_x, batch.support_y), (batch.query_x, batch.query_y)):
        for task in range(tasks):
            a, b = amplitude[task].item(), phase[task].item()
            curve = a * np.sin(x[task].double().numpy() - b)
            assert np.allclose(y[task].double().numpy(), curve, rtol=1e-4, atol=1e-5)
    assert ((amplitude >= 0.1) & (amplitude <= 5)).all() and ((phase >= 0) & (phase <= math.pi)).all()
    assert all(((x >= -5) & (x <= 5)).all() for x in (batch.support_x, batch.query_x))


@given(seed=SEEDS)
def test_the_generator_decides_everything(seed):
    draws = [mamlkit.Sinusoids(4, 3).sample(3, torch.Generator().manual_seed(s)) for s in (seed, seed, seed + 1)]
    assert all(torch.equal(a, b) for a, b in zip(draws[0], draws[1], strict=True))
    assert not torch.equal(draws[0].support_x, draws[2].support_x)


def test_the_whole_range_is_used():
    batch, amplitude, phase = mamlkit.Sinusoids().sample_with_curves(4000, torch.Generator().manual_seed(0))
    for values, low, high in ((amplitude, 0.1, 5), (phase, 0, math.pi), (batch.query_x, -5, 5)):
        scaled = (values.double().flatten() - low) / (high - low)
        assert abs(scaled.mean() - 0.5) < 4 / math.sqrt(12 * scaled.numel())
        assert scaled.min() < 0.01 and scaled.max() > 0.99


def test_support_and_query_are_different_points():
    batch = mamlkit.Sinusoids(10, 10).sample(5, torch.Generator().manual_seed(0))
    for support, query in zip(batch.support_x, batch.query_x, strict=True):
        assert not set(support.flatten().tolist()) & set(query.flatten().tolist())


def test_sinusoid_keeps_the_type_and_shape():
    x = torch.linspace(-5, 5, 7, dtype=torch.float64)[:, None]  # (points, 1)
    one = mamlkit.sinusoid(x, torch.tensor(2.0, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64))
    assert one.dtype == torch.float64 and one.shape == (7, 1)
    assert np.allclose(one.numpy(), 2 * np.sin(x.numpy() - 0.5), rtol=1e-14)
    amplitude, phase = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])
    both = mamlkit.sinusoid(x.float().expand(2, 7, 1), amplitude, phase)
    assert np.allclose(both[1].numpy(), 3 * np.sin(x.numpy() - 1), atol=1e-5)


def test_sampling_leaves_the_global_generator_alone(same_rng):
    mamlkit.Sinusoids().sample(3, torch.Generator().manual_seed(0))
