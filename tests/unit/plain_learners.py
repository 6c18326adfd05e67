"""The learners once more with explicit tensors: rates, batch-norm rows, loss weights and masks written out in one plain loop.

As in ``oracles``, nothing here imports mamlkit. Values are dicts from a parameter's name to its tensor.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Values(NamedTuple):
    """What is meta-learned, and so what is differentiated with respect to.

    theta: name -> tensor. rates: name -> float, or tensor with a row a step, or tensor that does not change with the step.
    rows: name of a batch-norm weight -> ``(K, channels)``.
    """

    theta: dict
    rates: dict
    rows: dict

    def leaves(self):
        """Copies to differentiate with respect to."""
        return Values(*({n: _leaf(v) for n, v in part.items()} for part in self))

    def tensors(self):
        return [v for part in self for v in part.values() if isinstance(v, torch.Tensor)]


def meta_loss(problem, values, weights, *, per_step=False, order=2, masks=None):
    """The mean over tasks of the weighted query losses; a differentiable function of every tensor in ``values``.

    ``masks``: one a task, handed to ``problem.forward`` in support passes only.
    """
    names = [name for name, _ in problem.module.named_parameters()]
    total = 0.0
    for number, (support_x, support_y, query_x, query_y) in enumerate(zip(*problem.tasks, strict=True)):
        current = dict(values.theta)
        for step, weight in enumerate(weights):
            rows = {name: row[step] for name, row in values.rows.items()}

            def forward(w, x, *mask, rows=rows):
                return problem.forward([(w | rows)[name] for name in names], x, *mask)

            mask = [] if masks is None else [masks[number]]
            loss = problem.plain_loss(forward(current, support_x, *mask), support_y)
            adapted = list(values.rates)
            gradients = torch.autograd.grad(loss, [current[name] for name in adapted], create_graph=order == 2)
            for name, gradient in zip(adapted, gradients, strict=True):
                rate = values.rates[name][step] if per_step else values.rates[name]
                current[name] = current[name] - rate * gradient
            total = total + weight * problem.plain_loss(forward(current, query_x), query_y)
    return total / len(problem.tasks[0])


def slope(problem, values, direction, weights, width=1e-5, **keywords):
    """The derivative of the meta-loss along ``direction`` from two evaluations; ``direction`` has one tensor a leaf."""
    ends = []
    for sign in (1, -1):
        moved = values.leaves()
        with torch.no_grad():
            for tensor, d in zip(moved.tensors(), direction, strict=True):
                tensor += sign * width * d
        ends.append(meta_loss(problem, moved, weights, **keywords).item())
    return (ends[0] - ends[1]) / (2 * width)


def values_of(learner, rates=None):
    """What a learner of mamlkit has learned so far, read from its meta-parameters by name, and their gradients."""
    parts, gradients = ({}, {}, {}), ({}, {}, {})
    prefixes = ("model.", "step_sizes._alpha.", "batch_norm._rows.")
    for key, parameter in learner.meta_parameters().items():
        (index,) = (i for i, prefix in enumerate(prefixes) if key.startswith(prefix))
        name = key.removeprefix(prefixes[index]).replace("/", ".")
        parts[index][name], gradients[index][name] = parameter.detach().clone(), parameter.grad
    if rates is not None:
        parts[1].update(rates)
    return Values(*parts), Values(*gradients)


def scatter(learner, seed=1, size=0.03):
    """Move every meta-parameter a little, so that no two rates and no two rows are equal."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in learner.meta_parameters().values():
        parameter.data += size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def _leaf(value):
    return value.detach().clone().requires_grad_() if isinstance(value, torch.Tensor) else value
