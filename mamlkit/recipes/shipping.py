"""Write weights, arrays and records as mamlkit reads them: what the recipes end with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mamlkit._files import write_atomically, write_tensors

__all__ = ["save_arrays", "save_record", "save_weights"]


def save_weights(folder: Path, name: str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write ``name.safetensors``, then ``name.json``, each as a whole or not at all."""
    write_tensors(folder / f"{name}.safetensors", tensors)
    write_atomically(folder / f"{name}.json", json.dumps(record, indent=2) + "\n")


def save_arrays(file: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """Write ``NAME.npz``, then ``NAME.json`` with its checksum, each as a whole or not at all."""
    packed = BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    write_atomically(file, packed.getvalue())
    checksum = hashlib.sha256(packed.getvalue()).hexdigest()
    write_atomically(file.with_suffix(".json"), json.dumps({**record, "sha256": checksum}, indent=2) + "\n")


def save_record(file: Path, record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a record with its table under ``"rows"``, one row per line, as a whole or not at all."""
    lines = ",\n    ".join(json.dumps(row) for row in rows)
    text = json.dumps(record, indent=2).removesuffix("\n}") + f',\n  "rows": [\n    {lines}\n  ]\n}}\n'
    write_atomically(file, text)
