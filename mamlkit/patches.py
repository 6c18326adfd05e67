"""A convolution as one matrix product: the patches of an image as rows, times the kernel as a matrix.

``unfolded`` copies the 3 x 3 patch around every output pixel into a row; its transpose ``folded`` adds rows back to where they
came from, ``<unfolded(x), p> = <x, folded(p)>``. Each is linear, so each is the other's derivative. ``product`` is bilinear in
rows and kernel, and closed under differentiation like ``convolution`` in ``fused_block``: three products, each the derivative of
the others. (Autograd knows all this of ``@``, but returns some kernels transposed, and adding two that lie differently in memory
is slow.)

With a stride of 2 a pixel is copied 9/4 times, which costs less than the convolution of a few small images loses. The patches
are kept and serve four of the nine products that an inner step and its derivative need. With a stride of 1 a pixel is copied
nine times, and a convolution is as fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["folded", "product", "unfolded"]


def unfolded(x: Tensor, tasks: int, stride: int) -> Tensor:
    """The 3 x 3 patches of images with a border of one zero; can be differentiated any number of times.

    Args:
        x: ``(points, tasks * channels, height, width)``, fastest with ``torch.channels_last``.
        tasks: how many share the axis of channels.
        stride: from one patch to the next, 1 or 2.

    Returns:
        ``(tasks, points * rows * columns, 9 * channels)`` with ``rows = (height - 1) // stride + 1`` and ``columns`` alike; a
        patch is ordered as ``(3, 3, channels)``.
    """
    return _Unfolded.apply(x, tasks, stride)


def folded(patches: Tensor, shape: torch.Size, tasks: int, stride: int) -> Tensor:
    """The transpose of ``unfolded``: images of this shape, each pixel the sum of its copies."""
    return _Folded.apply(patches, shape, tasks, stride)


class _Unfolded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, tasks: int, stride: int) -> Tensor:
        ctx.layout = x.shape, tasks, stride
        points, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).unflatten(3, (tasks, -1))  # (points, height, width, tasks, channels)
        padded = F.pad(pixels, (0, 0, 0, 0, 1, 1, 1, 1))
        n, i, j, t, c = padded.stride()
        rows, columns = _places(height, stride), _places(width, stride)
        windows = padded.as_strided(
            (tasks, points, rows, columns, 3, 3, channels // tasks), (t, n, stride * i, stride * j, i, j, c)
        )
        return windows.reshape(tasks, points * rows * columns, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Folded.apply(gradient, *ctx.layout), None, None


class _Folded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, shape: torch.Size, tasks: int, stride: int) -> Tensor:
        ctx.layout = tasks, stride
        points, channels, height, width = shape
        rows, columns = _places(height, stride), _places(width, stride)
        windows = patches.view(tasks, points, rows, columns, 3, 3, -1).permute(1, 2, 3, 0, 6, 4, 5)
        padded = patches.new_empty(points, height + 2, width + 2, tasks, channels // tasks)
        padded[:, stride * rows :] = 0  # the places that no patch below is the first to write to
        padded[:, : stride * rows, stride * columns :] = 0
        for i in range(3):
            for j in range(3):
                here = padded[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
                here.copy_(windows[..., i, j]) if max(i, j) < stride else here.add_(windows[..., i, j])
        return padded[:, 1:-1, 1:-1].flatten(3).contiguous().permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return _Unfolded.apply(cotangent, *ctx.layout), None, None, None


def _places(pixels: int, stride: int) -> int:
    """How many patches fit along an axis."""
    return (pixels - 1) // stride + 1


def product(rows: Tensor, kernel: Tensor) -> Tensor:
    """``rows @ kernel.mT``: ``(tasks, rows, inputs)`` and ``(tasks, filters, inputs)`` to ``(tasks, rows, filters)``."""
    return _Product.apply(rows, kernel)


class _Product(torch.autograd.Function):
    """R W^T."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(rows, kernel)
        return torch.bmm(rows, kernel.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, kernel = ctx.saved_tensors
        for_rows = _ToRows.apply(gradient, kernel) if ctx.needs_input_grad[0] else None
        for_kernel = _ToKernel.apply(gradient, rows) if ctx.needs_input_grad[1] else None
        return for_rows, for_kernel


class _ToRows(torch.autograd.Function):
    """G W."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(gradient, kernel)
        return torch.bmm(gradient, kernel)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradient, kernel = ctx.saved_tensors
        for_gradient = _Product.apply(cotangent, kernel) if ctx.needs_input_grad[0] else None
        for_kernel = _ToKernel.apply(gradient, cotangent) if ctx.needs_input_grad[1] else None
        return for_gradient, for_kernel


class _ToKernel(torch.autograd.Function):
    """G^T R."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(gradient, rows)
        return torch.bmm(gradient.mT, rows)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradient, rows = ctx.saved_tensors
        for_gradient = _Product.apply(rows, cotangent) if ctx.needs_input_grad[0] else None
        for_rows = _ToRows.apply(gradient, cotangent) if ctx.needs_input_grad[1] else None
        return for_gradient, for_rows
