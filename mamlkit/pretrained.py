"""Weights and records of runs that ship with mamlkit, each with the command, the seeds and the versions that made it."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from mamlkit.configuration import Configuration
from mamlkit.learners import Learner

__all__ = ["pretrained", "pretrained_learner", "pretrained_names", "pretrained_record", "recorded"]


def pretrained_names() -> list[str]:
    """The names that ``pretrained`` knows."""
    folder = files("mamlkit") / "weights"
    return sorted(
        entry.name.removesuffix(".safetensors") for entry in folder.iterdir() if entry.name.endswith(".safetensors")
    )


def pretrained(name: str) -> dict[str, Tensor]:
    """The parameters of a shipped model by name, for ``model.load_state_dict(...)``; of a learner for ``omniglot-...``.

    Raises:
        ValueError: for a name that does not ship.
    """
    with as_file(_resource(name, ".safetensors")) as path:
        return load_file(path)


def pretrained_learner(name: str, *, root: Path | None = None) -> tuple[Learner, Configuration]:
    """A shipped learner, ready for ``mamlkit.evaluate``, and the configuration that it was trained with.

    Args:
        name: of a learner, for instance ``"omniglot-long-maml++-5way-1shot-seed0"``: it has inner rates and batch-norm rows too.
        root: folder of the data, for ``configuration.build_tasks("test")``.

    Raises:
        ValueError: for a name that does not ship, or for one that is only a model's weights.
    """
    record = pretrained_record(name)
    if "configuration" not in record:
        example = next(each for each in pretrained_names() if "configuration" in pretrained_record(each))
        raise ValueError(f"expected the name of a learner, such as {example!r}, got the weights of a model, {name!r}")
    values = record["configuration"]
    values["tasks"]["root"] = None if root is None else str(root)
    configuration = Configuration.from_json(values)
    learner = configuration.build_learner(tuple(record["image_shape"]))
    learner.load_state_dict(pretrained(name))
    learner.epoch = configuration.training.epochs
    return learner, configuration


def pretrained_record(name: str) -> dict[str, Any]:
    """How these weights were made: command, seed, versions, training settings.

    Raises:
        ValueError: for a name that does not ship.
    """
    record: dict[str, Any] = json.loads(_resource(name, ".json").read_text(encoding="utf-8"))
    return record


def recorded(name: str) -> dict[str, Any]:
    """The record of runs that take longer than a notebook may: command, settings, versions, and a row of results for each run.

    Args:
        name: of a record, for instance ``"multi-step"``, which ``python -m mamlkit.recipes.multi_step`` made.

    Raises:
        ValueError: for a name that does not ship, with those that do.
    """
    folder = files("mamlkit") / "records"
    names = sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
    if name not in names:
        raise ValueError(f"expected one of {', '.join(map(repr, names))}, got {name!r}")
    record: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return record


def _resource(name: str, suffix: str) -> Any:
    if name not in pretrained_names():
        raise ValueError(f"expected a name from mamlkit.pretrained_names(), such as 'sinusoid-maml', got {name!r}")
    return files("mamlkit") / "weights" / f"{name}{suffix}"
