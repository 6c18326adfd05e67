"""Checks of chapter 10, schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mamlkit.checking._cases import expect, judge

__all__ = ["check_cosine", "check_first_order_steps", "check_order", "check_share_needed", "check_start_rate"]


def check_cosine(answer: Callable[..., Any]) -> None:
    """Exercise 10.1, cosine annealing of the outer rate.

    Args:
        answer: ``cosine(step, steps, first, last)``, numbers in, the rate of this outer step out.
    """
    cases = []
    for step, steps, first, last in ((30, 100, 1e-3, 1e-5), (120, 500, 0.02, 0.001), (7, 9, 1.0, 0.1)):
        turn = step / steps

        def rate(share: float, first: float = first, last: float = last) -> float:
            """Part of the way from ``last`` to ``first``."""
            return last + share * (first - last)

        mistakes = {
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
                rate(0.5 * (1 + math.cos(math.pi * (step + 1) / steps))),
            "Divide by steps, not by steps - 1: the last rate belongs to the step after the last.":
                rate(0.5 * (1 + math.cos(math.pi * step / (steps - 1)))),
            "This is the share of the way, without the two rates.": 0.5 * (1 + math.cos(math.pi * turn)),
        }  # fmt: skip
        cases.append(expect((step, steps, first, last), rate(0.5 * (1 + math.cos(math.pi * turn))), mistakes))
    judge("10.1", answer, cases, "From the first rate to the last along half a cosine.")


def check_share_needed(answer: Callable[..., Any]) -> None:
    """Exercise 10.2, the share of first-order steps that saves a given share of a run's time.

    Args:
        answer: ``share_needed(saved, ratio)``, a share of the time with second order throughout and how many times longer a
            second-order step takes; it gives a share of the outer steps.
    """
    cases = []
    for saved, ratio in ((0.24, 2.5), (0.2, 1.6), (0.6, 4.0)):
        right = saved / (1 - 1 / ratio)
        mistakes = {
            "This takes first-order steps as free; each still costs 1/ratio of a second-order one.": saved,
            "This is what a run saves that has the share saved of first-order steps; the question is the other way round.":
                saved * (1 - 1 / ratio),
            "This divides by what a first-order step costs, 1/ratio; divide by what it saves.": saved * ratio,
            "This is measured in first-order steps; a second-order step is the unit.": saved / (ratio - 1),
            "This takes ratio for what a first-order step saves; it saves 1 - 1/ratio of a step.": saved / ratio,
            "This is the share of second-order steps; the others are asked for.": 1 - right,
            "This run takes the share saved of the time; it should save it.": (1 - saved) / (1 - 1 / ratio),
            "This is the first-order steps' share of the time; their share of the steps is asked for.":
                right / ratio / (1 - saved),
            "This compares with the wrong run: the unit is the time with second order throughout.": right / (1 + saved),
            "This is in per cent; give a share.": 100 * right,
            "The sign is wrong: a share is above 0.": -right,
        }  # fmt: skip
        cases.append(expect((saved, ratio), right, mistakes))
    judge("10.2", answer, cases, "The share of the time, divided by what one step saves of a step.")


def check_first_order_steps(answer: Callable[..., Any]) -> None:
    """Exercise 10.3, how many first-order steps fit before a given number of second-order ones.

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
    if not judge("10.3", answer, cases, None):
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
    judge("10.3", answer, [short], "What is left after the second-order steps, in whole steps, and never below 0.")


def check_order(answer: Callable[..., Any]) -> None:
    """Exercise 10.4, the order of derivative in an outer step, by the right clock.

    Args:
        answer: ``order_at(step, steps_per_epoch, first_order_epochs)``, the outer step counted from 0; it gives 1 or 2.
    """
    steps = (0, 2, 19, 20, 45, 59, 60, 61, 79, 80, 500)
    per_epoch, epochs = 20, 3
    cases = [
        expect(
            (step, per_epoch, epochs),
            1 if step // per_epoch < epochs else 2,
            {
                "The outer step is compared with a number of epochs: divide it by the steps of an epoch first.":
                    1 if step < epochs else 2,
                "First order lasts one epoch too long: epochs count from 0, so epoch 3 is the fourth.":
                    1 if step // per_epoch <= epochs else 2,
                "First order lasts one outer step too long.": 1 if step <= per_epoch * epochs else 2,
                "First order ends one epoch too early.": 1 if step // per_epoch < epochs - 1 else 2,
                "First order ends one outer step too early.": 1 if step + 1 < per_epoch * epochs else 2,
                "The orders have changed places: first order comes first.": 2 if step // per_epoch < epochs else 1,
                "This is the epoch, not the order.": step // per_epoch,
                "This is True or False, whether first order is over; give the order, 1 or 2.":
                    int(step // per_epoch >= epochs),
                "This is True or False, whether it is still first order; give the order, 1 or 2.":
                    int(step // per_epoch < epochs),
                "The order is first in every step: the epoch never reaches the switch.": 1,
                "The order is second in every step.": 2,
                "The order goes back and forth: within an epoch it does not change. Take //, not %.":
                    1 if step % per_epoch < epochs else 2,
            },
        )
        for step in steps
    ]  # fmt: skip
    judge("10.4", answer, cases, "Epochs are whole numbers of outer steps, counted from 0.")


def check_start_rate(answer: Callable[..., Any]) -> None:
    """Exercise 10.5, the start of a cosine whose rates add up to those of a constant rate.

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
    judge("10.5", answer, cases, "Twice the way from last to the constant rate, but for the step without a partner.")
