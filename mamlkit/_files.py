"""Files that are written as a whole or not at all: first beside their place, then moved there."""

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

__all__ = ["PREFIX", "append", "remove_stale", "write_atomically", "write_tensors"]

PREFIX = ".mamlkit-"  # of files that are being written


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file by a string, in UTF-8, or by bytes, as a whole or not at all."""
    with _beside(path) as place:
        place.write_bytes(content.encode() if isinstance(content, str) else content)


def append(path: Path, text: str) -> None:
    """Add lines to a file. After a kill the last may lack its end; a full disk leaves the file as it was."""
    with _naming(path), open(path, "ab", buffering=0) as file:
        before, data = file.tell(), text.encode()
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Replace a file of tensors as a whole or not at all; the header is what safetensors calls metadata."""
    with _beside(path) as place:
        # Clones, because safetensors refuses tensors that share storage.
        save_file({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}, place, header)


def remove_stale(folder: Path, seconds: float = 0.0) -> None:
    """Delete what kills in the middle of a write have left, if it is older than this."""
    for path in folder.glob(f"{PREFIX}*.tmp"):
        if time.time() - path.stat().st_mtime >= seconds:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file beside its place; in the end it is moved there, or deleted after an error."""
    with _naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=PREFIX, suffix=".tmp")
        os.close(handle)
        try:
            yield Path(name)
            _replace(Path(name), path)
        finally:
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors name the file that was to be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        kind = type(error) if isinstance(error, OSError) else OSError
        raise kind(f"expected to write {path}, got: {reason}") from None


def _replace(temporary: Path, target: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the content must be on the disk before the name points to it
    finally:
        os.close(descriptor)
    temporary.chmod(0o644)  # temporary files are private
    temporary.replace(target)
