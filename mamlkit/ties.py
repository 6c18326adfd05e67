"""Tensors that a model holds in several places, and layers that it holds under several names.

``torch.func.functional_call`` looks for these anew in every call, which for a small network takes as long as a layer; and in
torch 2.13 a layer under two names is left with the tensors of the call in place of its own.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Ties"]


class Ties:
    """The names of a model's tensors as they are now."""

    def __init__(self, model: nn.Module) -> None:
        places: dict[int, list[str]] = {}  # of each tensor
        paths: dict[int, str] = {}  # of each layer, the first
        self._same: dict[str, str] = {}  # a name of a layer's tensor -> the first name of that layer's tensor
        for path, module in model.named_modules(remove_duplicate=False):
            first = paths.setdefault(id(module), path)
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is None:
                    continue
                if path != first:
                    self._same[_joined(path, name)] = _joined(first, name)
                else:
                    places.setdefault(id(tensor), []).append(_joined(path, name))
        self._tied = [tuple(names) for names in places.values() if len(names) > 1]

    def everywhere(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same tensors, for every place that holds one of them, each place once."""
        if not (self._same or self._tied):
            return tensors
        complete = {self._same.get(name, name): tensor for name, tensor in tensors.items()}
        for names in self._tied:
            given = next((complete[name] for name in names if name in complete), None)
            if given is not None:
                complete |= {name: given for name in names if name not in complete}
        return complete


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
