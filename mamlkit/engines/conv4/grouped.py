"""``conv4`` and networks made like it for several tasks at once: one grouped convolution instead of one convolution per task.

Each task has weights of its own after the first inner step, so a layer is a different function for every task. A convolution with
as many groups as tasks is exactly that: task t's images are the channels ``t * channels`` to ``(t + 1) * channels`` of one wide
image, and group t meets them with task t's kernels. Batch norm and the rest act on each channel separately, so they need no
change. This saves calls: on a few small images a call costs more than its arithmetic. Blocks are those of ``block``, and
convolutions with a stride those of ``strided``.

A network is made like it if it is an ``nn.Sequential``, of others too, with the same layers in the same order. One with a
``forward`` of its own is not looked into: that may do anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mamlkit.engines.adjoint import Adjoint
from mamlkit.engines.conv4.block import convolution, norm_activate
from mamlkit.engines.conv4.first_block import first_block
from mamlkit.engines.conv4.strided import strided_convolution
from mamlkit.functional import Parameters, is_strange
from mamlkit.inner_loop import InnerLoop
from mamlkit.models import Conv4
from mamlkit.task_groups import Queries, TaskGroup, each_task
from mamlkit.tasks import TaskBatch

__all__ = ["CONV4_ENGINES", "Conv4AllAtOnce", "Conv4Recomputed", "ManyTasks", "conv4_groups", "knows"]

# Pixels that go through one call, over all images of a few tasks: beyond this, calls no longer matter and the cache does.
PIXELS_A_CALL = 1 << 15
GROUPS_WITHOUT_GRAPH = 4  # times as many if no graph is kept, as in evaluation
_LAYERS = (
    nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear,
)  # fmt: skip


class Conv4AllAtOnce(Adjoint):
    """The adjoint recursion over as many tasks of such a network as pay together."""

    name = "conv4_all_at_once"
    keep = True

    def groups(
        self, inner: InnerLoop, parameters: Parameters, tasks: TaskBatch, first_task: int = 0
    ) -> Iterator[TaskGroup]:
        """See ``conv4_groups``."""
        return conv4_groups(inner, parameters, tasks)

    def network(self, model: nn.Module) -> nn.Module:
        """The same layers, ready for several tasks."""
        return ManyTasks(OrderedDict((name, layer) for name, layer in model._modules.items() if layer is not None))


class Conv4Recomputed(Conv4AllAtOnce):
    """The same, with memory that hardly grows with the number of inner steps."""

    name = "conv4_recomputed"
    keep = False


CONV4_ENGINES: dict[str, type[Conv4AllAtOnce]] = {"all_at_once": Conv4AllAtOnce, "recomputed": Conv4Recomputed}
"""What two of ``mamlkit.engines.ENGINES`` are for the networks that ``knows`` knows.

:meta hide-value:
"""


def knows(model: nn.Module) -> bool:
    """Whether a model is a ``conv4`` or made like it, without hooks in between."""
    if not isinstance(model, nn.Sequential) or type(model) not in (Conv4, nn.Sequential):
        return False
    return _parts(model) is not None and not any(is_strange(module) for module in model.modules())


class ManyTasks(nn.Sequential):
    """The layers of such a network as one that also takes ``(tasks, points, *input)``, with parameters that have that axis.

    Parameters without that axis are shared by all tasks.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(points, ways)``, or ``(tasks, points, ways)``, which has batch norm use the statistics of the batch."""
        if x.ndim == 5 and (parts := _parts(self)) and all(_uses_the_batch(block.norm) for block in parts.blocks):
            return _forward(parts, x)
        return super().forward(x)


class _Block(NamedTuple):
    convolution: nn.Conv2d
    norm: nn.BatchNorm2d
    slope: float
    pool: bool


class _Parts(NamedTuple):
    blocks: list[_Block]
    mean: bool  # over the last map
    linear: nn.Linear


def _layers(model: nn.Sequential) -> Iterator[nn.Module]:
    """The layers in the order in which they are called, those of each ``nn.Sequential`` inside in its place."""
    for layer in model:
        if type(layer) is nn.Sequential:
            yield from _layers(layer)
        else:
            yield layer


def _parts(model: nn.Sequential) -> _Parts | None:
    """The layers sorted into blocks, or ``None`` if they are not those of a ``conv4``, of any depth and width."""
    blocks, layers = [], list(_layers(model))
    if any(type(layer) not in _LAYERS for layer in layers):  # a subclass may do anything
        return None
    while block := _block(layers[:4]):
        blocks.append(block)
        layers = layers[4 if block.pool else 3 :]
    mean = bool(layers) and isinstance(layers[0], nn.AdaptiveAvgPool2d) and layers[0].output_size in (1, (1, 1))
    match layers[1:] if mean else layers:
        case [nn.Flatten(start_dim=1, end_dim=-1), nn.Linear() as linear] if blocks and linear.bias is not None:
            return _Parts(blocks, mean, linear)
    return None


def _block(layers: list[nn.Module]) -> _Block | None:
    """The block that these layers begin with."""
    match layers:
        case [nn.Conv2d() as first, nn.BatchNorm2d() as norm, nn.ReLU() | nn.LeakyReLU() as activation, *rest]:
            slope = activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0
            pool = bool(rest) and isinstance(rest[0], nn.MaxPool2d)
            shape = first.kernel_size, first.padding, first.dilation, first.groups, first.padding_mode
            plain = shape == ((3, 3), (1, 1), (1, 1), 1, "zeros") and first.stride in ((1, 1), (2, 2))
            if pool and _pooling(rest[0]) != _pooling(nn.MaxPool2d(2)):
                return None
            if plain and norm.affine and slope >= 0:
                return _Block(first, norm, slope, pool)
    return None


def _uses_the_batch(norm: nn.BatchNorm2d) -> bool:
    return norm.training and (norm.running_mean is None or not norm.track_running_stats)


def _pooling(pool: nn.Module) -> tuple[object, ...]:
    return pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, pool.return_indices


def _forward(parts: _Parts, x: Tensor) -> Tensor:
    """Outputs ``(tasks, points, ways)`` for ``x`` ``(tasks, points, *input)``.

    A bias of a convolution is not added: batch norm would subtract it again, so its gradient is zero.
    """
    tasks, points = x.shape[:2]

    def each(parameter: Tensor, own_axes: int) -> Tensor:
        return parameter if parameter.ndim > own_axes else parameter.expand(tasks, *parameter.shape)  # (tasks, ...)

    def rows(parameter: Tensor, own_axes: int) -> Tensor:
        return each(parameter, own_axes).flatten(0, 1)  # (tasks * filters, ...)

    blocks = parts.blocks
    if blocks[0].pool and blocks[0].convolution.stride[0] == 1 and not x.requires_grad:
        convolve, norm, slope, _ = blocks[0]
        kernel, gamma, beta = each(convolve.weight, 4), each(norm.weight, 1), each(norm.bias, 1)
        x = first_block(x, kernel, gamma, beta, slope=slope, eps=norm.eps)
        blocks = blocks[1:]
    else:
        x = x.transpose(0, 1).flatten(1, 2)  # (points, tasks * channels, height, width)
        x = x.contiguous(memory_format=torch.channels_last)  # values of one place lie together: faster on CPU and GPU
    for convolve, norm, slope, pool in blocks:
        apply = convolution if convolve.stride[0] == 1 else strided_convolution
        x = apply(x, rows(convolve.weight, 4), groups=tasks)
        x = norm_activate(x, rows(norm.weight, 1), rows(norm.bias, 1), pool=pool, slope=slope, eps=norm.eps)
    if parts.mean:
        x = x.mean((2, 3), keepdim=True)  # (points, tasks * filters, 1, 1)
    features = x.reshape(points, tasks, -1).transpose(0, 1)  # (tasks, points, features)
    weight, bias = parts.linear.weight, parts.linear.bias
    outputs = features @ weight.mT  # (tasks, points, ways)
    return outputs + (bias[:, None] if bias.ndim == 2 else bias)


def conv4_groups(inner: InnerLoop, parameters: Parameters, tasks: TaskBatch) -> Iterator[TaskGroup]:
    """Groups of as many tasks as pay together, for a network whose batch norm takes the statistics of the batch.

    Args:
        inner: how a task is adapted; its forwards call ``ManyTasks`` without dropout.
        parameters: where every task starts, by name.
        tasks: the batch.
    """
    if not isinstance(tasks.support_x, Tensor):
        raise TypeError(f"expected the inputs of a convolution to be one tensor, got {type(tasks.support_x).__name__}")
    size = _tasks_a_call(tasks.support_x, inner)
    for first in range(0, tasks.num_tasks, size):
        yield _group(inner, parameters, tasks.select(slice(first, first + size)))


def _group(inner: InnerLoop, parameters: Parameters, tasks: TaskBatch) -> TaskGroup:
    losses = each_task(inner.loss)

    def support_loss(current: Parameters, step: int) -> Tensor:
        return losses(inner.support_forward(current, tasks.support_x, step), tasks.support_y).sum()  # ()

    def queries(piece: slice) -> Queries:
        _, _, x, y = tasks.select(piece)
        return Queries(
            tasks=piece,
            outputs=lambda current, step: inner.answers(current, x, step),  # (tasks, query, ways)
            losses=lambda outputs: losses(outputs, y),
        )

    size = _tasks_a_call(tasks.query_x, inner)
    pieces = [queries(slice(first, first + size)) for first in range(0, tasks.num_tasks, size)]
    copies = {name: _copies(value, tasks.num_tasks) for name, value in parameters.items()}
    return TaskGroup(inner, copies, support_loss, pieces)


def _copies(parameter: Tensor, tasks: int) -> Tensor:
    """``(tasks, *shape)``; kernels in the order of memory that their gradients have."""
    copies = parameter.expand(tasks, *parameter.shape)
    if parameter.ndim == 4:
        copies = copies.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    return copies


def _tasks_a_call(x: Tensor, inner: InnerLoop) -> int:
    """How many of these tasks ``(tasks, points, channels, height, width)`` go through one call."""
    pixels = PIXELS_A_CALL * (GROUPS_WITHOUT_GRAPH if inner.order == 0 else 1)
    return max(1, pixels // (x.shape[1] * x.shape[3] * x.shape[4]))
