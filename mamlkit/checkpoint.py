"""Checkpoints: tensors as safetensors, everything else as JSON beside them, and never half of either.

The JSON is written last and holds the checksum of the tensors: where it exists and agrees, the checkpoint is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mamlkit._files import PREFIX, write_atomically, write_tensors

__all__ = [
    "checkpoints_in",
    "latest_checkpoint",
    "load_checkpoint",
    "locked",
    "optimiser_tensors",
    "remove_checkpoint",
    "restore_optimiser",
    "save_checkpoint",
]


_STEP = re.compile(r"step-\d{8,}")
_OWN = "record_sha256"
# What torch's optimisers keep with the shape of the parameter; a wrong one would be broadcast, or stop the next step.
_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "sum"}


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write ``path.safetensors`` and ``path.json``; a crash at any moment leaves a pair that is whole, or known not to be.

    Args:
        path: without a suffix; its folder must exist.
        tensors: by name.
        record: anything that JSON can hold.
    """
    write_tensors(path.with_suffix(".safetensors"), tensors)
    whole = {**record, "sha256": _checksum(path.with_suffix(".safetensors"))}
    try:
        write_atomically(
            path.with_suffix(".json"), json.dumps({**whole, _OWN: _record_checksum(whole)}, indent=2) + "\n"
        )
    except OSError:  # a full disk: tensors without notes would only take room
        remove_checkpoint(path)
        raise


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
        checksum, own = record["sha256"], record.pop(_OWN, None)
        if own != _record_checksum(record) and (own is not None or "learner" in record):  # runs of old have none
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"expected {notes} to hold the record of a checkpoint, got a damaged file") from None
    if _checksum(weights) != checksum:
        raise ValueError(f"expected {weights} to have the checksum in {notes.name}, got a damaged or foreign file")
    return load_file(weights), record


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint named ``step-NUMBER`` in a folder, or ``None``."""
    for path in reversed(checkpoints_in(folder)):
        try:
            load_checkpoint(path)
        except ValueError:  # written halfway when the process was killed
            continue
        return path
    return None


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in a folder by age, whole or not, without their endings. Files of other names are the user's own."""
    return [notes.with_suffix("") for notes in sorted(folder.glob("step-*.json")) if _STEP.fullmatch(notes.stem)]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one training at a time in a folder; the lock of one that was killed is gone with it.

    Raises:
        ValueError: if another one is at work there.
    """
    path = folder / f"{PREFIX}lock"
    with open(path, "w") as file:
        try:
            _lock(file.fileno())
        except OSError:
            raise ValueError(f"expected a folder that no other training writes to, got {folder}") from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def remove_checkpoint(path: Path) -> None:
    """Delete both files; the JSON first, so that no half of a pair looks whole."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.with_suffix(".safetensors").unlink(missing_ok=True)


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
    """Undo ``optimiser_tensors``.

    Raises:
        ValueError: if a moment has not the shape of its parameter.
    """
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *rest["state"].items()]:
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": rest["param_groups"]})
    for parameter, entries in optimiser.state.items():
        for name, value in entries.items():
            if name in _MOMENTS and isinstance(value, Tensor) and value.shape != parameter.shape:
                raise ValueError(f"{name} of shape {tuple(value.shape)} for a parameter of {tuple(parameter.shape)}")


def _record_checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
