"""A whole meta-step as one compiled program, for small networks.

A step of gradient descent on a network of a few thousand weights is over in microseconds; what takes time is asking for it,
operation by operation. ``torch.compile`` records the losses of all tasks, their K inner steps and the gradient of it all, and
makes one program of loops out of them. That takes half a minute or more, once for each shape of meta-batch, and needs a C++
compiler; without one, the engine says so and computes uncompiled.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, grad_and_value

from mamlkit.functional import Parameters, real_type
from mamlkit.inner_loop import InnerLoop, moved
from mamlkit.meta_gradient import AllAtOnce, Request
from mamlkit.step_sizes import Rates
from mamlkit.task_groups import TaskGroup, together
from mamlkit.tasks import TaskBatch
from mamlkit.trees import leaves

__all__ = ["Compiled"]

_Step = Callable[..., Any]


class Compiled(AllAtOnce):
    """All tasks at once in a program of their own, for models that are safe under ``torch.func.vmap``.

    The programs belong to one learner.

    Attributes:
        compile_seconds: how long compiling has taken so far.
    """

    name = "compiled"
    follows_directions = False

    def __init__(self) -> None:
        self.compile_seconds = 0.0
        self._programs: dict[Any, _Step] = {}
        self._works = True

    def __call__(self, request: Request) -> tuple[Tensor, list[Tensor]]:
        """See ``Engine``."""
        inner, parameters, tasks, weights = request.inner, request.parameters, request.tasks, request.weights
        rates = [dict(inner.step_sizes(k)) for k in range(inner.steps)]
        learned = [{name: rate for name, rate in here.items() if isinstance(rate, Tensor)} for here in rates]
        theta = {name: value.detach() for name, value in parameters.items()}
        alphas = [{name: rate.detach() for name, rate in here.items()} for here in learned]
        with torch.no_grad():
            arguments = (theta, alphas, tasks, weights.to(tasks.device, real_type(parameters)))
            (for_theta, for_alphas), loss = self._program(inner, rates, arguments, weights)(*arguments)
        ends = [*parameters.values(), *(rate for here in learned for rate in here.values())]
        shares = [*for_theta.values(), *(share for here in for_alphas for share in here.values())]
        gradients = torch.autograd.grad(ends, list(request.meta_parameters), shares, materialize_grads=True)
        return loss, list(gradients)

    def _program(self, inner: InnerLoop, rates: Sequence[Rates], arguments: Any, weights: Tensor) -> _Step:
        """The program for such arguments; made and compiled the first time."""
        weighed = tuple(bool(weight) for weight in weights.tolist())
        tensors = (*arguments[0].values(), *leaves(arguments[2]))
        shapes = tuple((value.shape, value.dtype, value.device) for value in tensors)
        fixed = tuple(tuple(rate if isinstance(rate, float) else None for rate in here.values()) for here in rates)
        key = (inner.steps, inner.order, weighed, shapes, fixed, tuple(tuple(here) for here in rates))
        if key not in self._programs:
            self._programs[key] = self._compiled(_meta_step(inner, rates, weighed), arguments)
        return self._programs[key]

    def _compiled(self, program: _Step, arguments: Any) -> _Step:
        if not self._works:
            return program
        started = time.perf_counter()
        fast = torch.compile(program, fullgraph=True, dynamic=False)
        try:
            fast(*arguments)
        except Exception as error:  # no compiler, or something that torch.compile does not know
            self._works = False
            reason = str(error).strip().splitlines()
            warnings.warn(
                f"engine 'compiled' computes uncompiled: {type(error).__name__}: {reason[0] if reason else 'no reason given'}",
                RuntimeWarning,
                stacklevel=2,
            )
            return program
        finally:
            self.compile_seconds += time.perf_counter() - started
        return fast


def _meta_step(inner: InnerLoop, rates: Sequence[Rates], weighed: Sequence[bool]) -> _Step:
    """(theta, learned rates of each step, tasks, weights) -> their gradients, and the meta-loss."""

    def meta_loss(theta: Parameters, alphas: Sequence[Rates], tasks: TaskBatch, weights: Tensor) -> Tensor:
        (group,) = together(inner, theta, tasks)
        current, total = group.start, weights.new_zeros(())
        for step, count in enumerate(weighed):
            current = _inner_step(inner, group, current, {**rates[step], **alphas[step]}, step)
            if count:
                total = total + weights[step] * group.query_loss(current, step + 1)
        return total / tasks.num_tasks

    return grad_and_value(meta_loss, argnums=(0, 1))


def _inner_step(inner: InnerLoop, group: TaskGroup, current: Parameters, rates: Rates, step: int) -> Parameters:
    adapted = {name: current[name] for name in rates}
    gradients = grad(lambda adapted: group.support_loss({**current, **adapted}, step))(adapted)
    if inner.order == 1:
        gradients = {name: gradient.detach() for name, gradient in gradients.items()}
    return {**current, **{name: moved(current[name], rate, gradients[name]) for name, rate in rates.items()}}
