"""A convolution with a stride of 2 as a matrix product: the patches of the images as rows, times the kernels as columns.

``_unfolded`` copies the 3 x 3 patch around every output pixel into a row. With a stride of 2 a pixel is copied 9/4 times, which
costs less than a convolution of a few small images loses; and the rows are kept: they serve four of the nine products that an
inner step and its derivative need. (With a stride of 1 a pixel is copied nine times, and a convolution is as fast.)

The three operations are those of ``convolution`` in ``block``, closed under differentiation for the same reason,
``<g, conv(x, w)> = <to_input(g, w), x> = <to_kernel(g, x), w>``; with R the rows, W the kernels and G the gradients as matrices

    conv = R W^T,        to_kernel = G^T R,

and ``to_input``, which would have to add rows back to where they came from, is left to torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["strided_convolution"]


def strided_convolution(x: Tensor, kernel: Tensor, groups: int) -> Tensor:
    """Convolution with 3 x 3 kernels, a stride of 2 and a border of one zero; can be differentiated any number of times.

    Args:
        x: ``(points, groups * inputs, height, width)``, fastest with ``torch.channels_last``.
        kernel: ``(groups * filters, inputs, 3, 3)``; each group sees only its own inputs.
        groups: how many.

    Returns:
        ``(points, groups * filters, (height + 1) // 2, (width + 1) // 2)`` in ``torch.channels_last`` order.
    """
    return _Convolution.apply(x, kernel, groups, None)


class _Convolution(torch.autograd.Function):
    """conv(x, w)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, groups: int, rows: Tensor | None) -> Tensor:
        rows = _unfolded(x, groups) if rows is None else rows
        ctx.save_for_backward(x, kernel, rows)
        ctx.groups = groups
        c = torch.bmm(rows, _matrix(kernel, groups).mT)  # (groups, points * height * width, filters) of the output
        points, _, height, width = x.shape
        maps = c.unflatten(1, (points, (height + 1) // 2, (width + 1) // 2)).permute(1, 2, 3, 0, 4)
        return maps.flatten(3).contiguous().permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel, rows = ctx.saved_tensors
        for_x = _ToInput.apply(gradient, kernel, x.shape, ctx.groups) if ctx.needs_input_grad[0] else None
        for_kernel = _ToKernel.apply(gradient, x, ctx.groups, rows) if ctx.needs_input_grad[1] else None
        return for_x, for_kernel, None, None


class _ToInput(torch.autograd.Function):
    """to_input(g, w)."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, kernel: Tensor, shape: torch.Size, groups: int) -> Tensor:
        ctx.save_for_backward(gradient, kernel)
        ctx.groups = groups
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        like = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)
        return torch.ops.aten.convolution_backward(
            gradient, like, kernel, None, [2, 2], [1, 1], [1, 1], False, [0, 0], groups, [True, False, False]
        )[0]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradient, kernel = ctx.saved_tensors
        rows = _unfolded(cotangent, ctx.groups)
        for_gradient = _Convolution.apply(cotangent, kernel, ctx.groups, rows) if ctx.needs_input_grad[0] else None
        for_kernel = _ToKernel.apply(gradient, cotangent, ctx.groups, rows) if ctx.needs_input_grad[1] else None
        return for_gradient, for_kernel, None, None


class _ToKernel(torch.autograd.Function):
    """to_kernel(g, x)."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, groups: int, rows: Tensor) -> Tensor:
        ctx.save_for_backward(gradient, x, rows)
        ctx.groups = groups
        g = gradient.permute(0, 2, 3, 1).unflatten(3, (groups, -1)).permute(3, 0, 1, 2, 4).flatten(1, 3)
        # A product that is a thin matrix is several times faster the wide way round.
        thin = rows.shape[2] < g.shape[2]
        matrix = torch.bmm(rows.mT, g).mT if thin else torch.bmm(g.mT, rows)  # (groups, filters, 9 * inputs)
        return matrix.unflatten(2, (3, 3, -1)).flatten(0, 1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x, rows = ctx.saved_tensors
        for_gradient = _Convolution.apply(x, cotangent, ctx.groups, rows) if ctx.needs_input_grad[0] else None
        for_x = _ToInput.apply(gradient, cotangent, x.shape, ctx.groups) if ctx.needs_input_grad[1] else None
        return for_gradient, for_x, None, None


def _unfolded(x: Tensor, groups: int) -> Tensor:
    """The patches of ``x``, ``(groups, points * rows * columns, 9 * inputs)``; a patch is ordered as ``(3, 3, inputs)``."""
    points, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).unflatten(3, (groups, -1))  # (points, height, width, groups, inputs)
    padded = F.pad(pixels, (0, 0, 0, 0, 1, 1, 1, 1))
    n, i, j, t, c = padded.stride()
    rows, columns = (height + 1) // 2, (width + 1) // 2
    windows = padded.as_strided(
        (groups, points, rows, columns, 3, 3, channels // groups), (t, n, 2 * i, 2 * j, i, j, c)
    )
    return windows.reshape(groups, points * rows * columns, -1)


def _matrix(kernel: Tensor, groups: int) -> Tensor:
    """Each group's kernels as rows, ``(groups, filters, 9 * inputs)``: no copy in ``torch.channels_last`` order."""
    return kernel.permute(0, 2, 3, 1).flatten(1).unflatten(0, (groups, -1))
