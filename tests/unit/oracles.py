"""What mamlkit is compared with: the same mathematics written again with plain torch and numpy. Nothing here imports mamlkit.

Networks are functions of an explicit list of tensors, batch norm and the losses are written out, and the meta-gradient comes
from a plain loop (``meta_gradient``), from its definition as a limit (``directional_derivative``), from a product of explicit
Hessians (``meta_gradient_by_hessians``), or from numpy alone (``quadratic_by_hand``).
"""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

# Losses


def mean_squared_error(outputs, targets):
    return (outputs - targets).pow(2).sum() / targets.numel()


def cross_entropy(outputs, labels):
    chosen = outputs[torch.arange(len(labels)), labels]
    return (torch.logsumexp(outputs, 1) - chosen).sum() / len(labels)


# Networks as functions of a list of tensors, in the order of ``module.parameters()``


def mlp_forward(w, x):
    hidden = torch.clamp(x @ w[0].T + w[1], min=0)
    hidden = torch.clamp(hidden @ w[2].T + w[3], min=0)
    return hidden @ w[4].T + w[5]


def tanh_forward(w, x):
    return torch.tanh(x @ w[0].T + w[1]) @ w[2].T + w[3]


def conv_forward(w, x):
    """Twice: convolution, batch norm over the batch, ReLU, 2x2 max-pool; then a linear layer."""
    for kernel, bias, gamma, beta in (w[0:4], w[4:8]):
        x = F.conv2d(x, kernel, bias, padding=1)
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt() * gamma[:, None, None] + beta[:, None, None]
        x = torch.clamp(x, min=0)
        n, c, height, width = x.shape
        x = x.reshape(n, c, height // 2, 2, width // 2, 2).amax((3, 5))
    return x.flatten(1) @ w[8].T + w[9]


class Problem(NamedTuple):
    """A module, the same network as a function, both versions of its loss, and a batch of tasks."""

    module: nn.Module
    forward: object
    loss: object  # for the module: torch.nn.functional
    plain_loss: object  # the oracle's
    tasks: tuple  # support_x, support_y, query_x, query_y
    alpha: float


def problem(name: str, num_tasks: int = 3, seed: int = 0) -> Problem:
    """One of ``PROBLEMS`` in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "conv-batchnorm":
            module = nn.Sequential(
                nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(16, 4),
                nn.Identity(),  # no layer of conv4: the general path, not the one of test_conv4_grouped.py
            )  # fmt: skip
        elif name == "mlp-cross-entropy":
            module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
        elif name == "mlp-mse":
            module = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        elif name == "tanh-mse":
            module = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
        module = module.double()
        for parameter in module.parameters():  # away from the zeros and ones that batch norm starts with
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    points = {"support": 5, "query": 7}
    parts = []
    for size in points.values():
        if name == "conv-batchnorm":
            parts.append(torch.randn((num_tasks, size, 2, 8, 8), generator=generator, dtype=torch.float64))
        else:
            width = 3 if name == "mlp-cross-entropy" else 1
            parts.append(torch.randn((num_tasks, size, width), generator=generator, dtype=torch.float64))
        if name.endswith("mse"):
            parts.append(torch.randn((num_tasks, size, 1), generator=generator, dtype=torch.float64))
        else:
            parts.append(torch.randint(0, 4, (num_tasks, size), generator=generator))
    forward = {"conv-batchnorm": conv_forward, "tanh-mse": tanh_forward}.get(name, mlp_forward)
    regression = name.endswith("mse")
    return Problem(
        module,
        forward,
        F.mse_loss if regression else F.cross_entropy,
        mean_squared_error if regression else cross_entropy,
        tuple(parts),
        0.1,
    )


PROBLEMS = ("mlp-mse", "mlp-cross-entropy", "conv-batchnorm")


# The meta-gradient, four times


def plain_inner_loop(forward, loss, theta, x, y, alpha, steps, create_graph):
    """theta, theta^(1), ..., theta^(K), as lists of tensors."""
    path = [theta]
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(forward(path[-1], x), y), path[-1], create_graph=create_graph)
        path.append([w - alpha * g for w, g in zip(path[-1], gradients, strict=True)])
    return path


def meta_gradient(forward, loss, theta, tasks, alpha, steps, weights=None):
    """The mean over tasks of the weighted query losses, and its derivative, with one graph for the whole batch.

    ``weights`` has one number for each step; only the last step counts when it is not given.
    """
    weights = [0.0] * (steps - 1) + [1.0] if weights is None else weights
    theta = [w.detach().clone().requires_grad_() for w in theta]
    losses = []
    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
        path = plain_inner_loop(forward, loss, theta, support_x, support_y, alpha, steps, create_graph=True)
        losses.append(sum(c * loss(forward(w, query_x), query_y) for c, w in zip(weights, path[1:], strict=True)))
    mean = sum(losses) / len(losses)
    return mean.detach(), torch.autograd.grad(mean, theta)


def first_order_gradient(forward, loss, theta, tasks, alpha, steps):
    """The query gradient at the adapted parameters of each task, averaged: nothing is differentiated twice."""
    total, count = [torch.zeros_like(w) for w in theta], len(tasks[0])
    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
        current = [w.detach().clone().requires_grad_() for w in theta]
        for _ in range(steps):
            gradients = torch.autograd.grad(loss(forward(current, support_x), support_y), current)
            current = [(w - alpha * g).detach().requires_grad_() for w, g in zip(current, gradients, strict=True)]
        gradients = torch.autograd.grad(loss(forward(current, query_x), query_y), current)
        total = [t + g / count for t, g in zip(total, gradients, strict=True)]
    return total


def directional_derivative(forward, loss, theta, tasks, alpha, steps, direction, width=1e-5):
    """The slope of the meta-loss along ``direction``, from two evaluations on either side of theta."""

    def meta_loss(offset):
        total = 0.0
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            current = [(w + offset * d).detach() for w, d in zip(theta, direction, strict=True)]
            for _ in range(steps):
                leaves = [w.detach().requires_grad_() for w in current]
                gradients = torch.autograd.grad(loss(forward(leaves, support_x), support_y), leaves)
                current = [(w - alpha * g).detach() for w, g in zip(leaves, gradients, strict=True)]
            total += loss(forward(current, query_x), query_y).item()
        return total / len(tasks[0])

    return (meta_loss(width) - meta_loss(-width)) / (2 * width)


def meta_gradient_by_hessians(forward, loss, theta, tasks, alpha, steps):
    """(I - alpha H(theta^(0))) ... (I - alpha H(theta^(K-1))) g, with every Hessian as an explicit matrix; a flat vector."""
    shapes = [w.shape for w in theta]
    sizes = [w.numel() for w in theta]

    def unflatten(vector):
        return [part.reshape(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True)]

    total = torch.zeros(sum(sizes), dtype=torch.float64)
    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):

        def support_loss(vector, x=support_x, y=support_y):
            return loss(forward(unflatten(vector), x), y)

        def query_loss(vector, x=query_x, y=query_y):
            return loss(forward(unflatten(vector), x), y)

        current, hessians = torch.cat([w.detach().flatten() for w in theta]), []
        for _ in range(steps):
            hessians.append(torch.autograd.functional.hessian(support_loss, current))
            current = current - alpha * torch.autograd.functional.jacobian(support_loss, current)
        gradient = torch.autograd.functional.jacobian(query_loss, current)
        for hessian in reversed(hessians):
            gradient = gradient - alpha * hessian @ gradient
        total += gradient / len(tasks[0])
    return total


def quadratic_by_hand(theta, tasks, rates):
    """Linear regression without bias, in numpy: the support loss is quadratic, with Hessian A = (2/n) X^T X.

    Args:
        theta: ``(d,)``.
        tasks: four arrays, inputs ``(tasks, points, d)`` and targets ``(tasks, points)``.
        rates: one array ``(d,)`` a step: the factors I - A diag(rate) of different steps do not commute.

    Returns:
        The meta-loss, the meta-gradient, the first-order gradient, and the adapted parameters of each task.
    """
    loss, exact, first, ends = 0.0, np.zeros_like(theta), np.zeros_like(theta), []
    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
        hessian = 2 / len(support_x) * support_x.T @ support_x
        offset = 2 / len(support_x) * support_x.T @ support_y
        phi, jacobian = theta.copy(), np.eye(len(theta))
        for rate in rates:
            phi = phi - rate * (hessian @ phi - offset)
            jacobian = (np.eye(len(theta)) - np.diag(rate) @ hessian) @ jacobian
        residual = query_x @ phi - query_y
        gradient = 2 / len(query_x) * query_x.T @ residual
        loss += np.mean(residual**2) / len(tasks[0])
        exact += jacobian.T @ gradient / len(tasks[0])
        first += gradient / len(tasks[0])
        ends.append(phi)
    return loss, exact, first, np.stack(ends)


def interval_by_hand(values):
    """Mean and half-width of the 95 % interval, in plain Python."""
    values = [float(value) for value in values]
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, 1.96 * math.sqrt(variance) / math.sqrt(len(values))


# How things are compared


def relative_error(answer, truth) -> float:
    """Norm of the difference over norm of the truth, all tensors together."""
    answer = torch.cat([torch.as_tensor(a).detach().double().flatten() for a in answer])
    truth = torch.cat([torch.as_tensor(t).detach().double().flatten() for t in truth])
    return ((answer - truth).norm() / truth.norm()).item()


def gradients_of(module: nn.Module) -> list[torch.Tensor]:
    """A copy of ``.grad`` of every parameter."""
    return [parameter.grad.clone() for parameter in module.parameters()]


@contextlib.contextmanager
def unchanged(module: nn.Module, *, gradients: bool = True):
    """Fails if the body changes anything that can be seen of a module: values, buffers, flags, identities, gradients."""
    before = _portrait(module, gradients)
    yield
    after = _portrait(module, gradients)
    assert before.keys() == after.keys()
    for key, value in before.items():
        same = _same_tensor(value, after[key]) if isinstance(value, torch.Tensor) else value == after[key]
        assert same, f"{key} has changed"


def _same_tensor(a, b) -> bool:
    return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)


def _portrait(module: nn.Module, gradients: bool) -> dict:
    portrait = {}
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        portrait[f"{name} value"] = tensor.detach().clone()
        portrait[f"{name} identity"] = (id(tensor), tensor.requires_grad, tensor.is_leaf, tensor._version)
        if gradients:
            portrait[f"{name} gradient"] = None if tensor.grad is None else tensor.grad.clone()
    for name, child in module.named_modules():
        portrait[f"{name} module"] = (type(child), child.training, sorted(child.__dict__))
    return portrait
