"""The first block of a network with max-pooling, without ever making its full-size map.

What enters this block are the images of a task, and they stay the same over all inner steps; only kernel, scale and shift
change. So whatever depends only on the images is made once. With p_j the 3 x 3 patch around pixel j as a vector, a column w of
the kernel makes the map c_j = <p_j, w>, and batch norm needs no map to know its statistics: with m and S the mean and the
covariance of the patches,

    mean of c = <m, w>,        variance of c = <w, S w>.

Scale and shift do not change which of four values is the largest (a negative scale makes it the smallest, so w changes its sign
with it), and therefore pool and norm change places:

    r = a(y),    y = scale L + shift,    L = max_q <p_q, w>,    scale = gamma s,    shift = beta - gamma s mean,

with s = 1 / sqrt(variance + eps), q the four pixels of a window and a the (leaky) ReLU. Four thin matrix products and their
maximum, a few rows at a time so that nothing leaves the cache, take the place of convolution, norm and pool of a map four times
the size.

Derivatives of r by w, scale and shift, for given patches. The maximum selects rows, L = C w, and the slope D = a' is 0 or 1 (or
the leak): both are constants. With v the gradient that arrives at r and h = D v, sums over the rows,

    d w = C^T (h scale),        d scale = sum h L,        d shift = sum h.

Let u, e, z arrive at these three. They ask for the gradient of sum h (scale C u + e L + z):

    d v = D (scale C u + e L + z),        d scale = sum h C u,        d w = C^T (h e).

Batch norm's statistics are left to autograd: they are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Patches", "first_block", "patches_of"]

_aten = torch.ops.aten
ROWS_TOGETHER = 1 << 12  # patches of a task that are taken to float64 at once
ENTRIES_TOGETHER = 1 << 18  # of the pooled map, in one piece: so that what a piece needs stays in a core's own cache


class Patches(NamedTuple):
    """What the first block has to know of the images of several tasks.

    Attributes:
        rows: the patches at the four pixels of each pooling window, ``(4, tasks, points * height * width, 9 * channels)`` with
            the height and width of the pooled map; a patch is ordered as ``(3, 3, channels)``.
        mean: of all patches of a task, ``(tasks, 9 * channels)``.
        covariance: of all patches of a task, ``(tasks, 9 * channels, 9 * channels)``.
    """

    rows: Tensor
    mean: Tensor
    covariance: Tensor


_made: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # images -> (their version, Patches), while the images live


def patches_of(x: Tensor) -> Patches:
    """The patches of images ``(tasks, points, channels, height, width)``; those of the same tensor are made once."""
    if x.is_inference():  # such a tensor does not say whether it was changed
        return _patches(x)
    version, found = _made.get(x, (None, None))
    if version != x._version:
        found = _patches(x)
        _made[x] = x._version, found
    return found


def _patches(x: Tensor) -> Patches:
    tasks, points, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 1, 3, 4, 2), (0, 0, 1, 1, 1, 1)).contiguous()
    t, n, i, j, c = padded.stride()
    shape = tasks, points, height, width, 3, 3, channels
    windows = padded.as_strided(shape, (t, n, i, j, i, j, c))
    every = windows.reshape(tasks, points * height * width, -1)
    mean, covariance = _moments(every)
    even = windows[:, :, : height // 2 * 2, : width // 2 * 2]  # a pool leaves out what is over
    corners = [even[:, :, row::2, column::2].flatten(4) for row in (0, 1) for column in (0, 1)]
    return Patches(torch.stack([corner.flatten(1, 3) for corner in corners]), mean, covariance)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(tasks, entries)`` and covariance ``(tasks, entries, entries)`` of ``(tasks, n, entries)``, in float64.

    The variance of a kernel's map is a small difference of large parts of the covariance: float32 would lose two digits of it.
    """
    mean = rows.mean(1, dtype=torch.float64)  # (tasks, entries)
    covariance = mean.new_zeros(*mean.shape, mean.shape[1])  # (tasks, entries, entries)
    for piece in rows.split(ROWS_TOGETHER, 1):
        centred = piece - mean[:, None]  # in float64
        covariance.baddbmm_(centred.mT, centred)
    return mean, covariance / rows.shape[1]


def first_block(x: Tensor, kernel: Tensor, gamma: Tensor, beta: Tensor, *, slope: float, eps: float) -> Tensor:
    """Convolution (3 x 3, border of one zero), batch norm, 2 x 2 max-pool and (leaky) ReLU; can be differentiated twice.

    Args:
        x: images ``(tasks, points, channels, height, width)``, constants of the derivatives.
        kernel: ``(tasks, filters, channels, 3, 3)``.
        gamma: scale ``(tasks, filters)``.
        beta: shift ``(tasks, filters)``.
        slope: of the activation below zero, not negative.
        eps: of batch norm.

    Returns:
        ``(points, tasks * filters, height // 2, width // 2)`` in ``torch.channels_last`` order.
    """
    patches = patches_of(x)
    w = kernel.permute(0, 3, 4, 2, 1).flatten(1, 3)  # (tasks, 9 * channels, filters)
    exact = w.to(patches.mean.dtype)
    mean = (patches.mean[:, None] @ exact)[:, 0]  # (tasks, filters)
    variance = (exact * (patches.covariance @ exact)).sum(1)  # (tasks, filters)
    scale = gamma * (variance + eps).rsqrt()
    shift = (beta - scale * mean).to(w.dtype)
    sign = torch.where(gamma.detach() < 0, -1.0, 1.0).to(w.dtype)
    signed = (w * sign[:, None]).contiguous(), (scale.to(w.dtype) * sign)[:, None], shift[:, None]
    r = _Block.apply(*signed, patches.rows, slope)  # (tasks, points * height * width, filters) of the pooled map
    _, points, _, height, width = x.shape
    maps = r.unflatten(1, (points, height // 2, width // 2)).permute(1, 2, 3, 0, 4)
    return maps.flatten(3).permute(0, 3, 1, 2)


class _Block(torch.autograd.Function):
    """r = a(scale max_q (rows_q w) + shift); of equals the first is the largest."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, scale: Tensor, shift: Tensor, rows: Tensor, slope: float) -> Tensor:
        r = w.new_empty(*rows.shape[1:3], w.shape[2])
        # L, and how far the second exceeds the first, the fourth the third, and the larger of the latter that of the former.
        largest, *margins = kept = [torch.empty_like(r) for _ in range(4)]
        for piece in _pieces(r):
            first, second, third, fourth = (patch[piece] @ w for patch in rows)
            torch.sub(second, first, out=margins[0][piece])
            torch.sub(fourth, third, out=margins[1][piece])
            lower, upper = torch.maximum(first, second, out=first), torch.maximum(third, fourth, out=third)
            torch.sub(upper, lower, out=margins[2][piece])
            torch.maximum(lower, upper, out=largest[piece])
            r[piece] = _aten.leaky_relu_(torch.addcmul(shift, largest[piece], scale), slope)
        ctx.save_for_backward(w, scale, shift, rows, *kept)
        ctx.slope = slope
        return r

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        return *_BlockBackward.apply(v, *ctx.saved_tensors, ctx.slope), None, None


class _BlockBackward(torch.autograd.Function):
    """d w, d scale and d shift from v, as a function of v, w and scale that has a derivative of its own."""

    @staticmethod
    def forward(
        ctx: Any,
        v: Tensor,
        w: Tensor,
        scale: Tensor,
        shift: Tensor,
        rows: Tensor,
        largest: Tensor,
        first: Tensor,
        second: Tensor,
        third: Tensor,
        slope: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(v, scale, shift, rows, largest, first, second, third)
        ctx.slope = slope
        d_w, d_scale, d_shift = torch.zeros_like(w), torch.zeros_like(scale), torch.zeros_like(shift)
        for piece in _pieces(v):
            y = torch.addcmul(shift, largest[piece], scale)
            h = _aten.leaky_relu_backward(v[piece], y, slope, False)
            d_shift += h.sum(1, keepdim=True)
            d_scale += torch.mul(h, largest[piece], out=y).sum(1, keepdim=True)
            _add_chosen(d_w, h.mul_(scale), rows, (first, second, third), piece)
        return d_w, d_scale, d_shift

    @staticmethod
    def backward(ctx: Any, u: Tensor, e: Tensor, z: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("expected at most two derivatives of a conv4 block, got create_graph=True in the second")
        v, scale, shift, rows, largest, *margins = ctx.saved_tensors
        d_v, d_w, d_scale = torch.empty_like(v), torch.zeros_like(u), torch.zeros_like(scale)
        for piece in _pieces(v):
            y = torch.addcmul(shift, largest[piece], scale)
            h = _aten.leaky_relu_backward(v[piece], y, ctx.slope, False)
            first, second, third, fourth = (patch[piece] @ u for patch in rows)
            lower = first.add_(_where_positive(second.sub_(first), margins[0][piece]))
            upper = third.add_(_where_positive(fourth.sub_(third), margins[1][piece]))
            chosen = lower.add_(_where_positive(upper.sub_(lower), margins[2][piece]))  # C u
            d_scale += (h * chosen).sum(1, keepdim=True)
            at_y = torch.addcmul(z, chosen, scale).addcmul_(largest[piece], e)
            d_v[piece] = _aten.leaky_relu_backward(at_y, y, ctx.slope, False)
            _add_chosen(d_w, h.mul_(e), rows, margins, piece)
        return d_v, d_w, d_scale, None, None, None, None, None, None, None


def _add_chosen(total: Tensor, g: Tensor, rows: Tensor, margins: Sequence[Tensor], piece: tuple[slice, slice]) -> None:
    """Add C^T g of this piece."""
    upper = _where_positive(g, margins[2][piece])
    lower = g.sub_(upper)
    fourth, second = _where_positive(upper, margins[1][piece]), _where_positive(lower, margins[0][piece])
    for patch, part in zip(rows, (lower.sub_(second), second, upper.sub_(fourth), fourth), strict=True):
        total.baddbmm_(patch[piece].mT, part)


def _pieces(values: Tensor) -> list[tuple[slice, slice]]:
    """Slices of ``(tasks, rows, filters)`` that a cache can hold."""
    length = max(1, ENTRIES_TOGETHER // (values.shape[0] * values.shape[2]))
    return [(slice(None), slice(first, first + length)) for first in range(0, values.shape[1], length)]


def _where_positive(values: Tensor, condition: Tensor) -> Tensor:
    return _aten.threshold_backward(values, condition, 0)
