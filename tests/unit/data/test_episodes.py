"""Episodes: every class in both sets, no image in both, the same tasks for the same seed, turns as classes."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamlkit.data.episodes import ImageClasses, ImageTasks
from mamlkit.tasks import TaskDistribution, TaskStream


def numbered(counts, side=3):
    """Image d of class c holds c in its first pixel and d in its second, so that a task says where it came from."""
    classes = []
    for number, count in enumerate(counts):
        images = torch.full((count, 1, side, side), 200, dtype=torch.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = number, torch.arange(count, dtype=torch.uint8)
        classes.append(images)
    return classes


def origin(x):
    """Class and drawing of each image of ``numbered``: (tasks, points, 2)."""
    return (x[:, :, 0, 0, :2] * 255).round().long()


@st.composite
def settings(draw):
    ways, shots, queries = draw(st.integers(2, 7)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    need = shots + queries
    equal = draw(st.booleans())
    counts = draw(st.lists(st.integers(need, need + 5), min_size=ways, max_size=ways + 4))
    counts = [counts[0]] * len(counts) if equal else counts
    return ways, shots, queries, counts, draw(st.integers(1, 5)), draw(st.integers(0, 2**40))


@given(settings())
def test_a_task_holds_every_class_and_never_an_image_twice(setting):
    ways, shots, queries, counts, num_tasks, seed = setting
    tasks = ImageTasks(numbered(counts), ways=ways, shots=shots, queries=queries)
    batch, chosen = tasks.sample_with_classes(num_tasks, torch.Generator().manual_seed(seed))
    assert batch.support_x.shape == (num_tasks, ways * shots, 1, 3, 3)
    assert batch.query_x.shape == (num_tasks, ways * queries, 1, 3, 3)
    assert batch.support_x.dtype == torch.float32 and batch.support_y.dtype == torch.int64
    for images, labels, each in (
        (batch.support_x, batch.support_y, shots),
        (batch.query_x, batch.query_y, queries),
    ):
        for task in range(num_tasks):
            assert labels[task].bincount(minlength=ways).tolist() == [each] * ways
            assert torch.equal(
                origin(images)[task, :, 0], chosen[task][labels[task]]
            )  # a number is one class throughout
    both = torch.cat([origin(batch.support_x), origin(batch.query_x)], 1)
    for task in range(num_tasks):
        assert len(both[task].unique(dim=0)) == ways * (shots + queries)
        assert len(chosen[task].unique()) == ways
        assert all(drawing < counts[number] for number, drawing in both[task].tolist())


def test_the_seed_decides(same_rng):
    tasks = ImageTasks(numbered([9] * 30), ways=5, shots=2, queries=3)

    def drawn(seed):
        return tasks.sample(4, torch.Generator().manual_seed(seed))

    assert all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert not torch.equal(drawn(1).support_x, drawn(2).support_x)


def test_all_classes_and_all_drawings_are_drawn_alike():
    counts = [4, 6, 8, 4]
    tasks = ImageTasks(numbered(counts), ways=2, shots=1, queries=1)
    batch, chosen = tasks.sample_with_classes(24_000, torch.Generator().manual_seed(0))
    share = chosen.flatten().bincount() / chosen.numel()
    assert (share - 1 / 4).abs().max() < 0.01
    where = origin(batch.query_x).flatten(0, 1)
    for number, count in enumerate(counts):
        drawings = where[where[:, 0] == number, 1].bincount(minlength=count)
        assert len(drawings) == count
        assert (drawings / drawings.sum() - 1 / count).abs().max() < 0.02


def test_it_is_a_task_distribution_and_streams():
    tasks = ImageTasks(numbered([5] * 8), ways=3, shots=1, queries=2)
    assert isinstance(tasks, TaskDistribution)
    whole = TaskStream(tasks, 4, seed=3).batch(7)
    halves = [TaskStream(tasks, 4, seed=3, rank=rank, world_size=2).batch(7) for rank in (0, 1)]
    assert torch.equal(whole.query_x, torch.cat([half.query_x for half in halves]))


def test_values_are_divided_by_255():
    images = torch.arange(256, dtype=torch.uint8).view(2, 2, 1, 8, 8)
    batch = ImageTasks(images, ways=2, shots=1, queries=1).sample(1, torch.Generator().manual_seed(0))
    values = torch.cat([batch.support_x, batch.query_x]).flatten().sort().values
    assert torch.equal(values, torch.arange(256).float() / 255)


def test_a_turned_class_is_another_class():
    images = torch.randint(0, 256, (3, 4, 2, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    tasks = ImageTasks(images, ways=12, shots=2, queries=2, rotations=True)
    assert tasks.num_classes == 12
    batch, chosen = tasks.sample_with_classes(3, torch.Generator().manual_seed(1))
    for task in range(3):
        assert sorted(chosen[task].tolist()) == list(range(12))  # 12 ways of 12 classes
        for label in range(12):
            turn, number = divmod(int(chosen[task, label]), 3)
            turned = images[number].rot90(turn, (-2, -1)).float() / 255  # (4, 2, 5, 5)
            points = [
                batch.support_x[task][batch.support_y[task] == label],
                batch.query_x[task][batch.query_y[task] == label],
            ]
            found = torch.cat(points)
            assert sorted(found.flatten(1).tolist()) == sorted(turned.flatten(1).tolist())
    assert tasks.class_name(2) == "2"
    assert tasks.class_name(3 + 1) == "1 turned by 90 degrees"


def test_classes_keep_their_names_when_some_are_selected():
    classes = ImageClasses.of(numbered([2, 3, 4]), ["a", "b", "c"], ["x", "x", "y"])
    part = classes.select([2, 0])
    assert (part.names, part.groups, part.counts.tolist()) == (("c", "a"), ("y", "x"), [4, 2])
    assert torch.equal(part.of_class(0), numbered([2, 3, 4])[2])
    assert torch.equal(part.of_class(1), numbered([2, 3, 4])[0])
    with pytest.raises(ValueError, match="as many images in every class, got 2 to 4"):
        part.stacked()
    assert len(classes.select([])) == 0


def test_the_tensor_is_not_copied():
    images = torch.zeros(4, 3, 1, 2, 2, dtype=torch.uint8)
    tasks = ImageTasks(images, ways=2, shots=1, queries=1)
    assert tasks.classes.images.data_ptr() == images.data_ptr()
    assert tasks.classes.stacked().data_ptr() == images.data_ptr()


def test_a_meta_batch_is_drawn_fast():
    """Far less than a training step of about 100 ms takes; the limit leaves room for a busy machine."""
    images = torch.zeros(1150, 20, 1, 28, 28, dtype=torch.uint8)
    tasks = ImageTasks(images, ways=5, shots=1, queries=1, rotations=True)
    generator = torch.Generator().manual_seed(0)

    def seconds():
        begin = time.process_time()
        tasks.sample(16, generator)
        return time.process_time() - begin

    assert min(seconds() for _ in range(20)) < 0.005
