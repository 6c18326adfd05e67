"""Checkpoints: tensors as safetensors, everything else as JSON beside them, and never half of either.

The JSON is written last and holds the checksum of the tensors: where it exists and agrees, the checkpoint is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mamlkit._files import write_atomically, write_tensors

__all__ = [
    "latest_checkpoint",
    "load_checkpoint",
    "optimiser_tensors",
    "remove_checkpoint",
    "restore_optimiser",
    "save_checkpoint",
]


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write ``path.safetensors`` and ``path.json``; a crash at any moment leaves a pair that is whole, or known not to be.

    Args:
        path: without a suffix; its folder must exist.
        tensors: by name.
        record: anything that JSON can hold.
    """
    write_tensors(path.with_suffix(".safetensors"), tensors)
    checksum = _checksum(path.with_suffix(".safetensors"))
    write_atomically(path.with_suffix(".json"), json.dumps({**record, "sha256": checksum}, indent=2) + "\n")


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record of a checkpoint.

    Raises:
        ValueError: if it is missing, or damaged.
    """
    weights, notes = path.with_suffix(".safetensors"), path.with_suffix(".json")
    if not (weights.is_file() and notes.is_file()):
        raise ValueError(f"expected a checkpoint of {weights.name} and {notes.name} in {path.parent}, got no such pair")
    try:
        record = json.loads(notes.read_text(encoding="utf-8"))
        checksum = record["sha256"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"expected {notes} to hold the record of a checkpoint, got a damaged file") from None
    if _checksum(weights) != checksum:
        raise ValueError(f"expected {weights} to have the checksum in {notes.name}, got a damaged or foreign file")
    return load_file(weights), record


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint named ``step-NUMBER`` in a folder, or ``None``."""
    for notes in sorted(folder.glob("step-*.json"), reverse=True):
        path = notes.with_suffix("")
        try:
            load_checkpoint(path)
        except ValueError:  # written halfway when the process was killed
            continue
        return path
    return None


def remove_checkpoint(path: Path) -> None:
    """Delete both files; the JSON first, so that no half of a pair looks whole."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.with_suffix(".safetensors").unlink(missing_ok=True)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of an optimiser, split into its tensors and the rest."""
    state = optimiser.state_dict()
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else rest)[f"{index}.{name}"] = value
    return tensors, {"state": rest, "param_groups": state["param_groups"]}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Undo ``optimiser_tensors``."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *rest["state"].items()]:
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": rest["param_groups"]})


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
