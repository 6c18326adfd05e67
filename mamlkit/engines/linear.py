"""Networks of linear layers for several tasks at once: one product of batches of matrices for a layer.

Each task has weights of its own after the first inner step. ``torch.func.vmap`` finds the product that computes all of them
together, but it looks for it anew in every call, and for a network of a few thousand weights the search takes longer than the
product. Here a linear layer is ``baddbmm``, and activations are called as they are, since they act on each number separately.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import vmap

from mamlkit.functional import Parameters, is_strange
from mamlkit.inner_loop import InnerLoop
from mamlkit.meta_gradient import AllAtOnce
from mamlkit.task_groups import TaskGroup, each_task, one_group
from mamlkit.tasks import TaskBatch

__all__ = ["LinearAllAtOnce", "ManyTasks", "knows"]

_ACTIVATIONS = (
    nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid,
)  # fmt: skip


class LinearAllAtOnce(AllAtOnce):
    """All tasks in one call, without ``vmap``, for ``nn.Sequential`` of linear layers and activations, as ``mlp`` makes it."""

    name = "linear_all_at_once"

    @staticmethod
    def groups(inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, first_task: int = 0) -> Iterator[TaskGroup]:
        """One group of all tasks; its forwards call ``ManyTasks``. Arguments as in ``mamlkit.task_groups.one_by_one``."""
        yield one_group(inner, parameters, tasks, losses=each_task(inner.loss, vmap(inner.loss)))

    def network(self, model: nn.Module) -> nn.Module:
        """The same layers, ready for several tasks."""
        return ManyTasks(OrderedDict((name, layer) for name, layer in model._modules.items() if layer is not None))


def knows(model: nn.Module) -> bool:
    """Whether a model is such a network, without hooks in between."""
    return (
        type(model) is nn.Sequential
        and any(type(layer) is nn.Linear for layer in model)
        and all(type(layer) in (nn.Linear, *_ACTIVATIONS) or _flattens(layer) for layer in model)
        and not any(is_strange(module) for module in model.modules())
    )


class ManyTasks(nn.Sequential):
    """The layers as a network that also takes ``(tasks, points, *input)``, with parameters that have that axis.

    Parameters without that axis are shared by all tasks.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(points, output)``, or ``(tasks, points, output)`` if a parameter has an axis for the tasks."""
        linear = [layer for layer in self if isinstance(layer, nn.Linear)]
        if all(layer.weight.ndim == 2 and (layer.bias is None or layer.bias.ndim == 1) for layer in linear):
            return super().forward(x)
        for layer in self:
            if isinstance(layer, nn.Linear):
                x = _linear(x, layer.weight, layer.bias)
            else:
                x = x.flatten(2) if isinstance(layer, nn.Flatten) else layer(x)
        return x


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``(tasks, points, ..., out)`` for ``x`` ``(tasks, points, ..., in)``."""
    if weight.ndim == 2:  # shared
        outputs = x @ weight.mT  # (tasks, points, ..., out)
    elif x.ndim == 3 and bias is not None and bias.ndim == 2:
        return torch.baddbmm(bias[:, None], x, weight.mT)  # (tasks, points, out)
    else:
        outputs = (x.flatten(1, -2) @ weight.mT).unflatten(1, x.shape[1:-1])  # (tasks, points, ..., out)
    if bias is None:
        return outputs
    return outputs + (bias if bias.ndim == 1 else bias.reshape(len(bias), *[1] * (x.ndim - 2), -1))


def _flattens(layer: nn.Module) -> bool:
    return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)
