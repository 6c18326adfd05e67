"""How much a reader's function keeps: the largest tensor that it makes, and the most numbers that are alive at once."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Memory", "memory_of"]


class Memory(TorchDispatchMode):
    """Counts the numbers of all tensors made while it is on; what a graph keeps is alive until the graph is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.peak = self._alive = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, Tensor):
                self.largest = max(self.largest, value.numel())
                self._count(value)
        return result

    def _count(self, value: Tensor) -> None:
        storage, size = value.untyped_storage(), value.untyped_storage().nbytes() // value.element_size()
        if storage._cdata in self._storages:
            return
        self._storages.add(storage._cdata)
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._free, storage._cdata, size)

    def _free(self, storage: int, size: int) -> None:
        self._storages.discard(storage)
        self._alive -= size


def memory_of(call: Callable[[], Any]) -> Memory | None:
    """What a call keeps; ``None`` where it fails."""
    gc.collect()
    with warnings.catch_warnings(), Memory() as memory:
        warnings.simplefilter("default")
        try:
            call()
        except Exception:  # a reader's code may fail in any way
            return None
    return memory
