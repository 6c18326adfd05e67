"""What recipes share: their command line, runs side by side, an outer loop that can be watched, tasks in float64."""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mamlkit.tasks import TaskBatch, TaskDistribution

__all__ = ["InFloat64", "command", "outer_loop", "parse", "parser_for", "run_all"]

Result = TypeVar("Result")


def parser_for(description: str | None, out: str) -> argparse.ArgumentParser:
    """A parser that knows ``--out``; the first line of a module's docstring describes it."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help=f"folder for the {out}; it must exist")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was typed; a folder that is not there is refused before anything is trained."""
    options = parser.parse_args()
    if not options.out.is_dir():
        parser.error(f"expected --out to be an existing folder, got {options.out}")
    return options


def command(module: str) -> str:
    """What was typed, as it stands in a record."""
    return f"python -m mamlkit.recipes.{module} {shlex.join(sys.argv[1:])}"


def run_all(
    train: Callable[..., Result], runs: Sequence[tuple[Any, ...]], processes: int, *constants: object
) -> list[Result]:
    """``train(*run, *constants)`` for every run, in order; a run does not depend on which process makes it."""
    arguments = (*zip(*runs, strict=True), *map(itertools.repeat, constants))
    if processes == 1:
        return list(map(train, *arguments))
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(train, *arguments))


def outer_loop(
    backward: Callable[[TaskBatch], Tensor],
    optimiser: torch.optim.Optimizer,
    stream: Iterable[TaskBatch],
    outer_steps: int,
) -> Iterator[tuple[int, float]]:
    """Take a number of outer steps where ``fit`` will not do: something is measured on the way, or there is no learner.

    Args:
        backward: fills ``.grad`` from a meta-batch and gives the meta-loss, as ``Learner.meta_backward``.
        optimiser: what takes the steps.
        stream: gives the meta-batches.
        outer_steps: how many to take.

    Yields:
        The number of the step just taken, from 1, and its meta-loss.
    """
    for step, tasks in enumerate(itertools.islice(stream, outer_steps), start=1):
        optimiser.zero_grad()
        loss = backward(tasks).item()
        optimiser.step()
        yield step, loss


@dataclass(frozen=True)
class InFloat64:
    """The same tasks, in float64."""

    source: TaskDistribution

    def sample(self, num_tasks: int, generator: torch.Generator) -> TaskBatch:
        """As the source draws them; class numbers stay whole numbers."""
        tasks = self.source.sample(num_tasks, generator)
        assert isinstance(tasks, TaskBatch)  # the recipes' tasks have one shape
        return TaskBatch(*(part.double() if part.is_floating_point() else part for part in tasks))
