"""Checks of chapter 15, bring your own task. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mamlkit.checking._cases import attempt_with_copies, expect, judge
from mamlkit.checking._report import as_tensor, correct, wrong
from mamlkit.tasks import TaskBatch

__all__ = ["check_best_row", "check_cause", "check_largest_ways", "check_split_groups", "check_springs"]


def check_largest_ways(answer: Callable[..., Any]) -> None:
    """Exercise 15.1, the most ways that a folder allows.

    Args:
        answer: ``largest_ways(counts, shots, queries)``, pictures of each class in, one number out.
    """
    cases = []
    for counts, shots, queries in (
        ([20] * 23 + [5, 5, 3], 1, 5),
        ([12, 4, 9, 16, 8, 30, 7, 11, 6, 2, 10, 8, 3] + [1] * 10, 3, 4),
        ([9] * 8 + [10] * 27 + [4] * 9, 2, 8),
        ([6] * 33, 1, 5),
    ):
        fit = sum(count >= shots + queries for count in counts)
        mistakes = {
            "Classes with fewer than shots + queries pictures cannot be used: leave them out first.": _smallest(len(counts)),
            "A class with exactly shots + queries pictures will do.":
                _smallest(sum(count > shots + queries for count in counts)),
            "The support set is not all: a class needs pictures for the query set as well.":
                _smallest(sum(count >= shots for count in counts)),
            "This counts queries alone: the support pictures are needed besides.":
                _smallest(sum(count >= queries for count in counts)),
            "These are all the usable classes; they are shared out over three splits.": fit,
            "These are all the classes; some cannot be used, and the rest are shared out over three splits.": len(counts),
            "These are the training classes. Validation and test have fewer, and must allow as many ways.": round(0.6 * fit),
            "This is a fifth, rounded down. The borders are rounded: at round(0.6 n) and round(0.8 n).": math.floor(0.2 * fit),
            "This is the test split alone, a fifth; or the borders are cut off by int(), not rounded. Validation may be smaller.":
                fit - round(0.8 * fit),
            "This is the validation split alone. The test may be smaller, since the borders are rounded.":
                round(0.8 * fit) - round(0.6 * fit),
            "These are the classes that cannot be used.": len(counts) - fit,
        }  # fmt: skip
        cases.append(expect((tuple(counts), shots, queries), _smallest(fit), mistakes))
    judge(
        "15.1",
        _of_plain_lists(answer),
        cases,
        "The smallest split decides. With few classes, change the fractions or the ways.",
    )


def _smallest(classes: int) -> int:
    """Classes of the smallest split."""
    borders = 0, round(0.6 * classes), round(0.8 * classes), classes
    return min(end - begin for begin, end in pairwise(borders))


def _of_plain_lists(answer: Any) -> Any:
    """The reader gets a list; the judge would take that for a list of tensors, to be copied."""
    if not callable(answer):
        return answer

    def call(first: Sequence[Any], *others: Any) -> Any:
        return answer(list(first), *others)

    return call


class _Name(str):
    """A name whose place in a set is drawn anew for each salt, as that of a text is in each Python session."""

    salt = 0

    def __hash__(self) -> int:
        return hash((_Name.salt, str(self)))

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)


def check_split_groups(answer: Callable[..., Any]) -> None:
    """Exercise 15.2, series split so that no group is on both sides.

    Args:
        answer: ``split_groups(groups, share, generator)`` with one name per series; two lists of numbers out.
    """
    for texts, share in (
        (["oak", "elm", "oak", "ash", "fir", "elm", "yew", "oak", "ash", "fig", "yew", "oak"], 0.2),
        (["b", "a", "c", "a", "d", "e", "f", "g", "a", "b", "a", "c"], 0.25),
    ):
        groups, splits = [_Name(text) for text in texts], []
        for call, (seed, salt) in enumerate([(0, 0), (0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (3, 0), (4, 0)]):
            _Name.salt = salt
            torch.manual_seed(call)  # of another generator than the one that is given
            done, value = attempt_with_copies(
                "15.2", _of_plain_lists(answer), tuple(groups), share, torch.Generator().manual_seed(seed)
            )
            if not done:
                return
            pair = [as_tensor(side) for side in value] if isinstance(value, (tuple, list)) and len(value) == 2 else []
            sides = [[int(i) for i in side.flatten().tolist()] for side in pair if side is not None]
            if len(sides) != 2:
                wrong("15.2", "Two lists were expected: the numbers of the training series, and of the test series.")
                return
            if said := _fault_of_groups(sides[0], sides[1], texts, share):
                wrong("15.2", said)
                return
            splits.append(sorted(sides[1]))
        if splits[0] != splits[1]:
            wrong(
                "15.2",
                "The same generator state gave two splits: draw from the generator that is given, and only from it.",
            )
            return
        if splits[0] != splits[2] or splits[0] != splits[3]:
            wrong(
                "15.2",
                "In another Python session the same generator gives another split: the order of a set of texts is not fixed. "
                "Sort the names first.",
            )
            return
        if all(split == splits[0] for split in splits):
            wrong("15.2", "Every generator gave the same split: the groups for the test must be drawn.")
            return
    if said := _fault_of_the_draw(answer, texts, share):
        wrong("15.2", said)
        return
    correct("15.2", "No group is on both sides, no series is lost, and the generator alone decides.")


def _fault_of_groups(training: Sequence[int], test: Sequence[int], groups: Sequence[str], share: float) -> str:
    """What is wrong with one split of groups; an empty text where nothing is."""
    both = [*training, *test]
    if any(not 0 <= i < len(groups) for i in both):
        return f"There are {len(groups)} series, numbered from 0; {max(both)} and {min(both)} are among your numbers."
    of_test, of_training = {groups[i] for i in test}, {groups[i] for i in training}
    wanted = round(share * len(set(groups)))
    if shared := sorted(of_test & of_training):
        return f"Group {shared[0]!r} has series on both sides: the test would be about a group that was trained on."
    if len(set(both)) < len(both):
        return "A series is there twice."
    if lost := sorted(set(range(len(groups))) - set(both)):
        return f"Series {lost[0]} is on neither side."
    if len(of_test) != wanted:
        if len(of_training) == wanted:
            return "The two lists stand in the wrong order? Training comes first."
        return (
            f"Of {len(set(groups))} groups round({share} * {len(set(groups))}) = {wanted} are for the test, "
            f"and this draws {len(of_test)}. The share is one of groups, not of series."
        )
    return ""


def _fault_of_the_draw(answer: Callable[..., Any], texts: Sequence[str], share: float, times: int = 300) -> str:
    """Whether some groups, or some pairs, are drawn more often than others; of 21 pairs of 7 groups nearly all come up."""
    drawn = []
    for seed in range(times):
        test = as_tensor(answer(list(texts), share, torch.Generator().manual_seed(1000 + seed))[1])
        assert test is not None
        drawn.append(frozenset(texts[int(i)] for i in test.flatten().tolist()))
    largest = max(set(texts), key=texts.count)
    fair = times * len(drawn[0]) / len(set(texts))
    if abs(sum(largest in groups for groups in drawn) - fair) > 0.45 * fair:
        return "A group with many series is not drawn as often as one with few: draw from the list of different groups."
    if len(set(drawn)) < 15:
        return "Some groups are never drawn together: draw each on its own, and not neighbours in the list."
    return ""


#: Rows as ``History.rows`` has them; what is not looked at is left out.
_ROWS = (
    ((1.5, None), (1.2, 1.1), (0.9, None), (0.7, 0.8), (0.5, None), (0.4, 0.9), (0.3, None), (0.2, 1.2)),
    ((1.6, 1.4), (1.0, None), (0.8, 1.0), (0.6, None), (0.5, 0.7), (0.45, None), (0.4, 0.95), (0.35, None)),
    ((2.0, 1.9), (1.2, 1.3), (1.3, 1.25)),
)


def check_best_row(answer: Callable[..., Any]) -> None:
    """Exercise 15.3, what a learning curve says.

    Args:
        answer: ``best_row(rows)``, rows as ``History.rows`` has them; the step of the best validation, and by how much the last
            validation loss lies above the meta-loss of its row.
    """
    cases = []
    for curve in _ROWS:
        rows: list[dict[str, Any]] = [
            {"step": 25 * (i + 1), "epoch": i // 2, "meta_loss": train, "validation_loss": held}
            for i, (train, held) in enumerate(curve)
        ]
        held = [row for row in rows if row["validation_loss"] is not None]

        def loss(row: dict[str, Any]) -> float:
            return float(row["validation_loss"])

        best, last = min(held, key=loss), held[-1]
        step, gap = float(best["step"]), loss(last) - float(last["meta_loss"])

        def pair(step: float = step, gap: float = gap) -> list[float]:
            return [step, gap]

        mistakes = {
            "This is the step of the last validation; return the one with the lowest validation loss.":
                pair(step=last["step"]),
            "This is the step with the lowest meta-loss: training tasks have no say in which checkpoint is best.":
                pair(step=min(rows, key=lambda row: row["meta_loss"])["step"]),
            "This is the row with a validation that has the lowest meta-loss: ask for the lowest validation loss.":
                pair(step=min(held, key=lambda row: row["meta_loss"])["step"]),
            "This is the step of the highest validation loss; a loss is better when it is lower.":
                pair(step=max(held, key=loss)["step"]),
            "This is the row's number; give its step.": pair(step=rows.index(best)),
            "This is the number among the rows with a validation; give the row's step.": pair(step=held.index(best)),
            "This is the epoch; give the step.": pair(step=best["epoch"]),
            "The sign of the gap is wrong: it is validation minus training.": pair(gap=-gap),
            "The gap has a sign: below zero the validation loss is the lower one.": pair(gap=abs(gap)),
            "The gap is taken at the best row; it should be that of the last validation.":
                pair(gap=loss(best) - best["meta_loss"]),
            "This is how much the validation loss rose since its best; the gap is to the meta-loss of the last validation's row.":
                pair(gap=loss(last) - loss(best)),
            "The meta-loss is that of the last row of all; take that of the row with the last validation.":
                pair(gap=loss(last) - rows[-1]["meta_loss"]),
            "This is a ratio; the gap is a difference.": pair(gap=loss(last) / last["meta_loss"]),
        }  # fmt: skip
        wanted = {message: value for message, value in mistakes.items() if value != pair()}
        cases.append(expect((tuple(rows),), pair(), {**{message: pair() for message in mistakes}, **wanted}))
    judge(
        "15.3", _of_dicts(answer), cases, "Validation chooses the checkpoint, and the gap says what training did since."
    )


def _of_dicts(answer: Any) -> Any:
    """Fresh rows for each call, which no tensor is made of."""
    if not callable(answer):
        return answer

    def call(rows: Any) -> Any:
        return answer([dict(row) for row in rows])

    return call


def check_cause(answer: Callable[..., Any]) -> None:
    """Exercise 15.4, where a NaN comes from.

    Args:
        answer: ``cause(losses)``, query losses before and after each inner step; ``"data"``, ``"inner loop"`` or
            ``"outer loop"``.
    """
    nan, inf = math.nan, math.inf
    cases = (
        ((nan, nan, nan), "data", "A loss that is NaN before any inner step comes from the data or the model."),
        ((inf, nan), "data", "Infinite is not finite either: before any inner step the data or the model are to blame."),
        ((0.4, nan), "inner loop", "Every comparison with NaN is false: ask whether the last loss is finite before you compare."),
        ((1.5, 40.0, inf, nan), "inner loop", "Finite before, and not after the steps: it is the inner loop."),
        ((0.4, 3.0, 800.0), "inner loop", "The loss is finite yet, but the steps make it larger: the inner loop."),
        ((0.4, 0.2, 0.1), "outer loop", "Here the inner loop does what it should: look at the outer one."),
        ((0.4, 0.5, 0.3), "outer loop", "One step goes up, but after the last the loss is lower than before."),
    )  # fmt: skip
    for losses, truth, why in cases:
        for given in (losses, torch.tensor(losses, dtype=torch.float64)):
            done, value = attempt_with_copies("15.4", _as_given(answer), given)
            if not done:
                return
            if not isinstance(value, str):
                wrong(
                    "15.4",
                    f"One of the words 'data', 'inner loop', 'outer loop' was expected, this is {type(value).__name__}.",
                )
                return
            if value.strip().lower() != truth:
                if truth == "inner loop" and value.strip().lower() == "data":
                    why = "The loss before any step is finite: data and model are sound, and the steps are not."
                wrong("15.4", f"For the losses {_said(losses)} this says {value!r}. {why}")
                return
    correct("15.4", "Before any step, after the last, and which is larger: three questions, in this order.")


def _as_given(answer: Any) -> Any:
    return (
        answer
        if not callable(answer)
        else lambda losses: answer(losses if isinstance(losses, Tensor) else list(losses))
    )


def _said(losses: Sequence[float]) -> str:
    return ", ".join(f"{loss:g}" for loss in losses)


def check_springs(answer: Callable[..., Any]) -> None:
    """Exercise 15.5, a task family: springs.

    Args:
        answer: ``sample(num_tasks, generator)`` of the family; a ``TaskBatch`` out.
    """
    batches = []
    for number, (tasks, seed) in enumerate(((400, 0), (400, 0), (400, 1))):
        torch.manual_seed(number)  # of another generator than the one that is given
        done, batch = attempt_with_copies("15.5", answer, tasks, torch.Generator().manual_seed(seed))
        if not done:
            return
        if not isinstance(batch, TaskBatch):
            wrong("15.5", f"A TaskBatch was expected, this is {type(batch).__name__}.")
            return
        shapes = [tuple(part.shape) for part in batch]
        if shapes != [(tasks, 4, 1)] * 2 + [(tasks, 6, 1)] * 2:
            wrong(
                "15.5",
                f"Shapes (400, 4, 1) twice and (400, 6, 1) twice were expected for 400 tasks, these are {shapes}.",
            )
            return
        batches.append(TaskBatch(*(part.detach().double() for part in batch)))
    if not all(torch.equal(a, b) for a, b in zip(batches[0], batches[1], strict=True)):
        wrong("15.5", "The same generator state gave other tasks: pass generator= to every draw.")
    elif torch.equal(batches[0].support_y, batches[2].support_y):
        wrong("15.5", "Every generator gave the same tasks: draw from the one that is given.")
    elif said := _fault_of_springs(batches[0]):
        wrong("15.5", said)
    else:
        correct("15.5", "Support and query of a task are about one spring, and fit can train on it.")


def _fault_of_springs(batch: TaskBatch) -> str:
    """What is wrong with springs of lengths 5 to 10 that give 0.5 to 2 per unit of force; an empty text where nothing is."""
    x, y = (
        torch.cat(parts, 1)[..., 0] for parts in ((batch.support_x, batch.query_x), (batch.support_y, batch.query_y))
    )
    if torch.equal(x[:1].expand_as(x), x):
        return "All tasks have the same forces: draw them for each task."
    if x.min() < 0 or x.max() > 10 or x.max() - x.min() < 9:
        return "The forces are the inputs, between 0 and 10."
    if torch.equal(batch.query_x[:, :4], batch.support_x):
        return "The query forces are those of the support set: draw 4 + 6 of them."

    def line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        away = x - x.mean(1, keepdim=True)
        slope = (away * y).sum(1) / away.square().sum(1)  # (tasks,)
        rest = y.mean(1) - slope * x.mean(1)
        return slope, rest, (y - rest[:, None] - slope[:, None] * x).abs().amax()

    slope, rest, off = line(x, y)
    if off > 1e-3:
        own = max(line(part_x[..., 0], part_y[..., 0])[2] for part_x, part_y in (batch[:2], batch[2:]))
        if own <= 1e-3:
            return "Support and query of a task are about two springs: draw length and give once for each task."
        return "The points of a task do not lie on a line: length and give are drawn once for each task, (tasks, 1)."
    if slope.std() < 1e-3 or rest.std() < 1e-3:
        return "All tasks are about the same length or the same give: draw both for each task."
    for name, found, (low, high) in (("length", rest, (5, 10)), ("give", slope, (0.5, 2))):
        room = 0.05 * (high - low)
        if (
            found.min() < low - 1e-2
            or found.max() > high + 1e-2
            or found.min() > low + room
            or found.max() < high - room
        ):
            return (
                f"The {name} goes from {found.min():.1f} to {found.max():.1f} over 400 tasks, not from {low} to {high}."
            )
    if abs(torch.corrcoef(torch.stack([slope, rest]))[0, 1]) > 0.3:
        return "Length and give go together: draw them one after the other."
    return ""
