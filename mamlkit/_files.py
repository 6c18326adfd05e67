"""Files that are written as a whole or not at all: beside their place first, then moved there."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["PREFIX", "append", "remove_stale", "write_atomically", "write_tensors"]

PREFIX = ".mamlkit-"  # of files that are being written


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file, a text in UTF-8 or bytes, as a whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PREFIX, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        _replace(Path(name), path)
    finally:
        Path(name).unlink(missing_ok=True)


def append(path: Path, text: str) -> None:
    """Add lines to a file; a kill leaves it with all of them, or the last without its end."""
    with open(path, "ab") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Replace a file of tensors as a whole or not at all; the header is what safetensors calls metadata."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PREFIX, suffix=".tmp")
    os.close(handle)
    try:
        # Clones, because safetensors refuses tensors that share storage.
        try:
            save_file({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}, name, header)
        except SafetensorError as error:
            raise OSError(f"expected to write {path}, got {error}") from None
        _replace(Path(name), path)
    finally:
        Path(name).unlink(missing_ok=True)


def remove_stale(folder: Path, seconds: float = 0.0) -> None:
    """Delete what a kill in the middle of a write has left, where it is older than this."""
    for path in folder.glob(f"{PREFIX}*.tmp"):
        if time.time() - path.stat().st_mtime >= seconds:
            path.unlink(missing_ok=True)


def _replace(temporary: Path, target: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # on the disk before the name points to it
    finally:
        os.close(descriptor)
    temporary.chmod(0o644)  # temporary files are private
    temporary.replace(target)
