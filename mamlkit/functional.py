"""A module as a function of its parameters, in modes that are stated instead of read from ``module.training``.

Meta-learning asks for combinations that ``train()`` and ``eval()`` cannot name: dropout off but batch norm on the batch's own
statistics, for instance. So the module is called through a *skeleton*: a copy without storage whose layers are put in the modes
wanted, and which gets every tensor as an argument. The module itself is never changed.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = [
    "BatchNormMode",
    "FunctionalModel",
    "Parameters",
    "batch_norm_layers",
    "fixed_randomness",
    "key_of",
    "name_of",
    "parameters_of",
]

Parameters = Mapping[str, Tensor]
BatchNormMode = Literal["batch", "collect", "running"]


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model that can be learned, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def key_of(name: str) -> str:
    """The name of a model's tensor as a key of a ``ParameterDict`` or a buffer: torch allows no dot there."""
    return name.replace(".", "/")


def name_of(key: str) -> str:
    """Undo ``key_of``."""
    return key.replace("/", ".")


def batch_norm_layers(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The batch-norm layers of a model, by name."""
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)}


class FunctionalModel:
    """Call a model with parameters that are given.

    Args:
        model: any module.
        batch_norm: normalise with the statistics of the batch and forget them (``"batch"``), use them and also add them to the
            running statistics given in the call (``"collect"``), or use the running statistics (``"running"``).
        dropout: whether dropout layers drop.
        autocast: run in this lower precision where torch deems it safe, for instance ``torch.bfloat16``.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_norm: BatchNormMode = "batch",
        dropout: bool = False,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model, self.autocast = model, autocast
        # The copy is made on the meta device: each tensor of the model is met as its storage-free image.
        tensors = [*model.parameters(), *model.buffers()]
        self.skeleton = copy.deepcopy(model, {id(t): _without_storage(t) for t in tensors}).train(dropout)
        for layer in self.skeleton.modules():  # instance norm without statistics knows one mode only
            if isinstance(layer, nn.modules.batchnorm._NormBase):
                layer.train()
        for layer in batch_norm_layers(self.skeleton).values():
            layer.train(batch_norm != "running")
            if batch_norm == "batch":
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
                layer.track_running_stats = False
        self.parameter_names = {name for name, _ in self.skeleton.named_parameters()}
        self.buffer_names = {name for name, _ in self.skeleton.named_buffers()}
        self.statistics_names = {
            f"{layer}.{name}" for layer, norm in batch_norm_layers(model).items() for name, _ in norm.named_buffers()
        }

    def __call__(self, parameters: Parameters, x: Tensor) -> Tensor:
        """Outputs for ``x`` ``(points, *input)``; tensors that ``parameters`` does not name are the model's own."""
        own: dict[str, Tensor] = {n: p for n, p in self.model.named_parameters() if n in self.parameter_names}
        for name, buffer in self.model.named_buffers():
            if name in self.buffer_names:  # a module may write into its buffers: only batch norm's are meant to change
                own[name] = buffer if name in self.statistics_names else buffer.clone()
        tensors = {**own, **parameters}
        if self.autocast is None:
            return functional_call(self.skeleton, tensors, (x,))
        with torch.autocast(x.device.type, self.autocast, cache_enabled=False):  # a cache would cut the graph
            return functional_call(self.skeleton, tensors, (x,)).to(x.dtype)


@contextlib.contextmanager
def fixed_randomness(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draw from this seed inside, leave the global generators as they were; ``None`` changes nothing."""
    if seed is None:
        yield
        return
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed every other device as well
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _without_storage(tensor: Tensor) -> Tensor:
    image = torch.empty_like(tensor, device="meta")
    return nn.Parameter(image, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else image
