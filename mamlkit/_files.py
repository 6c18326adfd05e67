"""Files that are written as a whole or not at all: beside their place first, then moved there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

__all__ = ["write_atomically", "write_tensors"]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file, a text in UTF-8 or bytes, as a whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        _replace(Path(name), path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Replace a file of tensors as a whole or not at all; the header is what safetensors calls metadata."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(handle)
    try:
        # Clones, because safetensors refuses tensors that share storage.
        save_file({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}, name, header)
        _replace(Path(name), path)
    finally:
        Path(name).unlink(missing_ok=True)


def _replace(temporary: Path, target: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # on the disk before the name points to it
    finally:
        os.close(descriptor)
    temporary.chmod(0o644)  # temporary files are private
    temporary.replace(target)
