"""A reader's test as the thing that is checked: it must pass on learners that are right and fail on one that is broken."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mamlkit.checking._report import correct, not_attempted, wrong

__all__ = ["Calls", "Outcome", "is_blank", "judge_test", "outcome_of", "passes_on_right", "seeded_outcome"]

#: The arguments of each call that a test made.
Calls = Sequence[tuple[Any, ...]]
Learner = Callable[..., Any]
FLAKY = (
    "Your test passes at one time and fails at another, on the same learner. Fix its random numbers with a seed, or widen what "
    "it allows."
)


class Outcome(NamedTuple):
    """What a test said of one learner: ``"passes"``, ``"fails"`` or ``"raises"``; the words of an error; what was asked."""

    said: str
    words: str
    calls: Calls
    returned: Any = None


def is_blank(test: Any) -> bool:
    """Whether a stub still has nothing in it: a test that is there and one that is not both return ``None``."""

    def blank(learner: Any) -> None: ...

    if test is None or test is ...:
        return True
    code = getattr(test, "__code__", None)
    return code is not None and not code.co_names and len(code.co_code) <= len(blank.__code__.co_code)


def outcome_of(test: Callable[..., Any], learner: Learner) -> Outcome:
    """Run a test on a learner; whatever it does, nothing is raised."""
    calls: list[tuple[Any, ...]] = []

    def watched(*arguments: Any, **named: Any) -> Any:
        calls.append(tuple(_copy(x) for x in (*arguments, *named.values())))
        return learner(*arguments, **named)

    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # torch's own warnings are no mistake of the reader's
        try:
            returned = test(watched)
        except AssertionError as error:
            return Outcome("fails", _first_line(error), calls)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a reader's code may fail in any way; pytest.fail is no Exception
            if type(error).__name__ == "Failed":
                return Outcome("fails", _first_line(error), calls)
            return Outcome("raises", f"{type(error).__name__}: {_first_line(error) or 'no message'}", calls)
    return Outcome("passes", "", calls, returned)


def passes_on_right(
    exercise: str,
    test: Any,
    right: Mapping[str, Callable[[], Learner]],
    broken: Sequence[Outcome],
    too_strict: Callable[[Calls], str] | None = None,
) -> bool:
    """Whether a function is a test, and passes on learners that are right; if not, one line says why.

    Args:
        exercise: its number.
        test: the reader's function of one learner.
        right: makers of right learners, by what a test that refuses one has overlooked; the first is the usual one.
        broken: what the test said of broken ones.
        too_strict: as for judge_test.
    """
    found = {words: [seeded_outcome(test, make, seed) for seed in (0, 1)] for words, make in right.items()}
    first, every = next(iter(found.values())), [*(outcome for both in found.values() for outcome in both), *broken]
    for outcome in every:
        if outcome.said == "raises":
            wrong(exercise, f"Your test raised {outcome.words}. A test says no with assert, and with nothing else.")
            return False
    if any(isinstance(outcome.returned, (bool, Tensor)) for outcome in every):
        wrong(exercise, "Your function returns its answer. A test says no with assert, and returns nothing.")
        return False
    if not any(outcome.calls for outcome in every):
        wrong(exercise, "Your test never calls the learner that it is given.")
        return False
    if any(one.said != other.said for one, other in found.values()):
        wrong(exercise, FLAKY)
        return False
    if first[0].said == "fails":
        caught = any(outcome.said == "fails" for outcome in broken)
        hint = too_strict(first[0].calls) if too_strict else ""
        wrong(exercise, hint or _refuses_the_right(test, first[0], caught))
        return False
    for words, (outcome, _) in found.items():
        if outcome.said == "fails":
            wrong(exercise, f"Your test asks too much. {words}{_quoted(outcome)}")
            return False
    return True


def judge_test(
    exercise: str,
    test: Any,
    right: Mapping[str, Callable[[], Learner]],
    broken: Callable[[], Learner],
    too_kind: Callable[[Calls], str],
    why: str,
    too_strict: Callable[[Calls], str] | None = None,
) -> None:
    """Run a reader's test on every learner, twice, and print one line.

    Args:
        exercise: its number.
        test: the reader's function of one learner.
        right: as for passes_on_right.
        broken: maker of the broken learner.
        too_kind: what to say of a test that passes on all, from what it asked.
        why: what a good test shows.
        too_strict: what to say of a test that refuses a right learner, from what it asked; empty for nothing.
    """
    if is_blank(test):
        not_attempted(exercise)
        return
    refused = [seeded_outcome(test, broken, seed) for seed in (0, 1)]
    if not passes_on_right(exercise, test, right, refused, too_strict):
        return
    if refused[0].said != refused[1].said:
        wrong(exercise, FLAKY)
    elif refused[0].said == "passes":
        wrong(
            exercise, f"Your test passes on the right learner, and on the broken one too. {too_kind(refused[0].calls)}"
        )
    else:
        correct(exercise, why)


def seeded_outcome(test: Any, make: Callable[[], Learner], seed: int = 0) -> Outcome:
    """As outcome_of, with random numbers of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return outcome_of(test, make())


def _refuses_the_right(test: Any, outcome: Outcome, caught: bool) -> str:
    if not caught:
        return "It is the wrong way round: your test fails on the right learner and passes on the broken one."
    hints, names = "", getattr(getattr(test, "__code__", None), "co_names", ())
    if any(
        isinstance(x, Tensor) and x.is_floating_point() and x.dtype != torch.float64
        for call in outcome.calls
        for x in call
    ):
        hints = " Your numbers are float32: take float64, where a small difference means something."
    elif "equal" in names:
        hints = (
            " Does it ask for equal numbers? Sums in a different order differ in the last digit: allow for rounding."
        )
    return f"Your test fails on the broken learner, and on a right one too.{hints}{_quoted(outcome)}"


def _quoted(outcome: Outcome) -> str:
    return f" It said: {outcome.words}" if outcome.words else ""


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
