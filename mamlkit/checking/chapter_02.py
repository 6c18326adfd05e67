"""Checks of chapter 2, the MAML algorithm. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from mamlkit.checking._cases import expect, judge
from mamlkit.checking._report import as_tensor, attempt, close, correct, not_attempted, wrong
from mamlkit.tasks import TaskBatch

__all__ = [
    "check_episode",
    "check_inner_loop",
    "check_mended_training",
    "check_outer_objective",
    "check_query_losses",
    "check_wrong_lines",
]

ScalarFunction = Callable[[Tensor], Tensor]

MOVED = "The tensor theta itself has moved. Make a new tensor in each step: other tasks start from theta."
TRUE_GRADIENT = "torch.autograd.grad(loss, point, create_graph=True)"


def check_inner_loop(answer: Callable[..., Any]) -> None:
    """Exercise 2.1, the inner loop.

    Args:
        answer: ``inner_loop(theta, support_loss, steps, alpha)``, with ``theta`` ``(parameters,)``, giving theta^(K).
    """
    exercise, alpha, theta = "2.1", 0.1, _theta()
    cases = []
    for steps in (3, 1):
        path = _detached(_descend(theta, _support_loss, steps + 1, alpha))  # steps + 2 times (2,)
        slopes = [torch.func.grad(_support_loss)(point) for point in path]
        mistakes = {
            "The parameters have not moved from theta.": path[0],
            "The steps go uphill: subtract alpha times the gradient.":
                _descend(theta, _support_loss, steps, alpha, sign=1)[-1].detach(),
            "Every gradient is taken at theta. Take it where the step before has arrived.": path[0] - steps * alpha * slopes[0],
            f"The gradients pile up: backward() adds to what .grad holds. {TRUE_GRADIENT} gives each step its own, and the outer "
            "loop can differentiate it.": _descend_by_grad(theta, steps, alpha),
            f"theta.grad piles up, and it is the derivative by theta, not by the point of the step. Take {TRUE_GRADIENT}.":
                _descend_by_grad(theta, steps, alpha, by_theta=True),
            "The step size alpha is missing.": _descend(theta, _support_loss, steps, 1.0)[-1].detach(),
            "That is the gradient; the answer is where it leads: theta minus alpha times the gradient.": slopes[steps - 1],
            "Only one step is taken, whatever steps says.": path[1],
            "One step too many is taken.": path[steps + 1],
            "One step too few is taken.": path[steps - 1],
            "These are the parameters along the whole way; return those after the last step alone.":
                torch.stack(path[: steps + 1]),
            "These are the parameters after every step; return those after the last step alone.":
                torch.stack(path[1 : steps + 1]),
        }  # fmt: skip
        cases.append(expect((theta, _support_loss, steps, alpha), path[steps], mistakes))
    if not judge(exercise, _stacked(answer), cases, None, untouched=MOVED):
        return
    for case in cases:
        start = _theta()
        steps = case.arguments[2]
        truth, first_order = (_descend(start, _support_loss, steps, alpha, graph)[-1] for graph in (True, False))
        done, result = attempt(exercise, answer, start, _support_loss, steps, alpha)
        if not done:
            return
        if flaw := _gradient_flaw(result, start, truth, first_order):
            return wrong(exercise, flaw)
    correct(
        exercise, "One step and three steps end at the right point, and the outer loop can differentiate through them."
    )


def check_outer_objective(answer: Callable[..., Any]) -> None:
    """Exercise 2.2, the outer objective of a meta-batch.

    Args:
        answer: ``outer_objective(theta, tasks, alpha)``, with ``theta`` ``(2,)`` and a ``TaskBatch``, giving the mean query loss
            after one inner step.
    """
    exercise, alpha, tasks, theta = "2.2", 0.1, _tasks(), _theta()
    rows = list(zip(*tasks, strict=True))
    truth, start = _objective(theta, tasks, alpha).detach(), theta.detach()
    adapted = [_adapted(theta, sx, sy, alpha).detach() for sx, sy, _, _ in rows]  # tasks times (2,)
    moves = torch.stack(adapted) - start  # (tasks, 2)

    def judged(points: Iterable[Tensor], on_support: bool = False) -> Tensor:
        """The losses ``(tasks,)`` of a point for each task."""
        return torch.stack([
            _line_loss(point, *(row[:2] if on_support else row[2:])) for point, row in zip(points, rows, strict=True)
        ])  # fmt: skip

    chained = [start]
    for sx, sy, _, _ in rows:
        chained.append(_adapted(chained[-1].requires_grad_(), sx, sy, alpha).detach())
    on_query = [_adapted(theta, qx, qy, alpha).detach() for _, _, qx, qy in rows]
    total, last = judged(adapted).sum(), judged(adapted)[-1]
    mistakes = {
        "That is the sum over tasks; the objective is their mean.": total,
        "That is the query loss at theta itself: the tasks were not adapted.": judged([start] * len(rows)).mean(),
        "That is the support loss after adaptation; the objective takes the query loss.": judged(adapted, on_support=True).mean(),
        "That is the sum of the support losses; the objective is the mean of the query losses.":
            judged(adapted, on_support=True).sum(),
        "The inner step used the query set: the learner sees the answers. Adapt on the support set.": judged(on_query).mean(),
        "The inner step goes uphill: subtract alpha times the gradient.": _objective(theta, tasks, alpha, sign=1).detach(),
        "All tasks share one inner step, along the mean of their support gradients. Each task is to adapt by itself, to its own "
        "support set.": judged([start + moves.mean(0)] * len(rows)).mean(),
        "All tasks share one inner step, along the sum of their support gradients. Each task is to adapt by itself, to its own "
        "support set.": judged([start + moves.sum(0)] * len(rows)).mean(),
        f"Each task also follows the gradients of the tasks before it, which pile up in .grad. Take {TRUE_GRADIENT}.":
            judged(start + moves.cumsum(0)).mean(),
        "Later tasks start from parameters that earlier tasks have moved. Start every task from theta.":
            judged(chained[1:]).mean(),
        "Later tasks start from parameters that earlier tasks have moved, and the losses are added up: start every task from "
        "theta, and take the mean.": judged(chained[1:]).sum(),
        "That is the support loss added to the query loss; the objective holds the query loss alone.":
            (judged(adapted) + judged(adapted, on_support=True)).mean(),
        "The sets are exchanged: adapt on the support set, and judge by the query set.":
            judged(on_query, on_support=True).mean(),
        "Only the last task counts; keep the query loss of every task.": last,
        "Only the last task counts, divided by their number; keep the query loss of every task.": last / len(rows),
    }  # fmt: skip
    if not judge(exercise, answer, [expect((theta, tasks, alpha), truth, mistakes)], None, untouched=MOVED):
        return
    start = _theta()
    values = (_objective(start, tasks, alpha, graph) for graph in (True, False))
    done, result = attempt(exercise, answer, start, tasks, alpha)
    if not done:
        return
    if flaw := _gradient_flaw(result, start, *values):
        return wrong(exercise, flaw)
    correct(exercise, "The value is the mean query loss after adaptation, and its gradient is the full meta-gradient.")


def check_query_losses(answer: Callable[..., Any]) -> None:
    """Exercise 2.3, the query losses after steps 1, 2, ..., K.

    Args:
        answer: ``query_losses(theta, support_loss, query_loss, steps, alpha)``, giving K numbers.
    """
    steps, alpha, theta = 4, 0.1, _theta()
    path = _detached(_descend(theta, _support_loss, steps, alpha))
    query, support = (
        torch.stack([loss(point) for point in path]) for loss in (_query_loss, _support_loss)
    )  # (steps + 1,)
    on_query = _detached(_descend(theta, _query_loss, steps, alpha))
    mistakes = {
        f"That is the loss after the last step alone; keep all {steps}.": query[-1],
        f"That is the mean of the losses; return all {steps}, do not average them.": query[1:].mean(),
        f"That is {steps + 1} losses: the first is from before any step. Leave it out.": query,
        "Each loss is taken before its step. Move first, then look at the query set.": query[:-1],
        "These are support losses. The steps use the support loss; return the query losses.": support[1:],
        "These are support losses, from before each step. The steps use the support loss; return the query losses.":
            support[:-1],
        "These are support losses, the one before any step included. The steps use the support loss; return the query losses.":
            support,
        "The steps follow the query loss: the learner sees the answers. Adapt on the support loss.":
            torch.stack([_query_loss(point) for point in on_query[1:]]),
        "The losses are right, but in reverse order.": query[1:].flip(0),
        "Every gradient is taken at theta. Take it where the step before has arrived.":
            torch.stack([_query_loss(path[0] + k * (path[1] - path[0])) for k in range(1, steps + 1)]),
    }  # fmt: skip
    truth = query[1:]

    def explain(given: Tensor) -> str:
        right = [close(a, b) for a, b in zip(given.flatten(), truth, strict=True)]
        k = right.index(False)
        return f"The loss after step {k + 1} should be {truth[k]:.4f}, got {given.flatten()[k]:.4f}."

    case = expect((theta, _support_loss, _query_loss, steps, alpha), truth, mistakes, explain)
    why = f"{steps} losses, the first after one step. Chapter 7 trains on all of them."
    judge("2.3", _stacked(answer), [case], why, untouched=MOVED)


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
        "A takes every gradient at the start, B judges on the points it adapted on, C starts tasks from moved parameters.",
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
            shot: "1 is the number per class; a task has 5 classes.",
            tasks * support: "That counts all 4 tasks; one task is asked for.",
            steps * support: "That counts every inner step; the question is how many different images there are.",
        },
        "query": {
            queries: "15 is the number per class; a task has 5 classes.",
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
        answer = images.get(key)
        if answer is None:
            return wrong(exercise, f'"{key}" has no answer yet; expected a whole number.')
        case = expect((), truth, {text: value for value, text in hints[key].items()}, lambda _: "Count again.")
        if not judge(exercise, lambda answer=answer: answer, [case], None, f'"{key}": '):
            return None
    correct(
        exercise, "320 images per outer step, but 400 image passes: each inner step looks at the support images again."
    )


def check_mended_training(train: Callable[..., Any]) -> None:
    """Exercise 2.6.

    Args:
        train: of theta ``(2,)``, a list of ``TaskBatch``, the number of inner steps, alpha and beta; returns the trained theta.
    """
    exercise, steps, alpha, beta = "2.6", 2, 0.1, 0.1
    start = _theta().detach()
    theta, stream = start.clone(), [_tasks().select(slice(0, 2)), _tasks().select(slice(1, 3)), _tasks()]
    done, result = attempt(exercise, train, theta, stream, steps, alpha, beta)
    if not done:
        return
    answer = as_tensor(result)
    if answer is None or answer.numel() != 2:
        kind = type(result).__name__ if answer is None else f"shape {tuple(answer.shape)}"
        return wrong(exercise, f"Expected the trained theta of shape (2,), got {kind}.")
    if not torch.equal(theta.detach(), start):
        return wrong(
            exercise, "The tensor theta that was handed in has moved. Train a copy, as the given function does."
        )
    if close(answer, start):
        return wrong(exercise, "The result is the theta that was handed in: nothing was trained.")
    trained = {
        mistakes: _train_lines(start, stream, steps, alpha, beta, mistakes)
        for count in range(len(_TRAINING_MISTAKES) + 1)
        for mistakes in combinations(_TRAINING_MISTAKES, count)
    }
    if close(answer, trained[()]):
        return correct(exercise, "Each task starts from theta, and each outer step has its own, full meta-gradient.")
    if close(answer, trained[tuple(_TRAINING_MISTAKES)]):
        return not_attempted(exercise)
    for mistakes, theta_then in trained.items():
        if close(answer, theta_then):
            left = "One mistake is left" if len(mistakes) == 1 else f"{len(mistakes)} mistakes are left"
            return wrong(exercise, f"{left}. {' '.join(_TRAINING_MISTAKES[mistake] for mistake in mistakes)}")
    for others, theta_then in (
        ("sum", _train_lines(start, stream, steps, alpha, beta, ("sum",))),
        ("steps", _train_lines(start, stream, 1, alpha, beta, ())),
        ("support", _train_lines(start, stream, steps, alpha, beta, ("support",))),
        ("Adam", _train_lines(start, stream, steps, alpha, beta, ("Adam",))),
    ):
        if close(answer, theta_then):
            return wrong(exercise, _OTHER_TRAINING_MISTAKES[others])
    expected, got = ([round(x, 4) for x in values.tolist()] for values in (trained[()], answer))
    wrong(exercise, f"After three outer steps theta should be {expected}, got {got}.")


_LINES = {
    1: "every task brings a support and a query set.",
    2: "each task starts from the initialisation, on its own.",
    3: "each step takes the gradient of the support loss where the task stands now.",
    4: "each task is judged by the query loss of the adapted parameters.",
    5: "the outer step follows the gradient of the mean query loss with respect to theta.",
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


def _detached(path: Iterable[Tensor]) -> list[Tensor]:
    return [point.detach() for point in path]


def _descend_by_grad(theta: Tensor, steps: int, alpha: float, by_theta: bool = False) -> Tensor:
    """Where steps lead whose gradients pile up, as in ``.grad``; ``by_theta``: derivatives by theta, through the steps before."""
    point, piled = theta, torch.zeros_like(theta)
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(_support_loss(point), theta if by_theta else point, create_graph=True)
        piled = piled + gradient
        point = point - alpha * piled
    return point.detach()


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


def _stacked(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The reader's function with what it gives, in whatever container, as one tensor where that can be done."""

    def call(*arguments: Any) -> Any:
        result = answer(*arguments)
        values = list(result.values()) if isinstance(result, Mapping) else result
        if not isinstance(values, (list, tuple)) or len(values) < 2:
            return values
        parts = [as_tensor(part) for part in values]
        same = all(part is not None and parts[0] is not None and part.shape == parts[0].shape for part in parts)
        return torch.stack([part for part in parts if part is not None]) if same else values

    return call


def _line(value: Any) -> int | None:
    """A line number, however it is written: 3, 3.0, "3", "line 3"."""
    if value is None or value is ...:
        return None
    found = re.search(r"\d+", str(value))
    return int(found.group()) if found else None


_TRAINING_MISTAKES = {
    "chained": "A task starts from parameters that an earlier task has moved.",
    "first order": "The inner gradient counts as a constant, so the outer gradient is the first-order one.",
    "accumulated": "Gradients of earlier outer steps are still in theta.grad.",
}
_OTHER_TRAINING_MISTAKES = {
    "sum": "The three mistakes are mended, but the losses are summed now. The objective is their mean.",
    "steps": "The three mistakes are mended, but there is only one inner step now. Take as many as `steps` says.",
    "support": "The three mistakes are mended, but the loss of a task is now its support loss.",
    "Adam": "The three mistakes are mended, but the outer optimiser is Adam now. Leave it plain gradient descent, SGD.",
}


def _train_lines(
    start: Tensor, stream: list[TaskBatch], steps: int, alpha: float, beta: float, mistakes: tuple[str, ...]
) -> Tensor:
    """MAML on lines by plain gradient descent, with these mistakes."""
    theta = start.clone().requires_grad_()  # (2,)
    optimiser = (torch.optim.Adam if "Adam" in mistakes else torch.optim.SGD)([theta], lr=beta)
    for tasks in stream:
        point, losses = theta, []
        for sx, sy, qx, qy in zip(*tasks, strict=True):
            if "chained" not in mistakes:
                point = theta
            for _ in range(steps):
                loss = _line_loss(point, sx, sy)
                (gradient,) = torch.autograd.grad(loss, point, create_graph="first order" not in mistakes)
                point = point - alpha * gradient  # (2,)
            losses.append(_line_loss(point, *((sx, sy) if "support" in mistakes else (qx, qy))))
        total = torch.stack(losses).sum() if "sum" in mistakes else torch.stack(losses).mean()
        if "accumulated" not in mistakes:
            optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return theta.detach()
