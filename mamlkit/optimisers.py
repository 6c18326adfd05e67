"""Who takes the outer steps: Adam and half a cosine, or any optimiser and any schedule of torch.

    rates = list(learner.step_sizes.parameters())
    weights = list(learner.initialisation().values())
    optimiser = torch.optim.SGD([{"params": weights}, {"params": rates, "lr": 1e-3}], lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=[0.1, 1e-3], total_steps=options.outer_steps)
    fit(learner, tasks, options=options, optimiser=optimiser, schedule=schedule)

This module checks them before any work, and says what a checkpoint must hold of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Adam, Optimizer, SparseAdam
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau

from mamlkit.arguments import describe
from mamlkit.learners import Learner

__all__ = [
    "adam",
    "as_plain",
    "expect_optimiser",
    "expect_schedule",
    "from_plain",
    "settings_of",
    "stretch",
]


def adam(learner: Learner, rate: float) -> Adam:
    """Adam over all meta-parameters, with one rate."""
    return Adam(list(learner.meta_parameters().values()), lr=rate)


def stretch(schedule: LRScheduler, steps: int) -> None:
    """Go on with half a cosine as if it had been made for this many outer steps: the rates rise to where that one is now."""
    if isinstance(schedule, CosineAnnealingLR):
        schedule.T_max, final = steps, schedule.eta_min
        share = (1 + math.cos(math.pi * schedule.last_epoch / steps)) / 2
        for group, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
            group["lr"] = final + (rate - final) * share


def expect_optimiser(optimiser: Optimizer, learner: Learner) -> Optimizer:
    """An optimiser that moves every meta-parameter of a learner and nothing else, by calls of ``step()``.

    Raises:
        TypeError: if it is not an optimiser, or takes its steps in another way.
        ValueError: naming a meta-parameter that it leaves out. (To keep one as it is, freeze it: ``requires_grad_(False)``.)
    """
    if not isinstance(optimiser, Optimizer):
        raise TypeError(f"expected optimiser to be a torch.optim.Optimizer, got {describe(optimiser)}")
    closure = inspect.signature(optimiser.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(f"expected an optimiser whose step() needs no closure, got {type(optimiser).__name__}")
    if isinstance(optimiser, SparseAdam):
        raise TypeError("expected an optimiser for dense gradients, got SparseAdam")
    if any("lr" not in group for group in optimiser.param_groups):
        raise ValueError(f"expected parameter groups with a rate 'lr', got {type(optimiser).__name__} without one")
    held = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    if missing := [name for name, parameter in learner.meta_parameters().items() if id(parameter) not in held]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"expected an optimiser over all of learner.meta_parameters(), got one without {missing[0]!r}{more}; freeze what "
            "is to stay"
        )
    if foreign := held - {id(parameter) for parameter in learner.parameters()}:
        raise ValueError(
            f"expected an optimiser over learner.meta_parameters(), got one with {len(foreign)} tensors of something else"
        )
    return optimiser


def expect_schedule(schedule: LRScheduler, optimiser: Optimizer | None, steps: int, *, validates: bool) -> LRScheduler:
    """A schedule of this optimiser that lasts for this many outer steps.

    Raises:
        TypeError: if it is not a schedule.
        ValueError: if it belongs to another optimiser, ends early, or waits for a validation where there is none.
    """
    if not isinstance(schedule, LRScheduler):
        raise TypeError(f"expected schedule to be a torch.optim.lr_scheduler.LRScheduler, got {describe(schedule)}")
    kind = type(schedule).__name__
    if optimiser is None or schedule.optimizer is not optimiser:
        raise ValueError(f"expected a schedule of the optimiser that is given, got {kind} of another one")
    if isinstance(schedule, ReduceLROnPlateau) and not validates:
        raise ValueError(f"expected validation tasks for {kind}, which looks at their loss, got none")
    if (total := getattr(schedule, "total_steps", None)) is not None and total < steps:
        raise ValueError(f"expected a schedule for {steps} outer steps, got {kind} with total_steps={total}")
    return schedule


def settings_of(part: Optimizer | LRScheduler | None) -> dict[str, Any]:
    """What a resumed run must have again: the kind of an optimiser or schedule and its settings, before the first step."""
    if part is None:
        return {"kind": "the one of the options"}
    settings = as_plain(part.state_dict()) if isinstance(part, LRScheduler) else {"groups": _groups(part)}
    return {"kind": type(part).__name__, **settings}


def _groups(optimiser: Optimizer) -> list[dict[str, Any]]:
    groups = []
    for group in optimiser.param_groups:
        kept = {name: as_plain(value, name) for name, value in group.items() if name not in ("params", "initial_lr")}
        groups.append({**kept, "params": len(group["params"])})
    return groups


_PAIRS = "of pairs"  # JSON takes only strings as keys


def as_plain(value: Any, name: str = "its state") -> Any:
    """The same in a form that JSON can hold.

    Raises:
        TypeError: for a value that JSON cannot hold, a tensor for instance.
    """
    if isinstance(value, Mapping):
        pairs = [(key, as_plain(item, str(key))) for key, item in value.items()]
        return (
            dict(pairs) if all(isinstance(key, str) for key, _ in pairs) else {_PAIRS: [list(pair) for pair in pairs]}
        )
    if isinstance(value, (list, tuple)):
        return [as_plain(item, name) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else describe(value)
    raise TypeError(f"expected an optimiser and a schedule with plain numbers and strings, got {got} for {name!r}")


def from_plain(value: Any) -> Any:
    """Undo ``as_plain``; tuples become lists."""
    if isinstance(value, dict):
        if value.keys() == {_PAIRS}:
            return {key: from_plain(item) for key, item in value[_PAIRS]}
        return {key: from_plain(item) for key, item in value.items()}
    return [from_plain(item) for item in value] if isinstance(value, list) else value
