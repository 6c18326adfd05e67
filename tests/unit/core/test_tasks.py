"""Task batches and the stream: batch number i is a function of the seed and of i, of nothing else."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mamlkit


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def stream(seed=0, meta_batch=4, **keywords):
    return mamlkit.TaskStream(mamlkit.Sinusoids(shots=3, queries=2), meta_batch, seed=seed, **keywords)


def take(source, count):
    return list(itertools.islice(source, count))


@given(seed=st.integers(0, 2**62), number=st.integers(0, 2**40))
def test_a_batch_depends_on_seed_and_number_only(seed, number):
    one, other = stream(seed), stream(seed)
    for earlier in (number + 1, 0, 3):  # what was asked before makes no difference
        other.batch(earlier)
    assert equal(one.batch(number), other.batch(number))


@given(seed=st.integers(0, 10**6), start=st.integers(0, 50), count=st.integers(1, 5))
def test_resumes_where_it_stopped(seed, start, count):
    whole = take(stream(seed), start + count)
    resumed = take(stream(seed, start=start), count)
    assert all(equal(a, b) for a, b in zip(whole[start:], resumed, strict=True))


def test_position_is_what_to_resume_from():
    first = stream(seed=5)
    take(first, 3)
    expected, found = take(first, 1)[0], take(stream(seed=5, start=3), 1)[0]
    assert first.position == 4 and equal(expected, found)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@given(seed=st.integers(0, 10**6))
def test_processes_share_the_same_batches(world_size, seed):
    whole = take(stream(seed), 3)
    shares = [take(stream(seed, rank=rank, world_size=world_size), 3) for rank in range(world_size)]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert all(part.num_tasks == 4 // world_size for part in parts)
        assert equal(batch, [torch.cat(pieces) for pieces in zip(*parts, strict=True)])


def test_neighbouring_seeds_and_batches_have_nothing_in_common():
    numbers = set()
    count = 0
    for seed in range(8):
        for batch in take(stream(seed), 8):
            numbers.update(batch.support_x.flatten().tolist())
            count += batch.support_x.numel()
    assert len(numbers) > 0.99 * count  # float32 draws repeat by chance now and then, whole batches never


def test_batches_look_random_across_their_numbers():
    """A generator seeded badly gives neighbours that are correlated: the first draw of each of 2,000 batches is uniform."""
    source = mamlkit.TaskStream(mamlkit.Sinusoids(shots=1, queries=1), 1, seed=0)
    first = (
        torch.stack([source.batch(i).support_x[0, 0, 0] for i in range(2000)]).double() / 5
    )  # (batches,), in [-1, 1]
    assert abs(first.mean()) < 4 * (1 / 3 / 2000) ** 0.5
    assert abs((first[1:] * first[:-1]).mean()) < 4 * (1 / 9 / 2000) ** 0.5
    counts = torch.histc(first, bins=10, min=-1, max=1)
    assert ((counts - 200) ** 2 / 200).sum() < 33.7  # chi-squared, 9 degrees of freedom, p = 1e-4


def test_drawing_tasks_leaves_the_global_generator_alone(same_rng):
    take(stream(), 3)


def test_a_distribution_is_anything_that_samples():
    class Constant:
        def sample(self, num_tasks, generator):
            value = torch.rand((num_tasks, 1, 1), generator=generator)
            return mamlkit.TaskBatch(value, value, value, value)

    source = mamlkit.TaskStream(Constant(), 2, seed=3)
    assert equal(source.batch(7), take(mamlkit.TaskStream(Constant(), 2, seed=3, start=7), 1)[0])


@given(tasks=st.integers(1, 6), support=st.integers(1, 4), query=st.integers(1, 4), first=st.integers(0, 6))
def test_select_and_num_tasks(tasks, support, query, first):
    parts = [
        torch.rand(tasks, support, 2),
        torch.rand(tasks, support),
        torch.rand(tasks, query, 2),
        torch.rand(tasks, query),
    ]
    batch = mamlkit.TaskBatch(*parts)
    chosen = batch.select(slice(first, first + 2))
    assert batch.num_tasks == tasks
    assert chosen.num_tasks == len(range(tasks)[first : first + 2])
    assert equal(chosen, [part[first : first + 2] for part in parts])
    assert [tuple(part.shape[1:]) for part in chosen] == [tuple(part.shape[1:]) for part in parts]


def test_to_moves_every_tensor():
    batch = stream().batch(0).to("meta")
    assert isinstance(batch, mamlkit.TaskBatch)
    assert {part.device.type for part in batch} == {"meta"}


def test_prefetched_batches_are_those_of_the_stream():
    stream = mamlkit.TaskStream(mamlkit.Sinusoids(shots=2, queries=3), meta_batch=4, seed=7, start=5)
    expected = [stream.batch(number) for number in range(5, 8)]
    for batch, plain in zip(mamlkit.prefetched(stream), expected, strict=False):
        assert isinstance(batch, mamlkit.TaskBatch)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(batch, plain, strict=True))
