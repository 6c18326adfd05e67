"""Weights that ship with mamlkit, each with the record of the command, the seed and the versions that made it."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

__all__ = ["pretrained", "pretrained_names", "pretrained_record"]


def pretrained_names() -> list[str]:
    """The names that ``pretrained`` knows."""
    folder = files("mamlkit") / "weights"
    return sorted(
        entry.name.removesuffix(".safetensors") for entry in folder.iterdir() if entry.name.endswith(".safetensors")
    )


def pretrained(name: str) -> dict[str, Tensor]:
    """The parameters of a shipped model by name, for ``model.load_state_dict(...)``.

    Raises:
        ValueError: for a name that does not ship, with those that do.
    """
    with as_file(_resource(name, ".safetensors")) as path:
        return load_file(path)


def pretrained_record(name: str) -> dict[str, Any]:
    """How these weights were made: command, seed, versions, training settings.

    Raises:
        ValueError: for a name that does not ship, with those that do.
    """
    record: dict[str, Any] = json.loads(_resource(name, ".json").read_text(encoding="utf-8"))
    return record


def _resource(name: str, suffix: str) -> Any:
    if name not in pretrained_names():
        raise ValueError(f"expected one of {', '.join(map(repr, pretrained_names()))}, got {name!r}")
    return files("mamlkit") / "weights" / f"{name}{suffix}"
