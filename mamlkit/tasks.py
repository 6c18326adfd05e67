"""A batch of tasks, and the seeded stream of batches that meta-training reads.

In meta-learning, a *task* is what a data point is elsewhere: a small learning problem with a support set to adapt on and a
query set to be judged on (Vinyals et al., 2016, arXiv:1606.04080).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_convert

from mamlkit.arguments import describe, expect_at_least, expect_kind, expect_seed
from mamlkit.randomness import stream_seed
from mamlkit.trees import Tree, first, joined, leaves, mapped

__all__ = [
    "TaskBatch",
    "TaskDistribution",
    "TaskList",
    "TaskStream",
    "Tasks",
    "expect_distribution",
    "listed",
    "prefetched",
]


class TaskBatch(NamedTuple):
    """Tasks of one shape, side by side: the leading axis of every tensor counts tasks.

    Attributes:
        support_x: inputs to adapt on, ``(tasks, support, *input)``.
        support_y: their targets, ``(tasks, support)`` class numbers or ``(tasks, support, *output)`` values.
        query_x: inputs to be judged on, ``(tasks, query, *input)``.
        query_y: their targets, as ``support_y``.

    Where a model has several inputs or targets, these are tuples or dicts of such tensors: see ``mamlkit.trees``.
    """

    support_x: Tree
    support_y: Tree
    query_x: Tree
    query_y: Tree

    @property
    def num_tasks(self) -> int:
        """How many tasks the batch holds (``len()`` of a named tuple counts its fields)."""
        return first(self.support_x).shape[0]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return first(self.query_x).device

    def select(self, tasks: slice) -> TaskBatch:
        """A batch of only these tasks."""
        expect_kind("tasks", tasks, slice)
        return TaskBatch(*(mapped(lambda tensor: tensor[tasks], part) for part in self))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TaskBatch:
        """The same batch on another device."""
        return TaskBatch(*(mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking), part) for part in self))


class TaskList(tuple[TaskBatch, ...]):
    """Tasks of unequal sizes: batches one after the other, in each of which the tasks have one shape.

    A plain list of ``TaskBatch`` works just as well. Tasks of one shape are computed faster in one batch than in several.

    Args:
        batches: at least one.

    Raises:
        TypeError, ValueError: if there is anything but batches, or no batch.
    """

    def __new__(cls, batches: Iterable[TaskBatch]) -> TaskList:  # noqa: D102
        found = tuple(expect_kind("tasks", batches, (Iterable,)))
        if odd := [batch for batch in found if not isinstance(batch, TaskBatch)]:
            raise TypeError(f"expected a list of TaskBatch, each with a leading axis of tasks, got {describe(odd[0])}")
        if not found:
            raise ValueError("expected at least one task, got an empty list")
        return super().__new__(cls, found)

    @staticmethod
    def of(
        support_x: Sequence[Tree], support_y: Sequence[Tree], query_x: Sequence[Tree], query_y: Sequence[Tree]
    ) -> TaskList:
        """Tasks from lists with one tensor per task, without an axis for tasks: ``(points, ...)``, see ``TaskBatch``.

        Neighbours of the same shape go into one batch.
        """
        parts = (support_x, support_y, query_x, query_y)
        if len(set(map(len, parts))) > 1:
            raise ValueError(f"expected as many tasks in each list, got {', '.join(str(len(part)) for part in parts)}")
        tasks = list(zip(*parts, strict=True))
        alike = [list(group) for _, group in groupby(tasks, _shapes)]
        return TaskList(TaskBatch(*(joined(torch.stack, part) for part in zip(*group, strict=True))) for group in alike)

    @property
    def num_tasks(self) -> int:
        """How many tasks there are in all batches together."""
        return sum(batch.num_tasks for batch in self)

    def select(self, tasks: slice) -> TaskList:
        """Only these tasks, numbered through all batches."""
        chosen, first, parts = range(self.num_tasks)[tasks], 0, []
        for batch in self:
            here = [number - first for number in chosen if first <= number < first + batch.num_tasks]
            if here:
                parts.append(batch.select(slice(here[0], here[-1] + 1, chosen.step)))
            first += batch.num_tasks
        return TaskList(parts)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TaskList:
        """The same tasks on another device."""
        return TaskList(batch.to(device, non_blocking=non_blocking) for batch in self)


def _shapes(task: tuple[Tree, ...]) -> list[Any]:
    return [(tensor.shape, tensor.dtype, tensor.device) for part in task for tensor in leaves(part)]


#: Of one shape, or of several.
Tasks = TaskBatch | Sequence[TaskBatch]


def listed(tasks: Tasks) -> TaskBatch | TaskList:
    """The tasks, as something with ``num_tasks``: a list of batches becomes a ``TaskList``."""
    if isinstance(tasks, (TaskBatch, TaskList)) or not _holds_batches(tasks):
        return tasks  # type: ignore[return-value]  # something else is refused where its tensors are looked at
    return TaskList(tasks)


def _holds_batches(tasks: object) -> bool:
    return isinstance(tasks, (list, tuple)) and (not tasks or any(isinstance(part, TaskBatch) for part in tasks))


@runtime_checkable
class TaskDistribution(Protocol):
    """Anything that draws tasks: sinusoids, characters, the reader's own images.

    Where it also has ``fingerprint()``, a string that differs where the data does, ``fit`` notices that data has changed since a
    run began.
    """

    def sample(self, num_tasks: int, generator: torch.Generator) -> Tasks:
        """Draw ``num_tasks`` tasks; only the generator decides which. Tasks of unequal sizes are a list of batches."""
        ...


class TaskStream:
    """An endless stream of meta-batches: batch number ``i`` depends only on the seed and on ``i``.

    So a run that stopped after ``i`` batches resumes with ``start=i``. With several processes, each takes its share of the *same*
    batch: the tasks of a run do not depend on how many processes run it.

    Args:
        distribution: where tasks come from.
        meta_batch: tasks per batch, over all processes.
        seed: the seed of the stream.
        start: the number of the first batch.
        rank: which process this is.
        world_size: how many processes share each batch; must divide ``meta_batch``.

    Raises:
        ValueError: if ``meta_batch`` is below 1, or is not a multiple of ``world_size``.
    """

    def __init__(
        self,
        distribution: TaskDistribution,
        meta_batch: int,
        *,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        expect_at_least("meta_batch", meta_batch, 1)
        expect_at_least("start", start, 0)
        expect_seed("seed", seed)
        expect_distribution(distribution)
        expect_at_least("world_size", world_size, 1)
        if expect_at_least("rank", rank, 0) >= world_size:
            raise ValueError(f"expected rank < world_size {world_size}, got {rank}")
        if meta_batch % world_size:
            raise ValueError(f"expected a meta_batch that {world_size} processes can share evenly, got {meta_batch}")
        self.distribution, self.meta_batch, self.seed, self.position = distribution, meta_batch, seed, start
        share = meta_batch // world_size
        self.share = slice(rank * share, (rank + 1) * share)

    def batch(self, number: int) -> Any:
        """This process's share of batch ``number``: a ``TaskBatch``, or a ``TaskList`` where the tasks have several shapes."""
        expect_at_least("number", number, 0)
        generator = torch.Generator().manual_seed(stream_seed(self.seed, number))
        tasks = listed(self.distribution.sample(self.meta_batch, generator))
        expect_kind("what sample() gives", tasks, (TaskBatch, TaskList))
        if tasks.num_tasks != self.meta_batch:
            raise ValueError(f"expected sample({self.meta_batch}, ...) to give that many tasks, got {tasks.num_tasks}")
        return tasks.select(self.share)

    def __iter__(self) -> Iterator[Any]:
        while True:
            self.position += 1
            yield self.batch(self.position - 1)


def expect_distribution(distribution: TaskDistribution) -> TaskDistribution:
    """An object with ``sample(num_tasks, generator)``, not a class of such objects."""
    sample = getattr(distribution, "sample", None)
    if isinstance(distribution, (type, Tensor)) or not callable(sample):
        raise TypeError(
            f"expected tasks with sample(num_tasks, generator), as Sinusoids() has it, got {describe(distribution)}"
        )
    return distribution


def prefetched(stream: TaskStream, *, pin_memory: bool = False) -> DataLoader[TaskBatch]:
    """The batches of a stream, drawn by another process while the last one is being trained on.

    Args:
        stream: where batches come from, in its order.
        pin_memory: page-locked memory, so that ``tasks.to("cuda", non_blocking=True)`` overlaps with computation.
    """
    expect_kind("stream", stream, TaskStream)
    return DataLoader(_Batches(stream), batch_size=None, num_workers=1, pin_memory=pin_memory, collate_fn=_as_drawn)


def _as_drawn(tasks: Any) -> Any:
    return listed(default_convert(tasks))


class _Batches(IterableDataset[TaskBatch]):
    def __init__(self, stream: TaskStream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[TaskBatch]:
        return iter(self.stream)
