"""The two pieces of a convolutional block, with derivatives of their derivatives written by hand.

On a CPU the second derivative of such a network spends its time in batch norm and pooling more than in the convolutions: autograd
differentiates each of them a second time by a chain of general formulas, and each link reads and writes the whole activation.
Here the same second derivatives are a few passes. Everything else of the network is left to autograd.

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

from typing import Any

import torch
from torch import Tensor

__all__ = ["convolution", "norm_activate"]

_aten = torch.ops.aten


def convolution(x: Tensor, kernel: Tensor, groups: int = 1) -> Tensor:
    """Convolution with 3 x 3 kernels and a border of one zero, without bias.

    Args:
        x: ``(points, groups * inputs, height, width)``.
        kernel: ``(groups * filters, inputs, 3, 3)``; each group sees its own inputs only.
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
    """torch's own first derivative, for the input (0) or the kernel (1) alone; of that one only the shape counts."""
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
        ``(points, channels, height // 2, width // 2)``, or the shape of ``c`` without pool.
    """
    return _NormActivate.apply(c, gamma, beta, pool, slope, eps)


class _NormActivate(torch.autograd.Function):
    """r = a(S y)."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, gamma: Tensor, beta: Tensor, pool: bool, slope: float, eps: float) -> Tensor:
        y, mean, s = _aten.native_batch_norm(c, gamma, beta, None, None, True, 0.0, eps)
        chosen = None  # which value of each 2 x 2 window S selects, as its place in the map
        if pool:
            y, chosen = _aten.max_pool2d_with_indices(y, [2, 2], [2, 2])
        r = _aten.leaky_relu_(y, slope)
        ctx.save_for_backward(c, gamma, mean, s, r, chosen)
        ctx.slope, ctx.eps = slope, eps
        return r

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        return *_NormActivateBackward.apply(v, *ctx.saved_tensors, ctx.slope, ctx.eps), None, None, None


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
        chosen: Tensor | None,
        slope: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        v = v.contiguous(memory_format=_layout(c))  # two layouts in one operation are ten times slower
        dv = _aten.leaky_relu_backward(v, r, slope, True)  # D v: the sign of r is that of what was activated
        h = dv if chosen is None else _unpooled(dv, c, chosen)
        d_c, d_gamma, d_beta = _aten.native_batch_norm_backward(
            h, c, gamma, None, None, mean, s, True, eps, [True, True, True]
        )
        ctx.save_for_backward(dv, c, gamma, mean, s, r, chosen, d_gamma, d_beta)
        ctx.slope, ctx.eps = slope, eps
        return d_c, d_gamma, d_beta

    @staticmethod
    def backward(ctx: Any, u: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # a third derivative would be wrong: what follows is no function of autograd's
            raise RuntimeError("expected at most two derivatives of a conv4 block, got create_graph=True in the second")
        dv, c, gamma, mean, s, r, chosen, d_gamma, d_beta = ctx.saved_tensors
        n, u = c.numel() // c.shape[1], u.contiguous(memory_format=_layout(c))
        a, b = d_beta / n, d_gamma / n  # (channels,), as everything that is not an activation
        # One pass over u and c gives both sums: n d = <u, x> and n bar(u).
        _, sum_ux, sum_u = _aten.native_batch_norm_backward(
            u, c, None, None, None, mean, s, True, ctx.eps, [False, True, True]
        )
        d, u_bar = sum_ux / n, sum_u / n
        su = u if chosen is None else _pooled(u, chosen)  # S u
        sx = (c if chosen is None else _pooled(c, chosen)) * _map(s) - _map(mean * s)  # S x
        gs = gamma * s
        e = (su * dv).sum((0, 2, 3)) / n - u_bar * a - d * b  # E; <u, h> = <S u, D v>
        d_gamma_again = n * s * e

        # D S (gamma s u + (w - gamma s d) x + z - gamma s bar(u)), where S of a constant is that constant
        at_y = torch.addcmul(_map(z - gs * u_bar), su, _map(gs)).addcmul_(sx, _map(w - gs * d))
        d_v = _aten.leaky_relu_backward(at_y, r, ctx.slope, True)

        for_x = -(w * b + gs * (e - 2 * b * d)) * s
        constant = s * (gs * (u_bar * b + a * d) - w * a)
        # x = s c - s mean, so that no array of x is needed
        d_c = torch.addcmul(_map(constant - for_x * s * mean), c, _map(for_x * s)).addcmul_(u, _map(-gs * s * b))
        dv_scaled = dv * _map(s * (w - gs * d))
        if chosen is None:
            d_c += dv_scaled
        else:  # h = S^T D v is zero except where S selects
            d_c.flatten(2).scatter_add_(2, chosen.flatten(2), dv_scaled.flatten(2))
        return d_v, d_c, d_gamma_again, None, None, None, None, None, None


def _layout(values: Tensor) -> torch.memory_format:
    """In which order the entries lie in memory."""
    last = values.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _map(channels: Tensor) -> Tensor:
    """``(channels,)`` so that it meets ``(points, channels, height, width)``."""
    return channels[:, None, None]


def _pooled(values: Tensor, chosen: Tensor) -> Tensor:
    """S: the chosen value of each window."""
    return values.flatten(2).gather(2, chosen.flatten(2)).view_as(chosen)


def _unpooled(values: Tensor, like: Tensor, chosen: Tensor) -> Tensor:
    """S^T: each value back to its place, zero elsewhere."""
    return _aten.max_pool2d_with_indices_backward(values, like, [2, 2], [2, 2], [0, 0], [1, 1], False, chosen)
