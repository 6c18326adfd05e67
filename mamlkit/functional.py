"""A module as a function of its parameters, in the modes that meta-learning needs.

Meta-learning needs combinations that ``train()`` and ``eval()`` cannot express: dropout off, but batch norm on the batch's own
statistics, for instance. So the user's own module is called through ``torch.func.functional_call``, with the modes of its layers
switched for the call and put back whatever happens. Hooks, closures and attributes are those of the moment of the call.
"""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from mamlkit.randomness import Replay
from mamlkit.ties import Ties
from mamlkit.trees import Tree, called_with, first, leaves, mapped
from mamlkit.watches import Watch

__all__ = [
    "BatchNormMode",
    "FunctionalModel",
    "Parameters",
    "batch_norm_layers",
    "drops",
    "is_strange",
    "keep_writes",
    "key_of",
    "name_of",
    "parameters_of",
    "real_type",
    "structure",
    "unchanged_on_error",
]

#: Tensors by their names in a module.
Parameters = Mapping[str, Tensor]
#: Normalise with the batch, do that and update the running statistics, or normalise with the running statistics.
BatchNormMode = Literal["batch", "collect", "running"]


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model that are learned (``requires_grad``), by name."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected model to be a torch.nn.Module, got {type(model).__name__}")
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def real_type(parameters: Parameters) -> torch.dtype:
    """The floating-point type of a loss that depends on these parameters."""
    return max((value.dtype.to_real() for value in parameters.values()), key=lambda kind: torch.finfo(kind).bits)


def key_of(name: str) -> str:
    """A tensor's name as a key of a ``ParameterDict`` or a buffer, where torch allows neither dots nor names of its own."""
    key = name.replace(".", "/")
    return f"{key}/" if hasattr(nn.ParameterDict, key) or key in _TAKEN else key


def name_of(key: str) -> str:
    """Undo ``key_of``."""
    return key.removesuffix("/").replace("/", ".")


_TAKEN = frozenset(vars(nn.ParameterDict()))


def batch_norm_layers(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The batch-norm layers of a model, by name."""
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)}


class FunctionalModel:
    """Call a model with given parameters.

    Args:
        model: any module.
        batch_norm: normalise with the statistics of the batch and forget them (``"batch"``), use them and also add them to the
            running statistics (``"collect"``), or use the running statistics (``"running"``).
        dropout: call every other layer in the mode that the user left it in, so that in ``train()`` it drops; if False, as
            after ``eval()``.
        autocast: run in this lower precision where torch deems it safe, for instance ``torch.bfloat16``.
        name: what the points are called in messages.
        written: filled with what the last call left in buffers that the model writes, by name. Every call begins with the model's
            own buffers; when ``written`` is not given, what a call leaves there is forgotten.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_norm: BatchNormMode = "batch",
        dropout: bool = False,
        autocast: torch.dtype | None = None,
        name: str = "",
        written: dict[str, Tensor] | None = None,
    ) -> None:
        self.model, self.batch_norm, self.dropout, self.autocast = model, batch_norm, dropout, autocast
        self.name, self.written = name, written
        self._watched: object = None
        self._lost: dict[str, list[Tensor]] = {}  # parameters without a way back, and the gradients that came to them
        self.look()

    def expect_gradients_found(self) -> None:
        """After a derivative was taken: each parameter that the model reads has had a gradient, if only through the loss."""
        lost, self._lost = [name for name, gradients in self._lost.items() if not gradients], {}
        if lost:
            self._watched = None
            raise ValueError(
                f"expected a gradient for every parameter that the model reads, got none for {lost[0]!r}: freeze it, or look for "
                "detach(), no_grad() and torch.utils.checkpoint(use_reentrant=True)"
            )

    def look(self) -> None:
        """Look at the model as it is now: one walk over its modules, for many calls."""
        self._switches: list[tuple[nn.Module, str, bool]] = []  # what must change around a call
        self._buffers: list[tuple[str, nn.Module, str]] = []  # what a call may write into
        self._lost = {}
        self._strange = []  # modules that may do anything
        self._attends = False
        self._ties = Ties(self.model)
        met = set()
        for path, module in self.model.named_modules():
            normalises = isinstance(module, nn.modules.batchnorm._BatchNorm)
            strange = is_strange(module)
            if strange:
                self._strange.append((id(module), *map(len, _hooks(module))))
            self._attends = self._attends or strange or _traits(module).attends
            if strange or _traits(module).reads_mode:
                wanted = self.dropout and module.training
                if isinstance(module, nn.modules.batchnorm._NormBase):  # instance norm knows one mode only
                    wanted = not normalises or self.batch_norm != "running"
                if module.training != wanted:
                    self._switches.append((module, "training", wanted))
                if normalises and self.batch_norm == "batch" and module.track_running_stats:
                    self._switches.append((module, "track_running_stats", False))
            if normalises and (not strange or self.batch_norm == "collect"):
                continue  # writes into its statistics where it is meant to
            for name, buffer in module._buffers.items():
                if buffer is not None and id(buffer) not in met:
                    met.add(id(buffer))
                    self._buffers.append((f"{path}.{name}" if path else name, module, name))

    def __call__(self, parameters: Parameters, x: Tree, *, second_order: bool = False) -> Tree:
        """Outputs for ``x`` ``(points, *input)``, see ``mamlkit.trees``.

        Args:
            parameters: by name; every other tensor is the model's own.
            x: the inputs.
            second_order: whether second derivatives will be taken, which fused attention does not have.
        """
        tensors = dict(parameters)
        copies = {}
        for path, module, name in self._buffers:
            if path not in tensors and (buffer := module._buffers.get(name)) is not None:
                tensors[path] = copies[path] = buffer.clone()
        with contextlib.ExitStack() as stack:
            if self._attends:
                stack.enter_context(_plain_attention(second_order))
            if self.autocast is not None:  # a cache would cut the graph
                stack.enter_context(torch.autocast(first(x).device.type, self.autocast, cache_enabled=False))
            if self._strange and self._watched != self._strange and not torch.compiler.is_compiling():
                watch = stack.enter_context(Watch(self.model, parameters))
                tensors = self._ties.everywhere(tensors | watch.copies(parameters))
                self._watched = self._strange
                outputs = self._outputs(tensors, x)
                self._lost |= watch.lost(outputs)
            else:
                tensors = self._ties.everywhere(tensors)
                outputs = self._outputs(tensors, x)
        if self.written is not None and not Replay.running:
            for path, copy in copies.items():
                if tensors[path] is not copy or copy._version:
                    self.written[path] = tensors[path].detach()
        if self.autocast is None:
            return outputs
        wide = next((leaf for leaf in leaves(x) if leaf.is_floating_point()), next(iter(parameters.values()))).dtype
        return mapped(lambda value: value.to(wide) if value.is_floating_point() else value, outputs)

    def _outputs(self, tensors: dict[str, Tensor], x: Tree) -> Tree:
        before = [(module, name, getattr(module, name)) for module, name, _ in self._switches]
        try:
            for module, name, value in self._switches:
                setattr(module, name, value)
            return functional_call(self.model, tensors, *called_with(x), tie_weights=False)
        except RuntimeError as error:
            if not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex() or "type" not in str(error):
                raise
            raise TypeError(
                f"expected floating-point {self.name} inputs, got {x.dtype}; convert them with .float()"
            ) from error
        except TypeError as error:
            _explain_call(self.model, x, error)
            raise
        finally:
            for module, name, value in reversed(before):
                setattr(module, name, value)


def _explain_call(model: nn.Module, x: Tree, error: TypeError) -> None:
    """If ``forward`` does not take several inputs like these, say so."""
    if isinstance(x, Tensor):
        return
    signature, (by_place, by_name) = inspect.signature(model.forward), called_with(x)
    try:
        signature.bind(*by_place, **by_name)
    except TypeError:
        given = ", ".join(by_name) or f"a tuple of {len(by_place)}"
        raise TypeError(
            f"expected inputs by position in a tuple or by name in a dict, as {type(model).__name__}.forward{signature} takes "
            f"them, got {given}"
        ) from error


def is_strange(module: nn.Module) -> bool:
    """Whether a module may do anything: not a layer of torch or mamlkit, or one with hooks or a forward of its own."""
    return not _traits(module).known or "forward" in module.__dict__ or any(_hooks(module))


def drops(module: nn.Module) -> bool:
    """Whether a layer is known to drop values at random."""
    return isinstance(module, nn.modules.dropout._DropoutNd) or (
        isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and module.dropout > 0
    )


def structure(model: nn.Module) -> list[tuple[int, type, bool, tuple[int, ...]]]:
    """What a model is made of, and what of it has to be looked at: differs once layers are added, removed, hooked or tied."""
    return [
        (id(m), type(m), is_strange(m) or _traits(m).reads_mode, tuple(map(id, m._parameters.values())))
        for m in model.modules()
    ]


def keep_writes(model: nn.Module, written: Mapping[str, Tensor]) -> None:
    """Write into a model's buffers what the last pass left there."""
    for path, value in written.items():
        place, _, name = path.rpartition(".")
        buffers = model.get_submodule(place)._buffers
        own = buffers[name]
        if own is not None and own.shape == value.shape and own.dtype == value.dtype:
            own.copy_(value)
        else:
            buffers[name] = value.clone()


@contextlib.contextmanager
def unchanged_on_error(*modules: nn.Module) -> Iterator[None]:
    """Restore the buffers of modules if anything inside fails."""
    own = [buffer for module in modules for buffer in module.buffers()]
    before = [buffer.clone() for buffer in own]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in zip(own, before, strict=True):
                buffer.copy_(value)
        raise


def _hooks(module: nn.Module) -> tuple[Mapping[Any, Any], ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks


class _Traits(NamedTuple):
    known: bool  # a layer of torch or mamlkit
    attends: bool
    reads_mode: bool


def _traits(module: nn.Module) -> _Traits:
    kind = type(module)
    found = _TRAITS.get(kind)
    if found is None:
        known = kind.__module__.startswith(("torch.nn.modules.", "mamlkit."))
        attends = issubclass(kind, nn.MultiheadAttention) or kind.__module__ == "torch.nn.modules.transformer"
        found = _TRAITS[kind] = _Traits(known, attends, attends or issubclass(kind, _READ_MODE))
    return found


_TRAITS: weakref.WeakKeyDictionary[type[nn.Module], _Traits] = weakref.WeakKeyDictionary()
_READ_MODE = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RNNBase, nn.RReLU)


@contextlib.contextmanager
def _plain_attention(second_order: bool) -> Iterator[None]:
    """Switch off the shortcuts of attention that have no (second) derivative."""
    shortcut = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH) if second_order else contextlib.nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(shortcut)
