"""Tensors that took seconds to make, kept for the next run in the user's cache folder.

The cache never decides what is right: a file that is missing, broken or unreadable is made again, and a folder that cannot be
written to (a read-only home) costs nothing but the time of making.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mamlkit._files import remove_stale, write_tensors

__all__ = ["Cached", "cache_folder", "cached"]


class Cached(NamedTuple):
    """What one cache file holds.

    Attributes:
        tensors: by name.
        notes: anything that JSON can hold: names of classes, for instance.
    """

    tensors: dict[str, Tensor]
    notes: dict[str, Any]


def cache_folder() -> Path:
    """Where mamlkit keeps what it has made or downloaded: ``MAMLKIT_CACHE``, or else the platform's folder for caches."""
    if chosen := os.environ.get("MAMLKIT_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser() / "mamlkit" / "Cache"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/mamlkit").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mamlkit"


def cached(name: str, make: Callable[[], Cached]) -> Cached:
    """The content of cache file ``name``. If there is no sound one, it is made, and written for the next time.

    Args:
        name: of the file, without its ending. It must contain all that ``make`` depends on: a new recipe is a new name.
        make: makes the content.
    """
    try:
        path = cache_folder() / f"{name}.safetensors"
    except RuntimeError:  # a user without a home folder
        return make()
    found = _read(path)
    if found is not None:
        return found
    made = make()
    _write(path, made)
    return made


def _read(path: Path) -> Cached | None:
    """``None`` if the file is missing or is not, byte for byte, what was written."""
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if int(header["checksum"]) != _checksum(tensors, header["notes"]):
            return None
        return Cached(tensors, json.loads(header["notes"]))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _write(path: Path, content: Cached) -> None:
    notes = json.dumps(content.notes)
    header = {"notes": notes, "checksum": str(_checksum(content.tensors, notes))}
    with contextlib.suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent, seconds=3600.0)  # of writes that were killed; young ones may be at work
        write_tensors(path, content.tensors, header)


def _checksum(tensors: dict[str, Tensor], notes: str) -> int:
    checksum = zlib.crc32(notes.encode())
    for name in sorted(tensors):
        data = tensors[name].contiguous().flatten().view(torch.uint8)
        checksum = zlib.crc32(data.numpy().data, zlib.crc32(f"{name} {tuple(tensors[name].shape)}".encode(), checksum))
    return checksum
