"""Checks of chapter 16, a gradient that is itself an estimate. Each compares with the truth, then with the typical mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mamlkit.checking._cases import attempt_with_copies, expect, judge, normal
from mamlkit.checking._report import attempt, close, correct, wrong

__all__ = ["check_dice_surrogate", "check_score", "check_score_term", "check_verdict"]


def check_score(answer: Callable[..., Any]) -> None:
    """Exercise 16.1, the score of a softmax policy.

    Args:
        answer: ``score(theta, arm)``, numbers of the arms ``(arms,)`` and the arm that was drawn; ``(arms,)`` out.
    """
    cases = []
    for theta, arm in (
        (torch.tensor([0.3, -0.2, 1.1], dtype=torch.float64), 0),
        (torch.tensor([0.5, 0.1, -1.0, 0.7], dtype=torch.float64), 2),
        (torch.tensor([2.0, -1.0], dtype=torch.float64), 1),
    ):
        p = theta.softmax(0)
        drawn = torch.zeros_like(p)
        drawn[arm] = 1
        mistakes = {
            "The sign is wrong: the number of the drawn arm must go up.": p - drawn,
            "This is the derivative of the probability; divide by it, or take its logarithm first.": p[arm]
            * (drawn - p),
            "The numbers of the other arms must go down: the probabilities sum to 1.": drawn,
            "The other arms are missing: their numbers must go down, each by its probability.": drawn * (1 - p),
            "This is the derivative of the log of the probability with respect to the probability.": drawn / p[arm],
            "What is subtracted are the probabilities, not theta itself: take the softmax.": drawn - theta,
            "These are the log-probabilities; differentiate the one of the drawn arm.": theta.log_softmax(0),
            "These are the probabilities of the arms.": p,
        }
        cases.append(expect((theta, arm), drawn - p, mistakes))
    judge("16.1", answer, cases, "It sums to zero, and its mean over the arms, each with its chance, is zero as well.")


class _Seen(NamedTuple):
    """A surrogate's value, first derivative, and second derivative along a vector."""

    value: Tensor
    first: Tensor
    second: Tensor


def _boxed(exponent: Tensor) -> Tensor:
    return (exponent - exponent.detach()).exp()


def _right(log_p: Tensor, rewards: Tensor) -> Tensor:
    return (_boxed(log_p.cumsum(1)) * rewards).sum(1).mean()


def _to_go(rewards: Tensor) -> Tensor:
    return rewards.flip(1).cumsum(1).flip(1)


_WRONG_SURROGATES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Rewards stand beside the log-probabilities of their own time only; an action also earns what comes after it.":
        lambda log_p, rewards: (log_p * rewards).sum(1).mean(),
    "The factor of a reward holds only the action of its own time: add up the log-probabilities of all actions so far.":
        lambda log_p, rewards: (_boxed(log_p) * rewards).sum(1).mean(),
    "Here each reward is weighed with all actions of its path, later ones too. That is right on average, and noisier: "
    "an action cannot change what came before it.":
        lambda log_p, rewards: (_boxed(log_p.sum(1, keepdim=True)) * rewards).sum(1).mean(),
    "The factor should be 1: subtract the same sum, detached, in the exponent.":
        lambda log_p, rewards: (log_p.cumsum(1).exp() * rewards).sum(1).mean(),
    "This is the sum over the paths; their mean was asked for.":
        lambda log_p, rewards: (_boxed(log_p.cumsum(1)) * rewards).sum(),
    "This is the mean over the steps too; rewards of one path are added.":
        lambda log_p, rewards: (_boxed(log_p.cumsum(1)) * rewards).mean(),
    "The log-probabilities are summed from the end: a reward depends on the actions up to it.":
        lambda log_p, rewards: (_boxed(_to_go(log_p)) * rewards).sum(1).mean(),
    "The factor is one for each reward, so the reward stands alone: with the rewards to go, later ones count several times.":
        lambda log_p, rewards: (_boxed(log_p.cumsum(1)) * _to_go(rewards)).sum(1).mean(),
    "This is LVC: the terms that pair actions of two times are missing. Give each reward a factor with all actions so far.":
        lambda log_p, rewards: (_boxed(log_p) * _to_go(rewards)).sum(1).mean(),
    "The factor is 1 and its first derivative is right, but the second is that of the naive surrogate: take the exponential.":
        lambda log_p, rewards: ((1 + log_p.cumsum(1) - log_p.cumsum(1).detach()) * rewards).sum(1).mean(),
    "The sign is wrong: this is a loss. Return what is to be made large.":
        lambda log_p, rewards: -_right(log_p, rewards),
}  # fmt: skip


def check_dice_surrogate(answer: Callable[..., Any]) -> None:
    """Exercise 16.2, DiCE for paths of several steps.

    Args:
        answer: ``dice_surrogate(log_p, rewards)``, both ``(paths, steps)``; a number that can be differentiated twice.
    """
    seen: list[tuple[_Seen, _Seen, Tensor, Tensor, Tensor]] = []
    for paths, steps, seed in ((5, 3, 1), (3, 4, 2)):
        theta = normal(4, seed=seed)
        arms = torch.randint(4, (paths, steps), generator=torch.Generator().manual_seed(seed))
        rewards = normal(paths, steps, seed=seed + 10) + 1
        done, found = attempt("16.2", lambda *each: _differentiated(answer, *each), theta, arms, rewards)
        if not done:
            return
        if isinstance(found, str):
            wrong("16.2", found)
            return
        right = _differentiated(_right, theta, arms, rewards)
        assert isinstance(right, _Seen)
        seen.append((found, right, theta, arms, rewards))
    if all(_same(found, right) for found, right, *_ in seen):
        correct("16.2", "Its value is the mean return, its first derivative REINFORCE, and its second one is whole.")
        return
    for message, mistake in _WRONG_SURROGATES.items():
        if all(_same(found, _differentiated(mistake, *case)) for found, _, *case in seen):
            wrong("16.2", message)
            return
    found, right = next((found, right) for found, right, *_ in seen if not _same(found, right))
    if not close(found.first, right.first):
        wrong("16.2", "The first derivative is not that of REINFORCE with the rewards from each action on.")
    elif not close(found.second, right.second):
        wrong("16.2", "The first derivative is right and the second is not: are the paths' own chances in it?")
    else:
        wrong("16.2", "Both derivatives are right, but the value should be the mean return: each factor should be 1.")


def _differentiated(surrogate: Callable[..., Any], theta: Tensor, arms: Tensor, rewards: Tensor) -> _Seen | str | None:
    """What a surrogate gives for a softmax policy; words where it cannot be differentiated, None for a blank."""
    start = theta.clone().requires_grad_()
    log_p = start.log_softmax(0)[arms]  # (paths, steps)
    value = surrogate(log_p, rewards.clone())
    if value is None or value is ...:
        return None
    if not isinstance(value, Tensor) or value.numel() != 1:
        kind = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        return f"One number was expected, as a tensor, and this is {kind}."
    if not value.requires_grad:
        return "This does not depend on log_p any more: detach only what is subtracted in the exponent."
    (first,) = torch.autograd.grad(value.sum(), start, create_graph=True)
    along = torch.arange(1.0, len(theta) + 1, dtype=theta.dtype)
    second = torch.zeros_like(theta)
    if first.requires_grad:
        (second,) = torch.autograd.grad(first @ along, start, materialize_grads=True)
    return _Seen(value.detach().sum(), first.detach(), second.detach())


def _same(found: Any, other: Any) -> bool:
    return all(close(a.double(), b.double()) for a, b in zip(found, other, strict=True))


def check_verdict(answer: Callable[..., Any]) -> None:
    """Exercise 16.3, biased or merely noisy.

    Args:
        answer: ``verdict(estimates, truth)``, many estimates ``(n,)`` of one number and the truth; ``"biased"`` or
            ``"not shown"``.
    """
    base = normal(400, seed=3)
    base = (base - base.mean()) / base.std()
    skewed = base.exp() - base.exp().mean()
    cases = (
        (base + 0.3, 0.0, "biased", "The mean is 0.3 from the truth, and its 95 % interval is ± 0.1: the standard deviation of "
         "one estimate is 1, that of the mean of 400 is a twentieth of it."),
        (skewed, 0.0, "not shown", "Here the mean of the estimates is the truth, and their median is not: ask for the mean."),
        (base + 0.06, 0.0, "not shown", "The mean is 0.06 from the truth, and its interval is ± 0.1: the truth is inside."),
        (5 * base + 0.3, 0.0, "not shown", "The mean is 0.3 off, but these estimates are noisy: the interval is ± 0.5."),
        (base[:25] - base[:25].mean() + 2.0, 2.3, "not shown", "With 25 estimates the interval is ± 0.4 or so, and the truth is "
         "0.3 away."),
        (base - 0.2, 0.0, "biased", "An estimator may also be too low."),
        (0.3 * base + 0.02, 0.0, "not shown", "The mean is 0.02 off, and the interval is ± 0.03: take the deviation, 0.3, "
         "not the variance."),
        (5 * base + 0.8, 0.0, "biased", "The mean is 0.8 off, and the interval is ± 0.5: take the standard deviation, 5, not the "
         "variance."),
        (2 * base + 0.18, 0.0, "not shown", "The truth is 1.8 standard errors from the mean; the 95 % interval reaches to 1.96."),
        (2 * base + 0.21, 0.0, "biased", "The truth is 2.1 standard errors from the mean; the 95 % interval ends at 1.96."),
        (0.01 * base + 7.0, 7.005, "biased", "A small bias is shown too where the noise is small enough."),
    )  # fmt: skip
    for estimates, truth, expected, why in cases:
        done, value = attempt_with_copies("16.3", answer, estimates, truth)
        if not done:
            return
        if not isinstance(value, str):
            wrong("16.3", f"One of the words 'biased', 'not shown' was expected, this is {type(value).__name__}.")
            return
        if value.strip().lower() != expected:
            wrong("16.3", f"In one test this says {value!r}, and {expected!r} is right. {why}")
            return
    correct("16.3", "An interval over the mean tells bias from noise; a single spread does not.")


def check_score_term(answer: Callable[..., Any]) -> None:
    """Exercise 16.4, mean and spread of the score term.

    Args:
        answer: ``score_term(theta, arms, after, baseline)``, numbers of the arms ``(arms,)``, all outcomes ``(outcomes, N)``, the
            return after the step of each ``(outcomes,)`` and a number; mean and standard deviation along arm 0 out.
    """
    cases = []
    for theta, draws, baseline, seed in (
        ([0.0, 0.2, 0.0], 2, 0.7, 1),
        ([0.5, -0.3, 0.1], 3, 0.0, 2),
        ([0.4, 0.9], 4, -0.2, 3),
    ):
        start = torch.tensor(theta, dtype=torch.float64)
        arms = torch.cartesian_prod(*[torch.arange(len(theta))] * draws)  # (outcomes, N)
        after = normal(len(arms), seed=seed) + 0.5

        def pair(
            given: float = baseline,
            weigh: bool = True,
            reduce: Callable[..., Tensor] = torch.sum,
            about_mean: bool = True,
            power: float = 0.5,
            case: tuple[Tensor, Tensor, Tensor] = (start, arms, after),
            score: bool = True,
        ) -> Tensor:
            theta, arms, after = case
            p = theta.softmax(0)
            chance = p[arms].prod(1) if weigh else torch.full_like(after, 1 / len(after))
            scores = (arms == 0).double() - (p[0] if score else 0)  # (outcomes, N)
            term = (after - given) * reduce(scores, 1)
            mean = chance @ term
            return torch.stack([mean, (chance @ (term - about_mean * mean) ** 2) ** power])

        mistakes = {
            "The outcomes are not equally likely: weigh each with its chance, the product of the chances of its arms.":
                pair(weigh=False),
            "The scores of the draws are added: their mean was taken.": pair(reduce=torch.mean),
            "The baseline is subtracted from the return, not added.": pair(given=-baseline),
            "The baseline is left out.": pair(given=0.0),
            "This is the root of the mean square; the spread is about the mean.": pair(about_mean=False),
            "This is the variance; take its root.": pair(power=1.0),
            "The score of a draw is 1 or 0 for arm 0, minus the chance of arm 0.": pair(score=False),
        }  # fmt: skip
        cases.append(expect((start, arms, after, baseline), pair(), mistakes))
    judge("16.4", answer, cases, "A constant baseline leaves the mean as it is, and moves the spread.")
