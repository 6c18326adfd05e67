"""Checks of chapter 9, batch norm across inner steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mamlkit.checking._cases import expect, judge, normal
from mamlkit.checking._report import as_tensor, attempt, close, correct, not_attempted, wrong
from mamlkit.models import seeded

__all__ = ["check_batch_norm", "check_blend", "check_quiet_outputs", "check_sees_company", "check_share_in_common"]


def check_batch_norm(answer: Callable[..., Any]) -> None:
    """Exercise 9.1, batch norm with a row of weights for each inner step.

    Args:
        answer: ``batch_norm(x, gamma, beta, step)``, with ``x`` ``(points, C, height, width)`` and rows ``(K, C)``, giving the
            shape of ``x``.
    """
    x = normal(3, 2, 2, 3, seed=1) * 1.7 + 0.8  # (points, C, height, width)
    gamma, beta = normal(4, 2, seed=2), normal(4, 2, seed=3)  # (K, C)
    done, value = (
        attempt("9.1", answer, x.clone(), gamma.clone(), beta.clone(), 1) if callable(answer) else (True, None)
    )
    if not done:
        return
    tensor = as_tensor(value)
    if value is None:
        return not_attempted("9.1")
    if tensor is None or tensor.shape != x.shape:
        got = type(value).__name__ if tensor is None else f"shape {tuple(tensor.shape)}"
        return wrong("9.1", f"A tensor of the shape of x, {tuple(x.shape)}, was expected, this is {got}.")

    def flat(*arguments: Any) -> Any:
        value = as_tensor(answer(*arguments))
        return None if value is None else value.flatten()

    def scaled(values: Tensor, step: int, rows: tuple[Tensor, Tensor] = (gamma, beta)) -> Tensor:
        scale, shift = (row[min(step, 3)][:, None, None] for row in rows)
        return (values * scale + shift).flatten()

    def standardised(dims: tuple[int, ...] = (0, 2, 3), correction: int = 0) -> Tensor:
        return (x - x.mean(dims, keepdim=True)) / x.var(dims, correction=correction, keepdim=True).sqrt()

    own, mean, variance = standardised(), x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    averaged = gamma.mean(0).expand(4, 2), beta.mean(0).expand(4, 2)  # (K, C) each
    cases = []
    for step in (1, 0, 2):
        mistakes = {
            "Row 0 is used in every step: in step k take row k.": scaled(own, 0),
            "The rows are off by one: steps are counted from 0, so step k uses row k.": scaled(own, step + 1),
            "The rows are off by one: step k uses row k, not row k - 1.": scaled(own, step - 1),
            "The rows are off by one: step k uses row k, and step 0 is the first; here step 1 has row 0 again.":
                scaled(own, max(step - 1, 0)),
            "The rows are averaged; each step uses its own.": scaled(own, 0, averaged),
            "gamma and beta have changed places: gamma multiplies, beta is added.": scaled(own, step, (beta, gamma)),
            "x is normalised, but gamma and beta are missing.": own.flatten(),
            "beta is missing.": scaled(own, step, (gamma, torch.zeros_like(beta))),
            "gamma is missing.": scaled(own, step, (torch.ones_like(gamma), beta)),
            "The statistics are those of each place over the points; a channel has one mean, over points and places.":
                scaled(standardised((0,)), step),
            "Each image is normalised by itself; batch norm takes the mean over the points as well.":
                scaled(standardised((2, 3)), step),
            "All channels share one mean; each channel has its own.": scaled(standardised((0, 1, 2, 3)), step),
            "Each point is normalised over its channels and places; that is layer norm.": scaled(standardised((1, 2, 3)), step),
            "The variance is the unbiased one; batch norm takes correction=0.": scaled(standardised(correction=1), step),
            "The variance is averaged within images: take it over points and places together, so that what differs "
            "between images counts, too.":
                scaled((x - mean) / x.var((2, 3), correction=0, keepdim=True).mean(0).sqrt(), step),
            "The root is missing: divide by the standard deviation, not by the variance.":
                scaled((x - mean) / variance, step),
            "The mean is not subtracted.": scaled(x / variance.sqrt(), step),
            "Only the mean is subtracted; divide by the standard deviation too.": scaled(x - mean, step),
            "x is not normalised.": scaled(x, step),
        }  # fmt: skip
        cases.append(expect((x, gamma, beta, step), scaled(own, step), mistakes))
    if not judge("9.1", flat, cases, None):
        return
    beyond = []
    for step in (3, 4, 7):
        mistakes = {
            "Beyond K the rows start again; the last row goes on instead.": scaled(own, step % 4),
            "Beyond K row 0 is used; the last row goes on instead.": scaled(own, step if step < 4 else 0),
            "Beyond K gamma and beta are left out; the last row goes on instead.": scaled(own, 3) if step < 4 else own.flatten(),
        }  # fmt: skip
        beyond.append(expect((x, gamma, beta, step), scaled(own, 3), mistakes))
    try:
        answer(x.clone(), gamma.clone(), beta.clone(), 7)
    except IndexError:
        return wrong("9.1", "Up to step K - 1 all is well. Beyond it there is no row of its own: the last row goes on.")
    except Exception:  # judge will say which
        pass
    judge("9.1", flat, beyond, "The batch's own statistics, row k in step k, and the last row beyond K.")


def check_sees_company(answer: Callable[..., Any]) -> None:
    """Exercise 9.2, whether a network's answer for a point depends on the other points.

    Args:
        answer: ``sees_company(predict, x)``, with ``predict`` from points ``(points, 1, 6, 6)`` to outputs ``(points, 5)``; it
            gives a bool.
    """
    x = normal(8, 1, 6, 6, seed=4)
    head, other = normal(36, 5, seed=5), normal(8, 1, 6, 6, seed=6)

    def with_statistics(mean: Tensor, variance: Tensor, x: Tensor) -> Tensor:
        points = ((x - mean) / (variance + 1e-5).sqrt()).flatten(1)
        # One by one, and no matrix product, which may depend on where in memory a point lies: the same in any company.
        return torch.stack([(point[:, None] * head).sum(0) for point in points])

    def of_batch(x: Tensor) -> Tensor:
        return with_statistics(x.mean(), x.var(correction=0), x)

    def of_variance(x: Tensor) -> Tensor:
        return with_statistics(torch.tensor(0.1), x.var(correction=0), x)

    def running(x: Tensor) -> Tensor:
        return with_statistics(torch.tensor(0.3), torch.tensor(1.4), x)

    def of_support(x: Tensor) -> Tensor:
        return with_statistics(other.mean(), other.var(correction=0), x)

    def rounding(x: Tensor) -> Tensor:
        return running(x) * (1 + 1e-9 * len(x))

    networks = [
        (of_batch, True, "It says {} for a network that normalises with the batch. If you shuffled the points: mean and "
         "variance do not notice. Leave points out."),
        (of_variance, True, "It says {} for a network that takes only the variance from the batch."),
        (running, False, "It says {} for a network with running statistics, where each point is answered alone."),
        (of_support, False, "It says {} for a network with the support set's statistics, the same for any query points."),
        (rounding, False, "It says {} for a network with running statistics whose outputs differ by rounding, in the ninth "
         "digit. Compare with torch.allclose."),
    ]  # fmt: skip
    verdicts = []
    for network, truth, message in networks:
        done, value = attempt("9.2", answer, network, x.clone()) if callable(answer) else (True, None)
        if not done:
            return
        if value is None:
            return not_attempted("9.2")
        verdict = as_tensor(value)
        if verdict is None or verdict.numel() != 1:
            return wrong("9.2", f"True or False was expected, this is {type(value).__name__}.")
        verdicts.append((bool(verdict.item()), truth, message))
    if all(said is not truth for said, truth, _ in verdicts[:4]):  # rounding is a matter of its own
        return wrong("9.2", "Every answer is the opposite of the truth: True is for a network that sees company.")
    for said, truth, message in verdicts:
        if said is not truth:
            return wrong("9.2", message.format(said))
    correct("9.2", "Two networks that see company and three that do not, told apart by their outputs.")


def check_quiet_outputs(answer: Callable[..., Any]) -> None:
    """Exercise 9.3, outputs in training mode that leave no trace in the running statistics.

    Args:
        answer: ``quiet_outputs(model, x)``, with a model in training mode that has batch norm; it gives ``model(x)``.
    """
    model = _model()
    before = copy.deepcopy(model)
    x = normal(6, 1, 5, 5, seed=7) + 0.5
    with torch.no_grad():
        truth = copy.deepcopy(model)(x)
        by_running = copy.deepcopy(model).eval()(x)
    done, value = attempt("9.3", answer, model, x.clone()) if callable(answer) else (True, None)
    if not done:
        return
    if value is None:
        return not_attempted("9.3")
    outputs = as_tensor(value)
    if outputs is None or outputs.shape != truth.shape:
        return wrong(
            "9.3", f"The model's outputs, {tuple(truth.shape)}, were expected, this is {type(value).__name__}."
        )
    if close(outputs, by_running):
        return wrong(
            "9.3", "These are the outputs with running statistics; return the batch's own. Leave the mode alone."
        )
    if not close(outputs, truth):
        return wrong("9.3", "The outputs are not those of model(x) in training mode.")
    changed = {
        name.rpartition(".")[2]
        for (name, now), then in zip(model.named_buffers(), before.buffers(), strict=True)
        if not torch.equal(now, then)
    }
    if {"running_mean", "running_var"} <= changed:
        return wrong(
            "9.3",
            "The running statistics have moved. If you took a backup: it shares the memory that batch norm writes into. "
            "Clone each buffer.",
        )
    if changed & {"running_mean", "running_var"}:
        return wrong(
            "9.3", f"{', '.join(sorted(changed & {'running_mean', 'running_var'}))} has moved; the other is restored."
        )
    if changed:
        return wrong("9.3", "Mean and variance are as before, but num_batches_tracked has moved: it is a buffer too.")
    if not all(module.training for module in model.modules()):
        return wrong("9.3", "The statistics are as before, but the model is left in evaluation mode.")
    if any(not torch.equal(now, then) for now, then in zip(model.parameters(), before.parameters(), strict=True)):
        return wrong("9.3", "The statistics are as before, but the weights have changed.")
    correct("9.3", "The outputs of the batch's own statistics, and every buffer as it was.")


def check_share_in_common(answer: Callable[..., Any]) -> None:
    """Exercise 9.4, the share of a squared movement that tasks have in common.

    Args:
        answer: ``share_in_common(moves)``, with ``moves`` ``(tasks, C)``; it gives a number from 0 to 1.
    """
    cases = []
    for tasks, channels, common in ((6, 3, 0.5), (9, 4, 1.5)):
        moves = normal(tasks, channels, seed=10 + tasks) + common * normal(channels, seed=20 + tasks)
        row, total = moves.mean(0), moves.square().mean()
        truth = row.square().mean() / total
        mistakes = {
            "This is the chapter's estimate with two halves of the tasks; here the plain mean over all tasks is asked for.":
                (moves[: tasks // 2].mean(0) * moves[tasks // 2 :].mean(0)).mean() / total,
            "This is the rest, what differs from task to task; the share in common is 1 minus it.": 1 - truth,
            "This is a ratio of lengths: leave the squares, take no root.": truth.sqrt(),
            "The mean is taken over channels; a row holds one number per channel, the mean over tasks.":
                moves.mean(1).square().mean() / total,
            "The mean is taken over tasks and channels together; a row holds a number for each channel.":
                moves.mean().square() / total,
            "This is the squared movement in common; divide by the mean squared movement.": row.square().mean(),
            "Signs are lost before the mean: take the mean of the movements, then square.":
                moves.abs().mean(0).square().mean() / total,
            "This compares mean sizes without squares: square the movements.": row.abs().mean() / moves.abs().mean(),
            "The ratio is taken for each channel and then averaged; take the ratio of the two means.":
                (row.square() / moves.square().mean(0)).mean(),
            "This is the spread over tasks; the common part is the square of the mean.": moves.var(0).mean() / total,
            "The two are summed over different numbers of entries: take means over tasks and channels.":
                row.square().sum() / moves.square().sum(),
        }  # fmt: skip
        cases.append(expect((moves,), truth, mistakes))
    judge("9.4", answer, cases, "The rest differs from task to task, and no row can hold it.")


def _model() -> nn.Module:
    """Two batch norms with statistics that are not those of a new layer, in float64."""
    with seeded(0):  # leaves the reader's generator alone
        layers = [nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 2), nn.BatchNorm2d(2)]
    model = nn.Sequential(*layers).double()
    with torch.no_grad():
        for number, tensor in enumerate([*model.parameters(), *model.buffers()]):
            if tensor.is_floating_point():
                tensor.copy_(normal(*tensor.shape, seed=30 + number).abs() + 0.1)
            else:
                tensor.fill_(5)
    return model


def check_blend(answer: Callable[..., Any]) -> None:
    """Exercise 9.5, a norm that blends the statistics of the support set with those of the point itself.

    Args:
        answer: ``blended_norm(query, support, share)``, images ``(points, C, height, width)``; it gives the shape of ``query``.
    """
    cases = []
    for points, channels, share in ((3, 2, 0.3), (4, 3, 0.75)):
        scale = torch.linspace(0.5, 2.0, points, dtype=torch.float64)[:, None, None, None]  # points differ
        query = normal(points, channels, 2, 3, seed=40 + points) * scale + scale
        support = normal(5, channels, 2, 3, seed=50 + points) * 1.4 - 0.5

        def statistics(x: Tensor, dims: tuple[int, ...], correction: int = 0) -> tuple[Tensor, Tensor]:
            return x.mean(dims, keepdim=True), x.var(dims, correction=correction, keepdim=True)

        def blend(a: float, one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            mean = a * one[0] + (1 - a) * two[0]
            square = a * (one[1] + one[0].square()) + (1 - a) * (two[1] + two[0].square())
            return mean, square - mean.square()

        def normed(mean: Tensor, var: Tensor, query: Tensor = query) -> Tensor:
            return (query - mean) / var.sqrt()

        of_support, own = statistics(support, (0, 2, 3)), statistics(query, (1, 2, 3))
        mean, var = blend(share, of_support, own)
        plain = share * of_support[1] + (1 - share) * own[1]
        roots = share * of_support[1].sqrt() + (1 - share) * own[1].sqrt()
        swapped = (1 - share) * of_support[0] + share * own[0]

        def squares(a: float, one: tuple[Tensor, Tensor] = of_support, two: tuple[Tensor, Tensor] = own) -> Tensor:
            return a * (one[1] + one[0].square()) + (1 - a) * (two[1] + two[0].square())

        of_query, channelwise = statistics(query, (0, 2, 3)), statistics(query, (2, 3))
        mistakes = {
            "The variances are blended as if both sources had one mean: the distance of the means adds to the variance.":
                normed(mean, plain),
            "The standard deviations are blended; blend the mean squares, then subtract the square of the blended mean.":
                normed(mean, roots.square()),
            "The shares have changed places: share belongs to the support set.": normed(*blend(1 - share, of_support, own)),
            "The variance's shares have changed places: share belongs to the support set.":
                normed(mean, blend(1 - share, of_support, own)[1]),
            "In the mean squares the shares have changed places: share belongs to the support set.":
                normed(mean, squares(1 - share) - mean.square()),
            "In the mean the shares have changed places, and the variance inherits it: share belongs to the support set.":
                normed(swapped, squares(share) - swapped.square()),
            "The shares have changed places, and the distance of the means is left out of the variance.":
                normed(swapped, (1 - share) * of_support[1] + share * own[1]),
            "The mean's shares have changed places: share belongs to the support set.":
                normed(swapped, var),
            "These are batch norm's statistics of the query set: the answer depends on the other query points.":
                normed(*of_query),
            "The first source is the query batch; take the support set's statistics, so that no other query point is seen.":
                normed(*blend(share, of_query, own)),
            "A point's own statistics are taken for each channel; take them over all its channels and places.":
                normed(*blend(share, of_support, channelwise)),
            "The result for a point changes with the other query points: its own statistics are taken over the query batch.":
                normed(*blend(share, of_support, of_query)),
            "A point's own statistics are taken over all query points: that sees the others.":
                normed(*blend(share, of_support, statistics(query, (0, 1, 2, 3)))),
            "The support's statistics are taken over all channels together; each channel has its own.":
                normed(*blend(share, statistics(support, (0, 1, 2, 3)), own)),
            "The two normalised versions are blended; blend the statistics, then normalise once.":
                share * normed(*of_support) + (1 - share) * normed(*own),
            "Only the support set's statistics are used.": normed(*of_support),
            "Only the point's own statistics are used: that is layer norm.": normed(*own),
            "The variances are the unbiased ones; take correction=0.":
                normed(*blend(share, statistics(support, (0, 2, 3), 1), statistics(query, (1, 2, 3), 1))),
            "The root is missing: divide by the standard deviation.": (query - mean) / var,
            "The mean is not subtracted.": query / var.sqrt(),
        }  # fmt: skip
        cases.append(expect((query, support, share), normed(mean, var), mistakes))
    judge(
        "9.5",
        answer,
        cases,
        "The mixture's variance has the distance of the means in it, and no other query point is seen.",
    )
