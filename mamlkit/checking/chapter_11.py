"""Checks of chapter 11, MAML++. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mamlkit.algorithms import maml_plus_plus
from mamlkit.checking._cases import expect, judge, normal
from mamlkit.checking._report import attempt, correct, not_attempted, wrong
from mamlkit.learners import Learner
from mamlkit.models import conv4
from mamlkit.tasks import TaskBatch

__all__ = ["check_chance", "check_difference", "check_outer_loop", "check_run_seconds", "check_spread_ratio"]


def check_chance(answer: Callable[..., Any]) -> None:
    """Exercise 11.1, how often two equally steady methods look unequal with three seeds each.

    Args:
        answer: ``chance(c)``, the probability that one of two sample standard deviations, of three normal draws each, is more
            than ``c`` times the other, whichever it is.
    """

    def explain(c: float, truth: float) -> Callable[[Tensor], str]:
        def say(given: Tensor) -> str:
            if abs(given.item() - truth) < 0.02:
                return (
                    f"{given.item():.4f} at c = {c} comes close, as a simulation would; the exact value is {truth:.6f}."
                )
            return f"{given.item():.4f} at c = {c} is not the chance {truth:.6f}; try your formula on draws of torch.randn."

        return say

    cases = []
    for c in (1.5, 2.0, 4.0):
        truth = 2 / (1 + c**2)
        mistakes = {
            "This counts one direction; either of the two may be the larger one.": truth / 2,
            "c is a ratio of standard deviations; the exponentials are variances.": 2 / (1 + c),
            "c is a ratio of standard deviations, and either of the two may be the larger one.": 1 / (1 + c),
            "This is the chance that they are less than c times apart.": 1 - truth,
            "The other variance is random, too: average over it.": 2 * math.exp(-(c**2)),
            "The other variance is random, too: average over it. And either of the two may be the larger one.":
                math.exp(-(c**2)),
            "This is per cent; give a probability.": 100 * truth,
        }  # fmt: skip
        cases.append(expect((c,), truth, mistakes, explain(c, truth)))
    judge("11.1", answer, cases, "Three seeds say next to nothing about a spread.")


def check_difference(answer: Callable[..., Any]) -> None:
    """Exercise 11.2, how much better one record is than another, over the same tasks.

    Args:
        answer: ``difference(a, b)``, with two records of the same data set; it gives the mean difference of the test accuracies,
            ``a`` minus ``b``, and the half width of its 95 % interval over tasks.
    """
    cases = []
    for seed in (1, 2, 3):
        hard = 0.5 + 0.15 * normal(50, seed=seed)  # (tasks,) some tasks are hard for both
        values = [hard + 0.05 * normal(50, seed=10 * k + seed) + 0.03 * k for k in (1, 2)]
        a, b = (
            {
                "per_task_final_accuracies": part.tolist(),
                "per_task_final_losses": (1.5 - part).square().tolist(),
                "test_accuracy": part.mean().item(),
                "test_ci95": 1.96 * part.std().item() / 50**0.5,
                "seed": seed,
            }
            for part in values
        )
        difference, root = values[0] - values[1], 50**0.5
        mean, error = difference.mean(), difference.std() / root
        apart = (values[0].var() / 50 + values[1].var() / 50).sqrt()

        def pair(mean: Tensor, width: Tensor) -> Tensor:
            return torch.stack([mean, width])

        mistakes = {
            "The tasks are the same in both records: take the difference task by task, then its spread.":
                pair(mean, 1.96 * apart),
            "The two half widths are added; take the difference task by task, then its spread.":
                pair(mean, 1.96 * (values[0].std() + values[1].std()) / root),
            "The sign is wrong: a minus b.": pair(-mean, 1.96 * error),
            "This is the standard error; 1.96 of them make the half width.": pair(mean, error),
            "This divides by the number of tasks under the root; the sample standard deviation divides by one less.":
                pair(mean, 1.96 * difference.std(correction=0) / root),
            "The standard deviation is not divided by the root of the number of tasks.": pair(mean, 1.96 * difference.std()),
            "This is the standard deviation of the differences, not the half width of an interval of their mean.":
                pair(mean, difference.std()),
            "The standard deviation is divided by the number of tasks; divide by its root.":
                pair(mean, 1.96 * difference.std() / 50),
            "This is the whole width; return half of it.": pair(mean, 2 * 1.96 * error),
            "These are the losses; the accuracies are asked for.":
                pair((worse := (1.5 - values[0]).square() - (1.5 - values[1]).square()).mean(), 1.96 * worse.std() / root),
            "The half width of a alone is no interval of the difference.": pair(mean, 1.96 * values[0].std() / root),
            "These are per cent; give fractions, as the records do.": pair(100 * mean, 100 * 1.96 * error),
        }  # fmt: skip
        cases.append(expect((a, b), pair(mean, 1.96 * error), mistakes))
    judge("11.2", answer, cases, "What is hard for both falls out of the difference.")


def check_spread_ratio(answer: Callable[..., Any]) -> None:
    """Exercise 11.3, the spread over tasks of one learner's final losses, as a multiple of another's.

    Args:
        answer: ``spread_ratio(a, b)``, query losses ``(K + 1, tasks)`` of two learners on the same tasks, the start first; it
            gives the ratio, a number.
    """
    cases = []
    for seed in (1, 2, 3):
        a, b = (
            (
                0.4 * normal(6, 30, seed=seed + k) + 0.3 * normal(1, 30, seed=seed + 5) - 0.2 * torch.arange(6)[:, None]
            ).exp()
            for k in (10, 20)
        )  # (K + 1, tasks)
        last = a[-1].std() / b[-1].std()
        mistakes = {
            "Averages over the steps of a are set against final losses of b: averaging shrinks a spread by itself.":
                a[1:].mean(0).std() / b[-1].std(),
            "Averages over the trajectory of a are set against final losses of b: averaging shrinks a spread by itself.":
                a.mean(0).std() / b[-1].std(),
            "These are the spreads of averages over the steps; the final losses are asked for.":
                a[1:].mean(0).std() / b[1:].mean(0).std(),
            "These are the spreads of averages over the trajectory; the final losses are asked for.":
                a.mean(0).std() / b.mean(0).std(),
            "The ratio is upside down: a over b.": 1 / last,
            "This is the ratio of the variances; take the standard deviations.": last**2,
            "All entries are pooled; the spread is over tasks, of the last step alone.": a.std() / b.std(),
            "This is the spread over steps, averaged over tasks; the spread over tasks is asked for.":
                a.std(0).mean() / b.std(0).mean(),
            "The mean over tasks is taken first: this is the spread of K + 1 means, over steps.":
                a.mean(1).std() / b.mean(1).std(),
            "The mean over tasks is taken first: this is the spread of K means, over steps.":
                a[1:].mean(1).std() / b[1:].mean(1).std(),
            "This is the ratio of the means, of all steps; the spread over tasks is asked for.": a.mean() / b.mean(),
            "These are the losses before adaptation: the first row is the start.": a[0].std() / b[0].std(),
            "This is the ratio of the means; take the standard deviations.": a[-1].mean() / b[-1].mean(),
            "These spreads are relative, each divided by its mean; the standard deviations themselves are asked for.":
                last * b[-1].mean() / a[-1].mean(),
            "These are the spreads of what is left of the start's loss; those of the final losses are asked for.":
                (a[-1] / a[0]).std() / (b[-1] / b[0]).std(),
            "This is the difference; the ratio is asked for.": a[-1].std() - b[-1].std(),
            "This is the spread of a alone; divide by that of b.": a[-1].std(),
        }  # fmt: skip
        cases.append(expect((a, b), last, mistakes))
    judge("11.3", answer, cases, "Final with final, on the same tasks.")


def check_run_seconds(answer: Callable[..., Any]) -> None:
    """Exercise 11.4, how long a planned run takes.

    Args:
        answer: ``run_seconds(maml_step, early, late, epochs, annealing_epochs, steps_per_epoch)``: seconds of a meta-step of
            MAML, what one of MAML++ costs as a multiple of it while all query losses count and afterwards, and the plan. It
            gives seconds.
    """
    cases = []
    for step, early, late, epochs, annealing, per_epoch in (
        (0.2, 2.5, 1.25, 100, 10, 500),
        (0.5, 3.0, 1.1, 20, 15, 30),
        (1.0, 2.0, 1.5, 8, 12, 10),  # never annealed to the end
    ):
        on = min(annealing, epochs)
        truth = step * per_epoch * (on * early + (epochs - on) * late)
        mistakes = {
            "Where annealing outlasts the run, all epochs are early ones and no more: mind the smaller of the two numbers.":
                step * per_epoch * (annealing * early + (epochs - annealing) * late),
            "Late epochs fall below zero where annealing outlasts the run; no run has more early epochs than epochs.":
                step * per_epoch * (annealing * early + max(epochs - annealing, 0) * late),
            "All epochs are charged at the early price.": step * per_epoch * epochs * early,
            "All epochs are charged at the late price.": step * per_epoch * epochs * late,
            "The late epochs are charged at MAML's price; learned rates and the rest go on costing.":
                step * per_epoch * (on * early + (epochs - on)),
            "Annealing is counted in outer steps; it is in epochs.":
                step * (min(annealing, epochs * per_epoch) * early + max(epochs * per_epoch - annealing, 0) * late),
            "The steps of an epoch are missing: this is one outer step an epoch.": step * (on * early + (epochs - on) * late),
            "The steps of an epoch are missing; and where annealing outlasts the run, all epochs are early ones and no more.":
                step * (annealing * early + (epochs - annealing) * late),
            "The steps of an epoch are missing; and late epochs fall below zero where annealing outlasts the run.":
                step * (annealing * early + max(epochs - annealing, 0) * late),
            "This is the multiple of a MAML run's time; seconds are asked for.": (on * early + (epochs - on) * late) / epochs,
            "The early and the late price are the wrong way round.": step * per_epoch * (on * late + (epochs - on) * early),
            "This is MAML's own time, without the multiples.": step * per_epoch * epochs,
            "The price does not fall with the weights: each annealing epoch costs the whole early price.":
                step * per_epoch * (on * (early + late) / 2 + (epochs - on) * late),
            "Annealing takes half of its epochs here; every annealing epoch costs the early price, and the rest the late one.":
                step * per_epoch * (on / 2 * early + (epochs - on) * late),
            "The price falls by steps: the two multiples must not be averaged without their epochs.":
                step * per_epoch * epochs * (early + late) / 2,
            "These are minutes; seconds are asked for.": truth / 60,
        }  # fmt: skip
        cases.append(expect((step, early, late, epochs, annealing, per_epoch), truth, mistakes))
    judge("11.4", answer, cases, "A short expensive part and a long cheap one.")


def check_outer_loop(answer: Callable[..., Any]) -> None:
    """Exercise 11.5, an outer loop that lets every part of MAML++ do its work.

    Args:
        answer: ``outer_loop(learner, stream, epochs, steps_per_epoch)``, which trains the learner in place and returns it.
    """
    epochs, per_epoch, blank = 4, 3, True
    start, stream = _plus_plus(), _batches(epochs * per_epoch + 2)
    trained = _plus_plus()

    def call() -> Any:
        nonlocal blank
        result = answer(trained, iter(stream), epochs, per_epoch)
        blank = result in (None, ...) and torch.equal(_vector(trained), _vector(start))
        return True if result in (None, ...) else result

    if answer is None or answer is ...:
        return not_attempted("11.5")
    done, result = attempt("11.5", call)
    if not done:
        return None
    if blank:
        return not_attempted("11.5")
    if isinstance(result, Learner):
        trained = result
    before = _vector(start)
    found = _vector(trained)

    def same(other: Tensor) -> bool:
        return bool((found - other).norm() <= 1e-4 * (other - before).norm())

    if torch.equal(found, before):
        return wrong("11.5", "Nothing was trained: all meta-parameters are as before.")
    if same(_outer_loop(_plus_plus(), stream, epochs, per_epoch)):
        return correct("11.5", "The epoch moves on, and all meta-parameters are trained.")
    for message, flaw in _FLAWS.items():
        if same(_outer_loop(_plus_plus(), stream, epochs, per_epoch, **flaw)):
            return wrong("11.5", message)
    rates = [value for name, value in trained.meta_parameters().items() if name.startswith("step_sizes")]
    if all(bool((value == 0.05).all()) for value in rates):
        return wrong("11.5", "The learned step sizes have not moved: which parameters does the optimiser know?")
    wrong("11.5", "The trained meta-parameters are not those of the loop in the text with its two faults mended.")


_FLAWS: dict[str, dict[str, Any]] = {
    "Both faults are still there: the learner's epoch stands still, and the optimiser knows the network's weights alone.":
        {"epoch": "never", "trained": ("model",)},
    "The learner's epoch stands still at 0: nothing is annealed.": {"epoch": "never"},
    "The optimiser knows the network's weights alone; the step sizes and the rows of batch norm are meta-parameters too.":
        {"trained": ("model",)},
    "The optimiser does not know the rows of batch norm: they are meta-parameters too.": {"trained": ("model", "step_sizes")},
    "The optimiser does not know the step sizes: they are meta-parameters too.": {"trained": ("model", "batch_norm")},
    "The epoch is counted in outer steps; it is the outer step divided by the steps of an epoch.": {"epoch": "steps"},
    "The epoch is counted in outer steps, and the optimiser knows the network's weights alone.":
        {"epoch": "steps", "trained": ("model",)},
    "The epoch is set after the meta-gradient: the first step of each epoch still has the old one.": {"epoch": "late"},
    "The epoch is counted from 1; it starts at 0.": {"epoch": "from one"},
    "Gradients pile up: zero_grad is missing.": {"zero": False},
    "The schedule of the outer rate no longer moves.": {"schedule": "never"},
    "The schedule moves once an epoch; it has been told the number of outer steps.": {"schedule": "epochs"},
}  # fmt: skip


def _outer_loop(
    learner: Learner,
    stream: list[TaskBatch],
    epochs: int,
    per_epoch: int,
    *,
    epoch: str = "right",
    trained: tuple[str, ...] = ("model", "step_sizes", "batch_norm"),
    zero: bool = True,
    schedule: str = "steps",
) -> Tensor:
    """Train as the exercise asks, or with a flaw, and give all meta-parameters."""
    known = [value for name, value in learner.named_parameters() if name.startswith(trained)]
    optimiser = torch.optim.Adam(known, lr=0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * per_epoch, 1e-5)
    for step, tasks in zip(range(epochs * per_epoch), stream, strict=False):
        of_step = {"right": step // per_epoch, "from one": step // per_epoch + 1, "steps": step, "never": 0}
        learner.epoch = of_step.get(epoch, max(step - 1, 0) // per_epoch)
        if zero:
            optimiser.zero_grad()
        learner.meta_backward(tasks)
        optimiser.step()
        if schedule == "steps" or (schedule == "epochs" and (step + 1) % per_epoch == 0):
            cosine.step()
    return _vector(learner)


def _plus_plus() -> Learner:
    model = conv4(3, filters=2, downsample="stride", image_size=16, seed=3).double()
    return maml_plus_plus(model, inner_steps=2, inner_lr=0.05, annealing_epochs=3, first_order_epochs=1)


def _batches(count: int) -> list[TaskBatch]:
    """Two tasks each: three classes of noise, with one support and two query images."""
    support, query = torch.arange(3).expand(2, 3), torch.arange(6).expand(2, 6) % 3  # (tasks, images)
    return [
        TaskBatch(normal(2, 3, 1, 16, 16, seed=number), support, normal(2, 6, 1, 16, 16, seed=100 + number), query)
        for number in range(count)
    ]


def _vector(learner: Learner) -> Tensor:
    return torch.cat([value.detach().flatten() for value in learner.meta_parameters().values()])  # (meta-parameters,)
