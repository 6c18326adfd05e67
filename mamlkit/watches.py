"""Watch what a model and a loss read in their first call: parameters that are not swapped give wrong numbers without a warning.

A module finds its parameters by attribute, and there they are swapped. A tensor that is also held in a list, a partial or a
closure stays the module's own; one behind ``detach()`` loses its gradient. Both are found by their place in memory, and named.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mamlkit.trees import leaves

__all__ = ["Watch", "WatchedLoss"]


class Watch(TorchDispatchMode):
    """Make sure that a model reads the parameters it is given, and not its own ones where they cannot be swapped."""

    _SHAPES_ONLY = ("empty", "zeros", "ones", "full", "rand", "randn", "new_")

    def __init__(self, model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        places = ((_place(value), name) for name, value in model.named_parameters() if name in parameters)
        self._own = {place: name for place, name in places if place is not None}
        self._checkpoints = _checkpoints()

    def copies(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of the parameters elsewhere in memory, so that the model's own ones turn up only where they should not."""
        own: dict[object, str]
        self._own, own = {}, self._own
        self._copies = {name: parameters[name].clone() for name in own.values()}
        self._own = own
        self._read: set[str] = set()
        self._names = {_place(copy): name for name, copy in self._copies.items()}
        return self._copies

    def lost(self, outputs: object) -> dict[str, list[Tensor]]:
        """Copies that were read but are not in the graph of the outputs, each with a list for gradients that still arrive."""
        graph, waiting = set(), [value.grad_fn for value in leaves(outputs) if value.grad_fn is not None]
        if not waiting:
            return {}
        while waiting:
            node = waiting.pop()
            if node not in graph:
                graph.add(node)
                waiting += [following for following, _ in node.next_functions if following is not None]
        lost: dict[str, list[Tensor]] = {}
        for name in sorted(self._read):
            copy = self._copies[name]
            if copy.requires_grad and copy.grad_fn not in graph:
                copy.register_hook(lost.setdefault(name, []).append)
        return lost

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at every tensor that an operation reads."""
        kwargs = kwargs or {}
        if self._own and not func._schema.name.split("::")[-1].startswith(self._SHAPES_ONLY):
            for value in tree_leaves((args, kwargs)):
                if not isinstance(value, Tensor):
                    continue
                place = _place(value)
                if place is not None and place in self._names:
                    self._read.add(self._names[place])
                if name := self._own.get(place):
                    raise ValueError(
                        f"expected a model that looks its parameters up in its modules, got {name!r} read from elsewhere: "
                        "a list, dict, partial or closure that holds the tensor itself"
                    )
            if _checkpoints() > self._checkpoints:
                raise ValueError(
                    "expected a model without torch.utils.checkpoint, got one that would be called again on the way back with "
                    "other parameters; engine='recomputed' saves memory instead"
                )
        return func(*args, **kwargs)


class WatchedLoss(TorchDispatchMode):
    """Make sure that a loss reads outputs and targets, not parameters of the model, which out there are not the adapted ones."""

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        own = dict(model.named_parameters())
        self._own = {_place(own[name]): name for name in names if name in own}
        self._own.pop(None, None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at every tensor that an operation reads."""
        kwargs = kwargs or {}
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and (name := self._own.get(_place(value))):
                raise ValueError(
                    f"expected a loss of outputs and targets, got one that reads {name!r} of the model, which is not the adapted "
                    "one there: have forward return or keep what the loss needs"
                )
        return func(*args, **kwargs)


def _place(tensor: Tensor) -> object:
    try:
        return tensor.untyped_storage()._cdata, tensor.storage_offset()
    except (NotImplementedError, RuntimeError):  # no storage: a sparse tensor, or a subclass
        return None


def _checkpoints() -> int:
    """How many calls of ``torch.utils.checkpoint`` are around this one; a reentrant one shows as a lost gradient instead."""
    count, frame = 0, sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_name == "checkpoint" and frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            count += frame.f_locals.get("use_reentrant") is False
    return count
