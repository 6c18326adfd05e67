"""Checks for the exercises of chapter 2, the MAML algorithm."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mamlkit.checking._report import as_tensor, attempt, close, correct, not_attempted, wrong
from mamlkit.tasks import TaskBatch

__all__ = [
    "check_episode",
    "check_inner_loop",
    "check_outer_objective",
    "check_query_losses",
    "check_wrong_lines",
]

ScalarFunction = Callable[[Tensor], Tensor]


def check_inner_loop(inner_loop: Callable[..., Any]) -> None:
    """Exercise 2.1.

    Args:
        inner_loop: of theta ``(parameters,)``, a support loss, the number of steps and alpha; returns the adapted parameters.
    """
    exercise, alpha = "2.1", 0.1
    for steps in (1, 3):
        theta = _theta()
        done, result = attempt(exercise, inner_loop, theta, _support_loss, steps, alpha)
        if not done:
            return
        if isinstance(result, (list, tuple)) and len(result) > 1 and isinstance(result[0], Tensor) and result[0].ndim:
            return wrong(exercise, f"Expected the parameters after the last step alone, got {len(result)} tensors.")
        answer = _numbers(result)
        if answer is None or answer.numel() != theta.numel():
            return wrong(exercise, f"Expected parameters of shape {tuple(theta.shape)}, got {_shape(result)}.")
        if not torch.equal(theta, _theta()):
            return wrong(
                exercise,
                "The tensor theta itself has moved. Make a new tensor in each step: other tasks start from theta.",
            )
        truth = _descend(theta, _support_loss, steps, alpha)[-1]
        if not close(answer, truth.detach()):
            return wrong(exercise, _why_other_parameters(answer, steps, alpha))
        flaw = _gradient_flaw(
            result, theta, truth, _descend(theta, _support_loss, steps, alpha, create_graph=False)[-1]
        )
        if flaw:
            return wrong(exercise, flaw)
    correct(
        exercise, "One step and three steps end at the right point, and the outer loop can differentiate through them."
    )


def check_outer_objective(outer_objective: Callable[..., Any]) -> None:
    """Exercise 2.2.

    Args:
        outer_objective: of theta ``(2,)``, a ``TaskBatch`` and alpha; returns the mean query loss after one inner step.
    """
    exercise, alpha = "2.2", 0.1
    tasks, theta = _tasks(), _theta()
    done, result = attempt(exercise, outer_objective, theta, tasks, alpha)
    if not done:
        return
    if not torch.equal(theta, _theta()):
        return wrong(
            exercise,
            "The tensor theta itself has moved. Every task must start from theta: make a new tensor in the inner step.",
        )
    if isinstance(result, (list, tuple)):
        return wrong(exercise, f"Expected one number, the mean over tasks, got {len(result)}.")
    answer = as_tensor(result)
    if answer is None or answer.numel() != 1:
        return wrong(exercise, f"Expected one number, the mean over tasks, got {_shape(result)}.")
    truth = _objective(theta, tasks, alpha)
    if not close(answer, truth.detach()):
        return wrong(exercise, _why_other_objective(answer, theta, tasks, alpha))
    flaw = _gradient_flaw(result, theta, truth, _objective(theta, tasks, alpha, create_graph=False))
    if flaw:
        return wrong(exercise, flaw)
    correct(exercise, "The value is the mean query loss after adaptation, and its gradient is the full meta-gradient.")


def check_query_losses(query_losses: Callable[..., Any]) -> None:
    """Exercise 2.3.

    Args:
        query_losses: of theta, a support loss, a query loss, the number of steps and alpha; returns the query losses after
            steps 1, 2, ..., K.
    """
    exercise, steps, alpha = "2.3", 4, 0.1
    theta = _theta()
    done, result = attempt(exercise, query_losses, theta, _support_loss, _query_loss, steps, alpha)
    if not done:
        return
    if not torch.equal(theta, _theta()):
        return wrong(
            exercise, "The tensor theta itself has moved. Make a new tensor in each step: other tasks start from theta."
        )
    answer = _numbers(result)
    if answer is None:
        return wrong(exercise, f"Expected {steps} numbers, got {_shape(result)}.")
    path = _descend(theta, _support_loss, steps, alpha)
    query = torch.stack([_query_loss(point) for point in path]).detach()  # (steps + 1,)
    support = torch.stack([_support_loss(point) for point in path]).detach()  # (steps + 1,)
    if close(answer, query[1:]):
        return correct(exercise, f"{steps} losses, the first after one step. Chapter 7 trains on all of them.")
    if answer.numel() == 1 and close(answer, query[-1]):
        return wrong(exercise, f"That is the loss after the last step alone; keep all {steps}.")
    if answer.numel() == 1 and close(answer, query[1:].mean()):
        return wrong(exercise, f"That is the mean of the losses; return all {steps}, do not average them.")
    if close(answer, query):
        return wrong(exercise, f"That is {steps + 1} losses: the first is from before any step. Leave it out.")
    if close(answer, query[:-1]):
        return wrong(exercise, "Each loss is taken before its step. Move first, then look at the query set.")
    if any(close(answer, losses) for losses in (support, support[1:], support[:-1])):
        return wrong(exercise, "These are support losses. The steps use the support loss, the grades the query loss.")
    adapted_on_query = _descend(theta, _query_loss, steps, alpha)
    if close(answer, torch.stack([_query_loss(point) for point in adapted_on_query[1:]]).detach()):
        return wrong(
            exercise, "The steps follow the query loss: the learner sees the answers. Adapt on the support loss."
        )
    if answer.numel() != steps:
        return wrong(exercise, f"Expected {steps} losses, one after each step, got {answer.numel()}.")
    if close(answer.flip(0), query[1:]):
        return wrong(exercise, "The losses are right, but in reverse order.")
    right = [close(a, b) for a, b in zip(answer.flatten(), query[1:], strict=True)]
    where = right.index(False) + 1
    wrong(exercise, f"The loss after step {where} should be {query[where]:.4f}, got {answer.flatten()[where - 1]:.4f}.")


def check_wrong_lines(wrong_lines: Mapping[str, Any]) -> None:
    """Exercise 2.4.

    Args:
        wrong_lines: for each of the boxes A, B and C the number of its wrong line.
    """
    exercise, right = "2.4", {"A": 3, "B": 4, "C": 2}
    if not isinstance(wrong_lines, Mapping):
        return wrong(exercise, 'Expected a dict such as {"A": 1, "B": 1, "C": 1}.')
    given = {box: _line(wrong_lines.get(box)) for box in right}
    if all(line is None for line in given.values()):
        return not_attempted(exercise)
    for box, line in given.items():
        if line is None:
            return wrong(exercise, f"Box {box} has no answer yet; expected the number of a line, 1 to 5.")
        if line not in _LINES:
            return wrong(exercise, f"Box {box} has lines 1 to 5, got {line}.")
        if line != right[box]:
            return wrong(exercise, f"In box {box} line {line} is as it should be: {_LINES[line]}")
    correct(
        exercise,
        "A takes every gradient at the start, B grades on the points it adapted on, C starts tasks from moved parameters.",
    )


def check_episode(images: Mapping[str, Any]) -> None:
    """Exercise 2.5.

    Args:
        images: how many there are in the support set and the query set of a task, and how many go forward through the network
            in one outer step.
    """
    exercise = "2.5"
    way, shot, queries, tasks, steps = 5, 1, 15, 4, 5
    support, query = way * shot, way * queries
    if not isinstance(images, Mapping):
        return wrong(exercise, 'Expected a dict with the keys "support", "query" and "forward".')
    right = {"support": support, "query": query, "forward": tasks * (steps * support + query)}
    hints: dict[str, dict[int, str]] = {
        "support": {
            shot: "1 is the number of each class; a task has 5 classes.",
            tasks * support: "That counts all 4 tasks; one task is asked for.",
            steps * support: "That counts every inner step; the question is how many different images there are.",
        },
        "query": {
            queries: "15 is the number of each class; a task has 5 classes.",
            tasks * query: "That counts all 4 tasks; one task is asked for.",
            support + query: "That counts the support images as well.",
        },
        "forward": {
            tasks * (support + query): "The support images go through once for each of the 5 inner steps.",
            steps * support + query: "That is one task, or one of the two sets; count both sets of all 4 tasks.",
            tasks * steps * (support + query): "The query images go through once only, after the last step.",
            tasks * ((steps + 1) * support + query): "The support loss is not needed after the last step.",
        },
    }
    if all(images.get(key) is None for key in right):
        return not_attempted(exercise)
    for key, truth in right.items():
        answer = as_tensor(images.get(key)) if images.get(key) is not None else None
        if answer is None or answer.numel() != 1:
            return wrong(exercise, f'"{key}" has no answer yet; expected a whole number.')
        if answer.item() != truth:
            hint = next((text for value, text in hints[key].items() if value == answer.item()), "Count again.")
            return wrong(exercise, f'"{key}": {hint}')
    correct(
        exercise, "80 images a task, but 400 forward passes of an image an outer step: each inner step looks again."
    )


_LINES = {
    1: "every task brings a support and a query set.",
    2: "each task starts from the initialisation, on its own.",
    3: "each step takes the gradient of the support loss where the task stands now.",
    4: "the grade is the query loss of the adapted parameters.",
    5: "the outer step follows the gradient of the mean grade with respect to theta.",
}


def _theta() -> Tensor:
    return torch.tensor([0.7, -0.4], dtype=torch.float64, requires_grad=True)  # (2,)


def _support_loss(theta: Tensor) -> Tensor:
    return (theta[0] - 1.5) ** 2 + 2 * (theta[1] + 0.3 * theta[0] ** 2) ** 2  # (), its Hessian is not constant


def _query_loss(theta: Tensor) -> Tensor:
    return (theta[0] - 1.2) ** 2 + (theta[1] + 0.9) ** 2  # ()


def _tasks() -> TaskBatch:
    generator = torch.Generator().manual_seed(2)
    x = 2 * torch.rand(3, 9, generator=generator, dtype=torch.float64) - 1  # (tasks, support + query)
    slope = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)[:, None]  # (tasks, 1)
    y = slope * x + torch.tensor([0.3, 1.0, -0.6], dtype=torch.float64)[:, None]  # (tasks, support + query)
    return TaskBatch(x[:, :5], y[:, :5], x[:, 5:], y[:, 5:])


def _line_loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return ((theta[0] * x + theta[1] - y) ** 2).mean()  # ()


def _descend(
    theta: Tensor, loss: ScalarFunction, steps: int, alpha: float, create_graph: bool = True, sign: float = -1
) -> list[Tensor]:
    path = [theta]
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(loss(path[-1]), path[-1], create_graph=create_graph)
        path.append(path[-1] + sign * alpha * gradient)  # (2,)
    return path


def _adapted(theta: Tensor, x: Tensor, y: Tensor, alpha: float, create_graph: bool = True, sign: float = -1) -> Tensor:
    return _descend(theta, lambda point: _line_loss(point, x, y), 1, alpha, create_graph, sign)[-1]


def _objective(theta: Tensor, tasks: TaskBatch, alpha: float, create_graph: bool = True, sign: float = -1) -> Tensor:
    losses = [
        _line_loss(_adapted(theta, sx, sy, alpha, create_graph, sign), qx, qy)
        for sx, sy, qx, qy in zip(*tasks, strict=True)
    ]
    return torch.stack(losses).mean()  # ()


def _why_other_parameters(answer: Tensor, steps: int, alpha: float) -> str:
    theta = _theta()
    start, *others = (point.detach() for point in _descend(theta, _support_loss, steps + 1, alpha))
    if close(answer, start):
        return "The parameters have not moved from theta."
    if close(answer, _descend(theta, _support_loss, steps, alpha, sign=1)[-1].detach()):
        return "The steps go uphill: subtract alpha times the gradient."
    (gradient,) = torch.autograd.grad(_support_loss(theta), theta)
    if steps > 1 and close(answer, start - steps * alpha * gradient):
        return "Every gradient is taken at theta. Take it where the step before has arrived."
    if close(answer, start - steps * gradient) or close(answer, start - gradient):
        return "The step size alpha is missing."
    if close(answer, gradient):
        return "That is the gradient; the answer is where it leads: theta minus alpha times the gradient."
    for number, point in enumerate(others, start=1):
        if number != steps and close(answer, point):
            return f"Asked for {steps} steps, you took {number}."
    return f"After {steps} step(s) of {alpha} the parameters are not where gradient descent leads."


def _why_other_objective(answer: Tensor, theta: Tensor, tasks: TaskBatch, alpha: float) -> str:
    truth = _objective(theta, tasks, alpha).detach()
    if close(answer, truth * tasks.num_tasks):
        return "That is the sum over tasks; the objective is their mean."
    rows = list(zip(*tasks, strict=True))
    if close(answer, torch.stack([_line_loss(theta, qx, qy) for _, _, qx, qy in rows]).mean().detach()):
        return "That is the query loss at theta itself: the tasks were not adapted."
    adapted = [_adapted(theta, sx, sy, alpha) for sx, sy, _, _ in rows]
    on_support = [_line_loss(point, sx, sy) for point, (sx, sy, _, _) in zip(adapted, rows, strict=True)]
    if close(answer, torch.stack(on_support).mean().detach()):
        return "That is the support loss after adaptation; the grade is the query loss."
    if close(answer, torch.stack(on_support).sum().detach()):
        return "That is the sum of the support losses; the objective is the mean of the query losses."
    on_query = [_line_loss(_adapted(theta, qx, qy, alpha), qx, qy) for _, _, qx, qy in rows]
    if close(answer, torch.stack(on_query).mean().detach()):
        return "The inner step used the query set: the learner sees the answers. Adapt on the support set."
    if close(answer, _objective(theta, tasks, alpha, sign=1).detach()):
        return "The inner step goes uphill: subtract alpha times the gradient."
    moved, chained = theta, []
    for sx, sy, qx, qy in rows:
        moved = _adapted(moved, sx, sy, alpha)
        chained.append(_line_loss(moved, qx, qy))
    if close(answer, torch.stack(chained).mean().detach()) or close(answer, torch.stack(chained).sum().detach()):
        return "Later tasks start from parameters that earlier tasks have moved. Start every task from theta."
    last = _line_loss(adapted[-1], *rows[-1][2:])
    if close(answer, last.detach()) or close(answer, last.detach() / tasks.num_tasks):
        return "Only the last task counts; keep the query loss of every task."
    return f"Expected {truth.item():.4f} for the tasks of this check, got {answer.item():.4f}."


def _gradient_flaw(result: Any, theta: Tensor, truth: Tensor, first_order: Tensor) -> str | None:
    """What is wrong with the derivative of a result whose value is right; ``None`` if nothing is."""
    weights = torch.arange(1.0, truth.numel() + 1, dtype=torch.float64)  # (entries,), so that no two entries can swap
    expected, shortened = (torch.autograd.grad(value.flatten() @ weights, theta)[0] for value in (truth, first_order))
    no_graph = (
        "The number is right, but it cannot be differentiated with respect to theta: the outer loop could not learn. "
    )
    if isinstance(result, (list, tuple)) and all(isinstance(part, Tensor) for part in result):
        result = torch.stack(list(result))
    if not isinstance(result, Tensor) or not result.requires_grad:
        return no_graph + "Keep tensors, do not detach them, and use create_graph=True."
    try:
        (gradient,) = torch.autograd.grad(result.flatten().double() @ weights, theta, allow_unused=True)
    except RuntimeError:
        gradient = None
    if gradient is None:
        return no_graph + "Do not detach or copy theta, and use create_graph=True."
    if close(gradient, expected):
        return None
    if close(gradient, shortened):
        return "The value is right, its gradient is the first-order one: the inner gradient is a constant. Use create_graph=True."
    return "The value is right, but its gradient with respect to theta is not."


def _numbers(result: Any) -> Tensor | None:
    """A flat tensor from numbers in whatever container."""
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        parts = [as_tensor(part) for part in result]
        if not parts or any(part is None or part.numel() != 1 for part in parts):
            return None
        return torch.stack([part.reshape(()) for part in parts if part is not None])  # (entries,)
    answer = as_tensor(result)
    return None if answer is None else answer.flatten()


def _line(value: Any) -> int | None:
    """A line number, however it is written: 3, 3.0, "3", "line 3"."""
    if value is None or value is ...:
        return None
    found = re.search(r"\d+", str(value))
    return int(found.group()) if found else None


def _shape(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
