"""Which engine computes a learner's meta-gradient."""

from __future__ import annotations

from torch import nn

from mamlkit.arguments import expect_one_of
from mamlkit.engines import linear
from mamlkit.engines.adjoint import Recomputed
from mamlkit.engines.compiled import Compiled
from mamlkit.engines.conv4 import CONV4_ENGINES, knows
from mamlkit.meta_gradient import AllAtOnce, Engine, TaskByTask
from mamlkit.task_groups import safe_under_vmap

__all__ = ["ENGINES", "choose_engine"]

ENGINES: dict[str, type[Engine]] = {
    "task_by_task": TaskByTask,
    "all_at_once": AllAtOnce,
    "recomputed": Recomputed,
    "compiled": Compiled,
}
"""What can be asked for, by name. ``conv4`` and its like have versions of their own of two of them, linear networks of one."""


def choose_engine(name: str, model: nn.Module, *, beyond_conv4: bool = False, dropout: bool = False) -> Engine:
    """The engine of that name; ``"auto"`` takes ``all_at_once`` where it is known to be right.

    That is for ``conv4``, sequences of the same layers, and networks of linear layers, which have versions of their own, and for
    models known to be safe under ``vmap``.

    Args:
        name: ``"auto"`` or a name in ``ENGINES``.
        model: what is adapted.
        beyond_conv4: whether the learner needs what the engines of ``conv4`` do not have: dropout, autocast, running statistics,
            a direction.
        dropout: whether dropout layers drop.

    Raises:
        ValueError: for an unknown name, or for ``all_at_once`` or ``compiled`` with another model that has batch norm or dropout.
    """
    expect_one_of("engine", name, ("auto", *ENGINES))
    conv4 = knows(model) and not beyond_conv4
    if name == "auto":
        name = "all_at_once" if conv4 or safe_under_vmap(model) else "task_by_task"
    if conv4 and name in CONV4_ENGINES:
        return CONV4_ENGINES[name]()
    if name == "all_at_once" and linear.knows(model):
        return linear.LinearAllAtOnce()
    engine = ENGINES[name]()
    normalises = any(isinstance(m, nn.modules.batchnorm._NormBase) for m in model.modules())
    if normalises and isinstance(engine, AllAtOnce):
        raise ValueError(
            f"expected a model without batch norm or instance norm for engine {name!r}, got one with it; use 'task_by_task'"
        )
    if dropout and isinstance(engine, AllAtOnce):
        raise ValueError("expected dropout=False or no dropout layers for engine 'all_at_once', got dropout layers")
    return engine
