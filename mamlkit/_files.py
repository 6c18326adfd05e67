"""Files that are written as a whole or not at all: beside their place first, then moved there."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["PREFIX", "remove_stale", "write_atomically", "write_tensors"]

PREFIX = ".mamlkit-"  # of files that are being written


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file, a text in UTF-8 or bytes, as a whole or not at all."""
    with _replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Replace a file of tensors as a whole or not at all; the header is what safetensors calls metadata."""
    with _replacing(path) as temporary:
        # Clones, because safetensors refuses tensors that share storage.
        own = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
        try:
            save_file(own, temporary, header)
        except SafetensorError as error:
            raise OSError(f"expected to write {path}, got {error}") from None


def remove_stale(folder: Path, seconds: float = 0.0) -> None:
    """Delete what a kill in the middle of a write has left, where it is older than this."""
    for path in folder.glob(f"{PREFIX}*.tmp"):
        if time.time() - path.stat().st_mtime >= seconds:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A file to write to, which then takes the target's place; nothing is left of it where the writing fails."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=PREFIX, suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # on the disk before the name points to it
        temporary.chmod(0o644)  # temporary files are private
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
