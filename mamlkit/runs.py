"""What the command line and the recipes share about a run: its folder, its best checkpoints, processes, memory."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from mamlkit.arguments import expect_kind
from mamlkit.checkpoint import latest_checkpoint
from mamlkit.configuration import Configuration
from mamlkit.data.episodes import ImageTasks
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.learners import Learner
from mamlkit.training import best_of, load_learner, of_a_run

__all__ = ["image_shape", "load_best", "peak_memory_mb", "processes", "read_configuration"]


def read_configuration(folder: Path) -> Configuration:
    """The configuration that a run recorded.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"expected a folder that `python -m mamlkit train` wrote, got {folder} without run.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["configuration"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"expected {path} to hold a recorded configuration, got a damaged file") from None
    return Configuration.from_json(values)


def load_best(
    configuration: Configuration, folder: Path, shape: tuple[int, int, int] | None, count: int
) -> tuple[list[Learner], list[str]]:
    """The learners of the best checkpoints of a run, best first, and the names of those checkpoints."""
    newest = latest_checkpoint(folder / "checkpoints")
    if newest is None:
        raise ValueError(f"expected a run with a checkpoint, got {folder} without one")
    record = load_learner(configuration.build_learner(shape), newest)
    with of_a_run(newest):
        names = [name for _, name in best_of(record)] or [newest.name]
    if count > len(names):
        raise ValueError(f"expected an ensemble of at most {len(names)} kept checkpoints, got {count}")
    learners = []
    for name in names[:count]:
        learners.append(configuration.build_learner(shape))
        load_learner(learners[-1], folder / "checkpoints" / name)
    return learners, names[:count]


def image_shape(source: ImageTasks | Sinusoids) -> tuple[int, int, int] | None:
    """Channels, height and width of the inputs; ``None`` for sinusoids."""
    if isinstance(source, Sinusoids):
        return None
    return expect_kind("the tasks of a run", source, ImageTasks).image_shape


@contextlib.contextmanager
def processes(device: str) -> Iterator[int]:
    """Join the other processes that ``torchrun`` started; gives the rank of this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    if device == "cuda":  # a GPU of its own for each process of this machine
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def peak_memory_mb() -> float:
    """The most memory that this process has held, in MB."""
    if (status := Path("/proc/self/status")).exists():  # Linux hands the parent's ru_maxrss on to the child
        high = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(high.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
