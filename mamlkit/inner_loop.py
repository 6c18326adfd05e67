"""The inner loop: K steps of gradient descent on the support set of a task.

    theta^(0) = theta,     theta^(k+1) = theta^(k) - alpha * dL_support(theta^(k)) / dtheta^(k)

(Finn et al., 2017, arXiv:1703.03400, equation 1.) Parameters are a dict of tensors, with which the model is called; the module
itself is never changed. What makes MAML special is the ``order`` of the derivative that may later be taken through these steps:

* 2: each gradient stays a function of the parameters, so that a later derivative sees the Hessian (MAML);
* 1: each gradient is a constant, so that a later derivative goes straight through (FOMAML);
* 0: nothing is kept, for evaluation and for Reptile, which takes no derivative through the steps.

A direction of ``mamlkit.directions`` may take the gradient's place, and all this holds for it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mamlkit.arguments import (
    checked_loss,
    expect_at_least,
    expect_gradients,
    expect_kind,
    expect_model,
    expect_names,
    expect_on_model,
    expect_parameters,
    expect_points,
    expect_rates,
    explained,
)
from mamlkit.directions import Direction, Memory, in_turn
from mamlkit.functional import FunctionalModel, Parameters, parameters_of
from mamlkit.randomness import fixed_randomness, stream_seed
from mamlkit.step_sizes import FixedStepSize, Rates, StepSizes
from mamlkit.trees import Several, Tree, first

__all__ = [
    "DirectionFunction",
    "Forward",
    "InnerLoop",
    "Loss",
    "Objective",
    "Order",
    "adapt",
    "descend",
    "inner_step",
    "moved",
]

#: (outputs, targets) -> scalar, the mean over the points.
Loss = Callable[[Tree, Tree], Tensor]
#: (parameters, inputs, inner step from 0) -> outputs.
Forward = Callable[[Parameters, Tree, int], Tree]
#: (parameters, inner step from 0) -> scalar.
Objective = Callable[[Parameters, int], Tensor]
#: ``Direction.forward``.
DirectionFunction = Callable[[Parameters, Parameters, Memory, int], tuple[Parameters, Memory]]
#: 2 to differentiate through the steps in full, 1 for first order, 0 when no derivative follows.
Order = Literal[0, 1, 2]


@dataclass(frozen=True)
class InnerLoop:
    """Everything that decides how a task is adapted, apart from the starting point and the data.

    Attributes:
        support_forward: the model as it is called while it adapts: (parameters, inputs, inner step) -> outputs.
        query_forward: the same for query points; the two may differ in dropout and in batch statistics.
        loss: of outputs and targets, averaged over points.
        step_sizes: which parameters move in inner step k, and how far.
        steps: K.
        order: of the derivative that can be taken through the steps.
        dropout_seed: dropout masks depend on it and on the number of the task, so they are the same in every step.
        collects_every_step: whether query passes collect statistics of their own step even if its loss has no weight.
        direction: what the steps follow; ``None`` for the gradient.
    """

    support_forward: Forward
    query_forward: Forward
    loss: Loss
    step_sizes: Callable[[int], Rates]
    steps: int
    order: Order
    dropout_seed: int | None = None
    collects_every_step: bool = False
    direction: Direction | None = None

    def trajectory(self, parameters: Parameters, support_x: Tree, support_y: Tree, task: int = 0) -> list[Parameters]:
        """Adapt one task: parameters after 0, 1, ..., K steps.

        Args:
            parameters: the start, by name.
            support_x: ``(support, *input)``.
            support_y: ``(support, *output)``.
            task: its number, for the dropout masks.
        """
        objective = self.support_loss(support_x, support_y, task)
        return descend(objective, parameters, self.step_sizes, self.steps, self.order, self.direction)

    def support_loss(self, support_x: Tree, support_y: Tree, task: int = 0) -> Objective:
        """The loss that the inner loop of one task descends on; arguments as in ``trajectory``."""
        seed = None if self.dropout_seed is None else stream_seed(self.dropout_seed, task)

        def objective(current: Parameters, step: int) -> Tensor:
            with fixed_randomness(seed, first(support_x).device):
                return self.loss(self.support_forward(current, support_x, step), support_y)  # ()

        return objective

    def answers(self, parameters: Parameters, x: Tree, step: int) -> Tree:
        """Outputs for query inputs with parameters that ``step`` inner steps made; the pass belongs to the last of them."""
        return self.query_forward(parameters, x, max(step - 1, 0))


def descend(
    objective: Objective,
    parameters: Parameters,
    step_sizes: Callable[[int], Rates],
    steps: int,
    order: Order,
    direction: DirectionFunction | None = None,
) -> list[Parameters]:
    """Gradient descent that can itself be differentiated.

    Args:
        objective: what to minimise.
        parameters: the start, by name.
        step_sizes: the rates of step k, by name; parameters without a rate stay as they are.
        steps: how many to take.
        order: see the module's docstring.
        direction: what the steps follow; the gradient when not given.

    Returns:
        The parameters after 0, 1, ..., ``steps`` steps.
    """
    trajectory = [parameters]
    follow = None if direction is None else _WithMemory(direction)
    for step in range(steps):
        rates = step_sizes(step)  # MAML: alpha; MAML++: learned, for each tensor and step
        trajectory.append(inner_step(objective, trajectory[-1], rates, step, order, follow))
    return trajectory


def inner_step(
    objective: Objective,
    parameters: Parameters,
    rates: Rates,
    step: int,
    order: Order,
    follow: Callable[[Parameters, Parameters, int], Parameters] | None = None,
) -> Parameters:
    """One step, theta - alpha * gradient: equation (1) of Finn et al., 2017; arguments as ``descend``.

    ``follow`` makes a direction of the gradients, given these, the parameters and the number of the step; ``None`` leaves them.
    """
    expect_gradients()
    expect_names(list(parameters), list(rates))
    current = parameters
    if order == 0:  # cut the path back to the start: each step builds and drops a graph of its own
        current = {name: value.detach().requires_grad_(name in rates) for name, value in parameters.items()}
    with torch.enable_grad():
        loss = objective(current, step)
        if not loss.requires_grad:
            raise ValueError(
                f"expected a loss that depends on what is adapted, such as {', '.join(list(rates)[:2])}, "
                "got one without a gradient: look for detach(), no_grad() and checkpoint(use_reentrant=True)"
            )
        gradients = torch.autograd.grad(
            loss,
            [current[name] for name in rates],
            create_graph=order == 2,  # the one flag between MAML and FOMAML
            materialize_grads=True,  # a parameter the loss does not touch has gradient zero
        )
    with torch.set_grad_enabled(order > 0):
        if follow is not None:
            here = {name: current[name] if order == 2 else current[name].detach() for name in rates}
            found = follow(dict(zip(rates, gradients, strict=True)), here, step)
            gradients = tuple(found[name] for name in rates)
        after = {
            name: moved(current[name], rate, gradient)
            for (name, rate), gradient in zip(rates.items(), gradients, strict=True)
        }
    return {**parameters, **after}


class _WithMemory:
    """A direction, and what it remembers of the steps so far."""

    def __init__(self, direction: DirectionFunction) -> None:
        self.direction = direction
        self.memory: Memory = {}

    def __call__(self, gradients: Parameters, parameters: Parameters, step: int) -> Parameters:
        pair = self.direction(gradients, parameters, self.memory, step)
        if not isinstance(pair, tuple) or not all(isinstance(part, Mapping) for part in pair) or len(pair) != 2:
            raise TypeError(f"expected a direction to give tensors by name and a memory, got {type(pair).__name__}")
        found, self.memory = pair
        shapes, needed = ({name: value.shape for name, value in part.items()} for part in (found, gradients))
        if shapes != needed:
            odd = next(name for name in (*needed, *shapes) if shapes.get(name) != needed.get(name))
            raise ValueError(
                f"expected a direction of shape {_shape(needed, odd)} for {odd!r}, got {_shape(shapes, odd)}"
            )
        return found


def _shape(shapes: Mapping[str, torch.Size], name: str) -> str:
    return str(tuple(shapes[name])) if name in shapes else "none"


def moved(value: Tensor, rate: Tensor | float, gradient: Tensor) -> Tensor:
    """value - rate * gradient, in one pass over memory."""
    if isinstance(rate, Tensor):
        return torch.addcmul(value, rate, gradient, value=-1)
    return torch.add(value, gradient, alpha=-rate)  # not sub: its derivative takes two passes


def adapt(
    model: nn.Module,
    support_x: Float[Tensor, "support *input"] | Several,
    support_y: Shaped[Tensor, "support *output"] | Several,
    *,
    loss: Loss,
    steps: int,
    step_sizes: float | StepSizes,
    parameters: Parameters | None = None,
    order: Order = 2,
    direction: Direction | Iterable[Direction] | None = None,
) -> list[Parameters]:
    """Adapt a model to one task by K steps of gradient descent, equation (1) of Finn et al., 2017.

    Args:
        model: any module; it is not changed.
        support_x: ``(support, *input)``, floating point; or a tuple or dict of tensors, see ``mamlkit.trees``.
        support_y: ``(support, *output)``, or class numbers ``(support,)``.
        loss: of outputs and targets, averaged over points, for instance ``torch.nn.functional.mse_loss``.
        steps: K, at least 1.
        step_sizes: alpha, or a ``StepSizes``.
        parameters: where to start; the model's own when not given. Each is a variable of its own to the inner steps,
            also where one was computed from others (as ProtoMAML computes its head from the body).
        order: 2 to differentiate through the steps in full, 1 for first order, 0 when no derivative follows.
        direction: what the steps follow in place of the gradient: see ``mamlkit.directions``.

    Returns:
        The parameters after 0, 1, ..., K steps, each a mapping from name to tensor; call the model with them through
        ``torch.func.functional_call(model, parameters, (x,))``.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """
    expect_model(model)
    expect_points("support", support_x, support_y)
    expect_at_least("steps", steps, 1)
    start = parameters_of(model) if parameters is None else parameters
    expect_kind("parameters", start, (Mapping,))
    sizes = step_sizes if isinstance(step_sizes, StepSizes) else FixedStepSize(start, step_sizes)
    network = FunctionalModel(model, name="support")
    if order not in (0, 1, 2):
        raise ValueError(f"expected order 0, 1 or 2, got {order!r}")
    expect_parameters(model, start)
    expect_rates(sizes(0), start)
    expect_on_model(model, ("support inputs", support_x), ("support targets", support_y))
    loss = checked_loss(loss)
    if order:  # given parameters may be plain tensors, as in a state_dict
        start = {
            name: value if value.requires_grad else value.detach().requires_grad_() for name, value in start.items()
        }
        if any(value.grad_fn for value in start.values()):  # one may be made of others: a step takes each as a variable
            start = {name: value.view_as(value) for name, value in start.items()}

    def support_loss(current: Parameters, step: int) -> Tensor:
        return loss(network(current, support_x, second_order=order == 2), support_y)  # ()

    with explained(("support inputs", support_x), ("support targets", support_y)):
        return descend(support_loss, start, sizes, steps, order, in_turn(direction))
