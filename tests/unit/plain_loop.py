"""MAML in a dozen lines of torch, for any module and loss; nothing here imports mamlkit."""

from __future__ import annotations

import torch
from torch.func import functional_call


def maml(model, tasks, loss, steps=2, rate=0.1, adapted=None, others=()):
    """The meta-loss, and its gradient by name; ``others`` are further tensors to differentiate by, in a list after it."""
    theta = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = 0.0
    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
        now = dict(theta)
        for _ in range(steps):
            names = list(adapted or now)
            value = loss(functional_call(model, now, (support_x,)), support_y)
            slopes = torch.autograd.grad(value, [now[n] for n in names], create_graph=True, materialize_grads=True)
            now |= {n: now[n] - rate * slope for n, slope in zip(names, slopes, strict=True)}
        total = total + loss(functional_call(model, now, (query_x,)), query_y) / len(tasks[0])
    found = torch.autograd.grad(total, [*theta.values(), *others], materialize_grads=True)
    return total.item(), dict(zip(theta, found, strict=False)), list(found[len(theta) :])


def tasks(count=2, support=5, query=6, width=4, out=3, seed=1):
    """Real-valued tasks in float64."""
    g = torch.Generator().manual_seed(seed)
    shapes = ((support, width), (support, out), (query, width), (query, out))
    return tuple(torch.randn(count, *shape, generator=g, dtype=torch.float64) for shape in shapes)


def off(expected, model):
    """The largest relative error of ``.grad`` over the parameters of a model."""
    named = dict(model.named_parameters())
    return max(((e - named[n].grad).abs().max() / e.abs().max().clamp(min=1e-6)).item() for n, e in expected.items())
