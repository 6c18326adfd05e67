"""Checks of chapter 10, schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from mamlkit.checking._cases import expect, judge, normal, problem
from mamlkit.outer_loss import AnnealedMultiStep

__all__ = ["check_comparison", "check_cosine", "check_first_order_steps", "check_schedules", "check_start_rate"]

Loss = Callable[[Tensor], Tensor]


def check_cosine(answer: Callable[..., Any]) -> None:
    """Exercise 10.1, an outer rate that is held and then comes down along half a cosine.

    Args:
        answer: ``cosine(step, steps, hold, first, last)``, numbers in, the rate of this outer step out.
    """
    cases = []
    for step, steps, hold, first, last in (
        (37, 107, 7, 1e-3, 1e-5),
        (140, 520, 20, 0.02, 0.001),
        (9, 11, 2, 1.0, 0.1),
        (3, 60, 10, 0.5, 0.01),  # still held
    ):
        at, length = max(0, step - hold), steps - hold
        turn = at / length

        def rate(share: float, first: float = first, last: float = last) -> float:
            """Part of the way from ``last`` to ``first``."""
            return last + share * (first - last)

        mistakes = {
            "The cosine is stretched over all steps; it begins after the held ones and has the rest.":
                rate(0.5 * (1 + math.cos(math.pi * at / steps))),
            "Nothing is held: this is half a cosine over the whole run.": rate(0.5 * (1 + math.cos(math.pi * step / steps))),
            "The rate jumps after the held steps: there the cosine has only begun, so count its steps from there.":
                rate(0.5 * (1 + math.cos(math.pi * step / steps))) if step >= hold else first,
            "Before the hold is over the cosine runs backwards: no step of it has been taken yet.":
                rate(0.5 * (1 + math.cos(math.pi * (step - hold) / length))),
            "The rate rises from last to first: it is 1 + cos, times first - last, on top of last.":
                rate(0.5 * (1 - math.cos(math.pi * turn))),
            "The 1 + is missing: a cosine alone becomes negative half way.": rate(0.5 * math.cos(math.pi * turn)),
            "1 + cos goes from 2 to 0: the factor one half is missing.": rate(1 + math.cos(math.pi * turn)),
            "pi is missing: the cosine has to run through half a turn.": rate(0.5 * (1 + math.cos(turn))),
            "That is a whole turn: the rate would come back to the first one. Half a turn is pi.":
                rate(0.5 * (1 + math.cos(2 * math.pi * turn))),
            "That is a quarter of a turn: it ends half way.": rate(0.5 * (1 + math.cos(0.5 * math.pi * turn))),
            "That is a quarter of a turn, steepest at the end; half a turn is flat there: 1 + cos, halved, up to pi.":
                rate(math.cos(0.5 * math.pi * turn)),
            "That is a straight line; the cosine is flat at both ends.": rate(1 - turn),
            "This ends at 0: the last rate is the floor, add it.": 0.5 * (1 + math.cos(math.pi * turn)) * first,
            "The last rate is added, but the swing is first - last, not first.":
                last + 0.5 * (1 + math.cos(math.pi * turn)) * first,
            "The last rate is not added: this goes down to 0.": 0.5 * (1 + math.cos(math.pi * turn)) * (first - last),
            "The cosine takes radians, not degrees: half a turn is pi, not 180.":
                rate(0.5 * (1 + math.cos(180 * turn))),
            "Steps are counted from 0: in step 0 the rate is the first one. This is one step ahead.":
                rate(0.5 * (1 + math.cos(math.pi * (at + 1) / length))),
            "The fall begins one step late: in outer step hold the rate is still first, and in the next it is lower.":
                rate(0.5 * (1 + math.cos(math.pi * max(0, at - 1) / length))),
            "Divide by steps, not by steps - 1: the last rate belongs to the step after the last.":
                rate(0.5 * (1 + math.cos(math.pi * at / (length - 1)))),
            "This is the share of the way, without the two rates.": 0.5 * (1 + math.cos(math.pi * turn)),
        }  # fmt: skip
        cases.append(expect((step, steps, hold, first, last), rate(0.5 * (1 + math.cos(math.pi * turn))), mistakes))
    judge("10.1", answer, cases, "Held, then down along half a cosine.")


def check_first_order_steps(answer: Callable[..., Any]) -> None:
    """Exercise 10.2, how many first-order steps fit before a given number of second-order ones.

    Args:
        answer: ``first_order_steps(budget, second_order_steps, first_time, second_time)``, times in seconds; a whole number.
    """
    cases = []
    for budget, second_steps, first_time, second_time in (
        (100.0, 120, 0.25, 0.53), (60.0, 31, 0.7, 1.3), (33.0, 10, 0.9, 1.75)
    ):  # fmt: skip
        rest = budget - second_steps * second_time
        mistakes = {
            "Steps are whole: round down.": rest / first_time,
            "This is one too many: with it the time runs out. Round down.": math.ceil(rest / first_time),
            "round() goes to the nearest whole number, at times one too many: round down.": round(rest / first_time),
            "The second-order steps are not paid for: take their time off the budget first.": budget // first_time,
            "The times have changed places.": (budget - second_steps * first_time) // second_time,
            "The rest of the budget is for first-order steps: divide it by their time.": rest // second_time,
            "The second-order steps cost second_time each.": (budget - second_steps * first_time) // first_time,
            "This is the whole number of steps of the run; give the first-order ones.": rest // first_time + second_steps,
            "This is the time that is left, in seconds; how many first-order steps fit into it?": rest,
            "This is the time that is left, in whole seconds; how many first-order steps fit into it?": math.floor(rest),
            "This multiplies by the time of a step; divide by it.": math.floor(rest * first_time),
        }  # fmt: skip
        cases.append(expect((budget, second_steps, first_time, second_time), math.floor(rest / first_time), mistakes))
    if not judge("10.2", answer, cases, None):
        return
    short = expect(
        (10.0, 40, 0.2, 0.5),
        0,
        {
            "Where the budget does not even pay for the second-order steps, the answer is 0, not below.": (10.0 - 20.0)
            // 0.2,
            "Where the budget does not pay for the second-order steps, the answer is 0.": 10.0 // 0.2,
        },
    )
    judge("10.2", answer, [short], "What is left after the second-order steps, in whole steps, and never below 0.")


def check_comparison(answer: Callable[..., Any]) -> None:
    """Exercise 10.3, two schedules compared at the best rate of each.

    Args:
        answer: ``compare(one, other)``, the test losses of two schedules at the same rates, in rising order, ``(rates, 8)``
            with a column for each seed; it gives the mean of other minus one, the half-width of its 95 % interval, and
            whether both best rates lie inside the grid.
    """
    cases = []
    for seed, lows in enumerate(((1, 2), (0, 2), (1, 3), (2, 0), (3, 1), (0, 3))):  # of four rates
        common = 0.6 * normal(8, seed=60 + seed)  # seeds are hard or easy for both
        one, other = (
            1.5
            + 0.8 * (torch.arange(4.0)[:, None] - low).square()
            + common
            + 0.3 * normal(4, 8, seed=70 + 10 * seed + i)
            for i, low in enumerate(lows)
        )
        one[lows[0] - 1 if lows[0] else 1, 0] -= 2.5  # one lucky run beside the best rate
        (a, b), (last, _) = (int(x.mean(1).argmin()) for x in (one, other)), one.shape
        inside = float(0 < a < last - 1 and 0 < b < last - 1)

        def found(
            values: Tensor, inside: float = inside, half: float | None = None, scale: float = 2.365, correction: int = 1
        ) -> list[float]:
            """Mean, half-width and verdict, with one of them off."""
            spread = values.std(correction=correction).item() / math.sqrt(len(values))
            return [values.mean().item(), scale * spread if half is None else half, inside]

        apart = other[b] - one[a]
        unpaired = 2.365 * math.sqrt((other[b].var().item() + one[a].var().item()) / 8)
        mistakes = {
            "The sign is turned: other minus one.": found(-apart),
            "Both are taken at the best rate of one: that measures the rate. Each schedule has a best rate of its own.":
                found(other[a] - one[a]),
            "Both are taken at the best rate of other: that measures the rate. Each schedule has a best rate of its own.":
                found(other[b] - one[b]),
            "Both are taken at the best rate of one, and only its place is looked at: each schedule has its own best rate.":
                found(other[a] - one[a], float(0 < a < last - 1)),
            "Both are taken at the best rate of other, and only its place is looked at: each schedule has its own best rate.":
                found(other[b] - one[b], float(0 < b < last - 1)),
            "Each seed has picked a rate of its own: take one rate for a schedule, the one with the lowest mean over seeds.":
                found(other.amin(0) - one.amin(0)),
            "The rate is that of the luckiest single run; take the lowest mean over seeds.":
                found(other[other.amin(1).argmin()] - one[one.amin(1).argmin()]),
            "The best rate has the lowest loss, not the highest.":
                found(other[other.mean(1).argmax()] - one[one.mean(1).argmax()]),
            "The rates are averaged: take each schedule at its best rate.": found(other.mean(0) - one.mean(0)),
            "The seeds are paired: take the differences first, then their standard deviation.": found(apart, half=unpaired),
            "This is the standard deviation of a seed; that of the mean is smaller by the root of the number of seeds.":
                found(apart, scale=2.365 * math.sqrt(8)),
            "Divide by the root of the number of seeds, not by the number.": found(apart, scale=2.365 / math.sqrt(8)),
            "The factor 2.365 is missing.": found(apart, scale=1.0),
            "With eight seeds the factor is 2.365; 1.96 is for many.": found(apart, scale=1.96),
            "The standard deviation divides by n - 1 here: .std() as it is.": found(apart, correction=0),
            "The verdict is turned: True where both best rates are inside.": found(apart, 1 - inside),
            "Only the best rate of one is looked at: both must lie inside.": found(apart, float(0 < a < last - 1)),
            "Only the best rate of other is looked at: both must lie inside.": found(apart, float(0 < b < last - 1)),
            "One best rate inside is not enough: both must lie inside.":
                found(apart, float(0 < a < last - 1 or 0 < b < last - 1)),
            "The lower end of the grid is an end, too.": found(apart, float(a < last - 1 and b < last - 1)),
            "The upper end of the grid is an end, too.": found(apart, float(a > 0 and b > 0)),
            "It says True each time: is there a rate on both sides of each best one?": found(apart, 1.0),
            "It says False each time: there are grids with a rate on both sides of each best one.": found(apart, 0.0),
        }  # fmt: skip
        cases.append(expect((one, other), found(apart), mistakes))
    judge("10.3", answer, cases, "Best against best, seed by seed, on a grid that reaches beyond both.")


def check_start_rate(answer: Callable[..., Any]) -> None:
    """Exercise 10.4, the start of a cosine whose rates add up to those of a constant rate.

    Args:
        answer: ``start_rate(rate, steps, last)``, the constant rate, the number of outer steps of both, and the rate that the
            cosine is heading for; it gives the cosine's first rate.
    """
    cases = []
    for rate, steps, last in ((0.01, 10, 0.001), (0.3, 7, 0.02), (1.0, 4, 0.1)):
        mistakes = {
            "With this one the rates add up to slightly too much: t and T - t cancel, but step 0 has no partner.":
                last + 2 * (rate - last),
            "The floor is missing: the cosine is heading for last, not for 0.": 2 * steps * rate / (steps + 1),
            "The floor is missing, and step 0 has no partner among the cosines.": 2 * rate,
            "The floor is counted twice: first - last is the swing, so add last once.":
                2 * last + 2 * steps * (rate - last) / (steps + 1),
            "This is the swing, first - last; add last.": 2 * steps * (rate - last) / (steps + 1),
            "The half of the swing is missing: 1 + cos is halved in the schedule.":
                last + steps * (rate - last) / (steps + 1),
            "This counts step T too: its rate, last, is never used.":
                2 * steps * rate / (steps + 1) - last,
            "The sum of the cosines is 1, not -1: step 0 has a cosine of 1, and no step has -1.":
                last + 2 * steps * (rate - last) / (steps - 1),
            "This starts at the constant rate: then the cosine's rates add up to about half.": rate,
            "This is the sum of the rates; return the first of them.": steps * rate,
        }  # fmt: skip
        cases.append(expect((rate, steps, last), last + 2 * steps * (rate - last) / (steps + 1), mistakes))
    judge("10.4", answer, cases, "Twice the way from last to the constant rate, but for the step without a partner.")


def check_schedules(answer: Callable[..., Any]) -> None:
    """Exercise 10.5, a training loop whose three schedules go by the wrong clock.

    Args:
        answer: ``train(tasks, theta, alpha, K, E, F, epochs, epoch_length, beta)``, with tasks as pairs of support and query
            loss; it gives the trained theta ``(n,)``.
    """
    ahead = "epochs are counted from 1, so {} an epoch ahead"
    within = "the order follows the outer step within the epoch, where the number of the epoch is meant"
    slow = "the cosine is made for the outer steps of the run and moves once per epoch"
    cases = []
    for seed, alpha, K, E, F, epochs, epoch_length in ((1, 0.2, 3, 3, 2, 4, 3), (2, 0.15, 2, 4, 3, 5, 2)):
        tasks = tuple(problem(alpha, 1, seed=30 * seed + i)[:2] for i in range(2))
        theta = normal(3, seed=180 + seed)
        settings = (alpha, K, E, F, epochs, epoch_length, 0.1)

        def trained(
            weights: str = "right",
            order: str = "right",
            rate: str = "right",
            tasks: Sequence[tuple[Loss, Loss]] = tasks,
            theta: Tensor = theta,
            settings: tuple[Any, ...] = settings,
        ) -> Tensor:
            return _train(tasks, theta, *settings, weights=weights, order=order, rate=rate)

        mistakes = {}
        for first, order, rate in product(("right", "ahead"), ("right", "ahead", "within"), ("right", "slow")):
            early = [name for name, clock in (("the weights are", first), ("the order is", order)) if clock == "ahead"]
            early = ["weights and order are"] if len(early) == 2 else early
            names = [ahead.format(name) for name in early]
            names += [within] * (order == "within") + [slow] * (rate == "slow")
            if names:
                count = {1: "One mistake is", 2: "Two mistakes are", 3: "All three mistakes are"}[len(names)]
                mistakes[f"{count} left: {'; '.join(names)}."] = trained(first, order, rate)
        mistakes |= {
            "The order follows the outer step of the run now; F is a number of epochs.": trained(order="step"),
            "First order lasts an epoch too long: epochs 0 to F - 1 make F of them.": trained(order="late"),
            "The orders have changed places: first order comes first.": trained(order="swapped"),
            "The cosine goes to 0 in the right time, but in stairs, once per epoch; here it moves in every outer step.":
                trained(rate="stairs"),
            "The cosine moves once too often per epoch: in every outer step, and again at the end of the epoch.":
                trained(rate="twice"),
            "The cosine moves in every outer step now, but is made for a number of epochs: it comes up again.":
                trained(rate="waves"),
            "The rate is one outer step ahead: the first step is taken with beta.": trained(rate="early"),
            "The rate stays at beta: the cosine never moves.": trained(rate="constant"),
            "Theta has not moved: give back the one that was trained.": theta,
        }  # fmt: skip
        cases.append(expect((tasks, theta.clone(), *settings), trained(), mistakes))
    untouched = "The theta that is passed in is changed in place: train a copy of it."
    judge("10.5", answer, cases, "Weights and order go by the epoch, the rate by the outer step.", untouched=untouched)


def _train(
    tasks: Sequence[tuple[Loss, Loss]],
    theta: Tensor,
    alpha: float,
    K: int,
    E: int,
    F: int,
    epochs: int,
    epoch_length: int,
    beta: float,
    *,
    weights: str,
    order: str,
    rate: str,
) -> Tensor:
    """Exercise 10.5's program, each schedule by the right clock or by one of the wrong ones."""
    steps = epochs * epoch_length
    for step in range(steps):
        epoch, within = divmod(step, epoch_length)
        first_order = {
            "right": epoch < F,
            "ahead": epoch + 1 < F,
            "within": within < F,
            "step": step < F,
            "late": epoch <= F,
            "swapped": epoch >= F,
        }[order]
        turn = {
            "right": step / steps,
            "slow": epoch / steps,
            "stairs": epoch / epochs,
            "waves": step / epochs,
            "early": (step + 1) / steps,
            "twice": (step + epoch) / steps,
            "constant": 0.0,
        }[rate]
        row = AnnealedMultiStep(E).weights(K, epoch + (weights == "ahead"))  # (K,)
        point = theta.clone().requires_grad_()
        losses = []
        for support, query in tasks:
            w = point
            for k in range(K):
                (g,) = torch.autograd.grad(support(w), w, create_graph=True)
                w = w - alpha * (g.detach() if first_order else g)
                losses.append(row[k] * query(w) / len(tasks))
        (slope,) = torch.autograd.grad(torch.stack(losses).sum(), point)
        theta = theta - beta * (1 + math.cos(math.pi * turn)) / 2 * slope
    return theta
