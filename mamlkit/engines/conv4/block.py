"""The two pieces of a convolutional block, with derivatives of their derivatives written by hand.

On a CPU, the second derivative of such a network takes longer in batch norm and pooling than in the convolutions: autograd
differentiates each of them a second time by a chain of general formulas, and each link reads and writes the whole activation.
Here the same second derivatives take a few passes. The rest of the network is left to autograd.

``convolution`` is bilinear in image and kernel, so three operations are closed under differentiation: with ``<,>`` the sum of
products over all entries, ``<g, conv(x, w)> = <to_input(g, w), x> = <to_kernel(g, x), w>`` defines the other two, and the
derivative of each of the three is made of the other two.

``norm_activate`` is, channel by channel, over the n values c of that channel in the batch,

    x = (c - mean) s,  s = 1 / sqrt(variance + eps)     batch norm,
    y = gamma x + beta,
    r = a(S y)                                          S: 2 x 2 max-pool, or nothing;  a: ReLU or leaky ReLU

(Ioffe & Szegedy, 2015, arXiv:1502.03167, algorithm 1). The pool comes before the activation: both orders give the same, as the
activation never decreases, and this one activates a quarter of the values. For given inputs S only selects, and the slope D = a'
is 0 or 1 (or the leak): both are constants of the derivatives that follow, which hold wherever autograd's own hold.

First derivative. With v the gradient that arrives at r, h = S^T D v the one at y, and a bar for the mean over the n values,

    d beta = n a,  a = bar(h)        d gamma = n b,  b = bar(h x)        d c = gamma s (h - a - b x).

Second derivative. Let u, w, z arrive at d c, d gamma, d beta. They ask for the gradient of

    Phi = <u, d c> + w d gamma + z d beta = n (gamma s E + w b + z a),     E = bar(u h) - bar(u) a - d b,   d = bar(u x).

h enters through a, b and bar(u h), gamma directly, and c through x and s. With dx/dc as in batch norm and ds/dc = -s^2 x / n:

    d v     = D S (gamma s (u - bar(u) - d x) + w x + z)
    d gamma = n s E
    d c     = s (w - gamma s d) h - gamma s^2 b u + s (gamma s (bar(u) b + a d) - w a) - (s w b + gamma s^2 (E - 2 b d)) x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["convolution", "norm_activate"]

_aten = torch.ops.aten


def convolution(x: Tensor, kernel: Tensor, groups: int = 1) -> Tensor:
    """Convolution with 3 x 3 kernels and a border of one zero, without bias.

    Args:
        x: ``(points, groups * inputs, height, width)``.
        kernel: ``(groups * filters, inputs, 3, 3)``; each group sees only its own inputs.
        groups: how many.
    """
    return _Convolution.apply(x, kernel, groups)


class _Convolution(torch.autograd.Function):
    """conv(x, w)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.groups = groups
        return _aten.convolution(x, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0], groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        for_x = _ToInput.apply(gradient, kernel, x.shape, ctx.groups) if ctx.needs_input_grad[0] else None
        for_kernel = _ToKernel.apply(gradient, x, kernel.shape, ctx.groups) if ctx.needs_input_grad[1] else None
        return for_x, for_kernel, None


class _ToInput(torch.autograd.Function):
    """to_input(g, w); by the definition <c, to_input(g, w)> = <g, conv(c, w)>, so conv and to_kernel are its derivatives."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, kernel: Tensor, shape: torch.Size, groups: int) -> Tensor:
        ctx.save_for_backward(gradient, kernel)
        ctx.groups = groups
        like = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=_layout(gradient))
        return _convolution_backward(gradient, like, kernel, groups, 0)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradient, kernel = ctx.saved_tensors
        for_gradient = _Convolution.apply(cotangent, kernel, ctx.groups) if ctx.needs_input_grad[0] else None
        wanted = ctx.needs_input_grad[1]
        for_kernel = _ToKernel.apply(gradient, cotangent, kernel.shape, ctx.groups) if wanted else None
        return for_gradient, for_kernel, None, None


class _ToKernel(torch.autograd.Function):
    """to_kernel(g, x); by the definition <c, to_kernel(g, x)> = <g, conv(x, c)>, so conv and to_input are its derivatives."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, shape: torch.Size, groups: int) -> Tensor:
        ctx.save_for_backward(gradient, x)
        ctx.groups = groups
        like = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=_layout(gradient))
        return _convolution_backward(gradient, x, like, groups, 1)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x = ctx.saved_tensors
        for_gradient = _Convolution.apply(x, cotangent, ctx.groups) if ctx.needs_input_grad[0] else None
        for_x = _ToInput.apply(gradient, cotangent, x.shape, ctx.groups) if ctx.needs_input_grad[1] else None
        return for_gradient, for_x, None, None


def _convolution_backward(gradient: Tensor, x: Tensor, kernel: Tensor, groups: int, which: int) -> Tensor:
    """torch's own first derivative, only for the input (0) or the kernel (1), of which only the shape matters."""
    wanted = [which == 0, which == 1, False]
    found = _aten.convolution_backward(gradient, x, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0], groups, wanted)
    return found[which]


def norm_activate(
    c: Tensor, gamma: Tensor, beta: Tensor, *, pool: bool, slope: float = 0.0, eps: float = 1e-5
) -> Tensor:
    """Batch norm with the batch's own statistics, 2 x 2 max-pool if wanted, and (leaky) ReLU; can be differentiated twice.

    Args:
        c: ``(points, channels, height, width)``, fastest with ``torch.channels_last``.
        gamma: scale ``(channels,)``.
        beta: shift ``(channels,)``.
        pool: whether to halve height and width (rounded down).
        slope: of the activation below zero, not negative; 0 is ReLU.
        eps: of batch norm.

    Returns:
        ``(points, channels, height // 2, width // 2)``, or the shape of ``c`` without pool, in ``torch.channels_last`` order.

    Raises:
        ValueError: for one value per channel, which has no variance.
    """
    if c.numel() == c.shape[1]:
        raise ValueError(f"expected more than 1 value per channel for batch norm, got a map of shape {tuple(c.shape)}")
    return _NormActivate.apply(c.contiguous(memory_format=torch.channels_last), gamma, beta, pool, slope, eps)


class _NormActivate(torch.autograd.Function):
    """r = a(S y)."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, gamma: Tensor, beta: Tensor, pool: bool, slope: float, eps: float) -> Tensor:
        rows = _rows(c)  # (n, channels)
        mean, variance = _statistics(rows)
        s = (variance + eps).rsqrt()  # (channels,)
        scale = gamma * s
        y = torch.addcmul(beta - scale * mean, rows, scale)  # (n, channels)
        place = None  # where in c lies what S selects
        if pool:
            maps, chosen = _aten.max_pool2d_with_indices(_maps(y, c.shape), [2, 2], [2, 2])
            y, place = _rows(maps), _places(chosen, c.shape)
        r = _aten.leaky_relu_(y, slope)
        ctx.save_for_backward(c, gamma, mean, s, r, place)
        ctx.slope = slope
        points, channels, height, width = c.shape
        return _maps(r, (points, channels, height // 2, width // 2) if pool else c.shape)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        return *_NormActivateBackward.apply(v, *ctx.saved_tensors, ctx.slope), None, None, None


class _NormActivateBackward(torch.autograd.Function):
    """d c, d gamma and d beta from v, as a function of v, c and gamma that has a derivative of its own."""

    @staticmethod
    def forward(
        ctx: Any,
        v: Tensor,
        c: Tensor,
        gamma: Tensor,
        mean: Tensor,
        s: Tensor,
        r: Tensor,
        place: Tensor | None,
        slope: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = _rows(c)  # (n, channels)
        n = len(rows)
        dv = _aten.leaky_relu_backward(_rows(v), r, slope, True)  # D v: the sign of r is that of what was activated
        selected = _at(rows, place)  # S c
        d_beta, d_gamma = _sums(dv, selected, mean, s)  # of h = S^T D v, which is zero except where S selects
        scale, a, b = gamma * s, d_beta / n, d_gamma / n  # (channels,)
        # x = s c - s mean, so that no array of x is needed
        d_c = torch.addcmul(scale * (b * s * mean - a), rows, -scale * b * s)  # (n, channels)
        _add_at(d_c, place, dv, scale)
        ctx.save_for_backward(c, gamma, mean, s, r, place, dv, selected, a, b)
        ctx.slope, ctx.shape = slope, v.shape
        return _maps(d_c, c.shape), d_gamma, d_beta

    @staticmethod
    def backward(ctx: Any, u: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # a third derivative would be wrong: what follows is no function of autograd's
            raise RuntimeError("expected at most two derivatives of a conv4 block, got create_graph=True in the second")
        c, gamma, mean, s, r, place, dv, selected, a, b = ctx.saved_tensors
        rows, u = _rows(c), _rows(u)  # (n, channels)
        n = len(rows)
        sum_u, sum_ux = _sums(u, rows, mean, s)
        u_bar, d = sum_u / n, sum_ux / n  # (channels,), as everything that is not an activation
        su = _at(u, place)  # S u
        scale = gamma * s
        e = (su * dv).sum(0) / n - u_bar * a - d * b  # E; <u, h> = <S u, D v>
        d_gamma = n * s * e

        # D S (gamma s u + (w - gamma s d) x + z - gamma s bar(u)), where S of a constant is that constant
        at_x = w - scale * d
        at_y = torch.addcmul(z - scale * u_bar - at_x * s * mean, selected, at_x * s).addcmul_(su, scale)
        d_v = _aten.leaky_relu_backward(at_y, r, ctx.slope, True)

        for_x = -(w * b + scale * (e - 2 * b * d)) * s
        constant = s * (scale * (u_bar * b + a * d) - w * a)
        d_c = torch.addcmul(constant - for_x * s * mean, rows, for_x * s).addcmul_(u, -scale * s * b)
        _add_at(d_c, place, dv, s * at_x)
        return _maps(d_v, ctx.shape), _maps(d_c, c.shape), d_gamma, None, None, None, None, None


def _layout(values: Tensor) -> torch.memory_format:
    """In which order the entries lie in memory."""
    last = values.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _rows(maps: Tensor) -> Tensor:
    """``(points, channels, height, width)`` as ``(points * height * width, channels)``: no copy in channels-last order."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _maps(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo ``_rows``."""
    points, channels, height, width = shape
    return rows.view(points, height, width, channels).permute(0, 3, 1, 2)


def _places(chosen: Tensor, shape: torch.Size) -> Tensor:
    """Where in the rows' memory the chosen values lie, ``(rows of the pooled map * channels,)``.

    Args:
        chosen: the place of each within its map, ``(points, channels, height // 2, width // 2)``.
        shape: of the maps, ``(points, channels, height, width)``.
    """
    points, channels, height, width = shape
    first = torch.arange(points, device=chosen.device)[:, None, None, None] * (height * width)  # row of each point
    offset = first * channels + torch.arange(channels, device=chosen.device)  # (points, 1, 1, channels)
    return torch.add(offset, chosen.permute(0, 2, 3, 1), alpha=channels).flatten()


def _at(rows: Tensor, place: Tensor | None) -> Tensor:
    """S: the chosen values of ``(n, channels)``, as ``(rows of the pooled map, channels)``; all of them without a pool."""
    return rows if place is None else rows.view(-1).index_select(0, place).view(-1, rows.shape[1])


def _add_at(total: Tensor, place: Tensor | None, values: Tensor, scale: Tensor) -> None:
    """Add ``scale * S^T values`` to ``total`` ``(n, channels)``."""
    if place is None:
        total.addcmul_(values, scale)
    else:
        total.view(-1).index_add_(0, place, (values * scale).flatten())


# torch's sums over the rows of a float32 matrix on a CPU add one row after the other, and their rounding errors grow with the
# number of rows: 1/std of a small task was off by 1e-5. Here every row of a block is a channel of its own, so that few are added
# one after the other; then the rows of the block are added pairwise.
ADDED_IN_TURN = 100


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance ``(channels,)`` of ``(n, channels)``."""
    if rows.device.type != "cpu":
        variance, mean = torch.var_mean(rows, 0, correction=0)
        return mean, variance
    means, variances = torch.batch_norm_update_stats(_blocked(rows), None, None, 0.0)  # (block * channels,)
    means, variances = means.view(-1, rows.shape[1]), variances.view(-1, rows.shape[1])  # (block, channels)
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def _sums(values: Tensor, rows: Tensor, mean: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of h and of h x over the rows, ``(channels,)``, in one pass; h are the values, x = (rows - mean) s."""
    channels = rows.shape[1]
    values, rows = _blocked(values), _blocked(rows)
    times = rows.shape[1] // channels
    _, sums_x, sums = _aten.native_batch_norm_backward(
        values, rows, None, None, None, mean.repeat(times), s.repeat(times), True, 0.0, [False, True, True]
    )
    return sums.view(times, channels).sum(0), sums_x.view(times, channels).sum(0)


def _blocked(rows: Tensor) -> Tensor:
    """``(n, channels)`` as one image with ``block * channels`` channels and n / block pixels, in channels-last order."""
    n, channels = rows.shape
    block = next(size for size in range(math.ceil(n / ADDED_IN_TURN), n + 1) if n % size == 0)
    wide = block * channels
    return rows.as_strided((1, wide, n // block, 1), (rows.numel(), 1, wide, wide))
