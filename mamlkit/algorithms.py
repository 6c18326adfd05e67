"""The algorithms: functions that choose the parts of a ``Learner``, and the one table of their names.

``maml`` is the plain choice: one fixed step size, the loss after the last step, the full second order. Each of the others
differs in what its docstring says; ``maml_plus_plus`` in every part that its arguments switch on.

An algorithm of your own needs no table: make a ``Learner``, and ``fit`` and ``evaluate`` take it. For the command line and a
configuration to know it by name, add it to ``ALGORITHMS`` in this file: they read the names when they are imported. They call it
with ``inner_steps``, ``inner_lr``, ``loss``, ``engine``, ``autocast`` and ``seed``, and with those switches of ``LearnerOptions``
that its signature names. So the command line's defaults hold there, not the function's: the docstring of ``configuration`` says
where they differ. ``ModelAgnosticMetaLearning`` looks into the table at each call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Unpack

from torch import nn
from torch.nn import functional as F

from mamlkit.arguments import expect_at_least, expect_model, expect_one_of, expect_switch
from mamlkit.batch_norm import PerStepBatchNorm
from mamlkit.functional import batch_norm_layers, is_strange, parameters_of
from mamlkit.implicit import ImplicitLearner
from mamlkit.inner_loop import Loss
from mamlkit.learners import Learner, Switches
from mamlkit.outer_loss import AnnealedMultiStep, FinalStep, MultiStep, OuterLoss
from mamlkit.step_sizes import FixedStepSize, LearnedStepSizes

__all__ = ["ALGORITHMS", "anil", "fomaml", "imaml", "maml", "maml_plus_plus", "meta_sgd", "reptile"]


def maml(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    **switches: Unpack[Switches],
) -> Learner:
    """MAML with the full second-order meta-gradient: Finn et al., 2017, arXiv:1703.03400, algorithms 1 and 2.

    The same in plain PyTorch, for a model without batch norm and dropout:

        def meta_loss_of(model, loss, tasks, alpha, inner_steps):
            theta, total = dict(model.named_parameters()), 0.0
            for support_x, support_y, query_x, query_y in zip(*tasks):
                adapted = theta
                for _ in range(inner_steps):  # the inner loop, on the support set
                    error = loss(functional_call(model, adapted, (support_x,)), support_y)
                    slopes = torch.autograd.grad(error, list(adapted.values()), create_graph=True)
                    adapted = {name: adapted[name] - alpha * slope for name, slope in zip(adapted, slopes)}
                total = total + loss(functional_call(model, adapted, (query_x,)), query_y)
            return total / tasks.num_tasks

        meta_loss_of(model, loss, tasks, alpha=0.01, inner_steps=5).backward()  # through all inner steps
        optimiser.step()  # the outer update

    ``maml(model, loss=loss).meta_backward(tasks)`` fills ``.grad`` with the same numbers. To walk through it with a debugger,
    pass ``engine="task_by_task"``, which computes it in this order: ``TaskByTask`` in ``mamlkit.meta_gradient``.
    """
    sizes = partial(FixedStepSize, rate=inner_lr)
    return Learner(model, loss=loss, inner_steps=inner_steps, step_sizes=sizes, **switches)


def fomaml(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    **switches: Unpack[Switches],
) -> Learner:
    """First-order MAML, which drops the Hessian: Finn et al., 2017, section 5.2; Nichol et al., 2018, arXiv:1803.02999."""
    sizes = partial(FixedStepSize, rate=inner_lr)
    return Learner(model, loss=loss, inner_steps=inner_steps, step_sizes=sizes, order=1, **switches)


def reptile(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    **switches: Unpack[Switches],
) -> Learner:
    """Reptile: move theta towards the adapted parameters (Nichol et al., 2018, arXiv:1803.02999, algorithm 2).

    What is not ``adapted`` stays as it is, in a task and in meta-training.
    """
    sizes = partial(FixedStepSize, rate=inner_lr)
    return Learner(model, loss=loss, inner_steps=inner_steps, step_sizes=sizes, order=0, **switches)


def anil(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    **switches: Unpack[Switches],
) -> Learner:
    """ANIL, almost no inner loop: MAML that only adapts the head (Raghu et al., 2020, arXiv:1909.09157, section 4).

    Args:
        model: any module.
        inner_steps: K.
        inner_lr: alpha.
        loss: of outputs and targets, averaged over points.
        switches: see ``Learner``. When ``adapted`` is not given, it is the last layer of an ``nn.Sequential``. For other models
            it must be given: they need not call their layers in the order in which they register them.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """
    if switches.get("adapted") is None:
        switches["adapted"] = _last_layer(expect_model(model))
    return maml(model, inner_steps=inner_steps, inner_lr=inner_lr, loss=loss, **switches)


def meta_sgd(
    model: nn.Module,
    *,
    inner_steps: int = 1,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    **switches: Unpack[Switches],
) -> Learner:
    """Meta-SGD: MAML with a learned rate for every single parameter (Li et al., 2017, arXiv:1707.09835, equation 3)."""
    sizes = partial(LearnedStepSizes, rate=inner_lr, per="parameter", steps=inner_steps)
    return Learner(model, loss=loss, inner_steps=inner_steps, step_sizes=sizes, **switches)


def imaml(
    model: nn.Module,
    *,
    inner_steps: int = 16,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    regularisation: float = 2.0,
    conjugate_gradient_steps: int = 5,
    **switches: Unpack[Switches],
) -> Learner:
    """Implicit MAML: the gradient of the solution of a regularised inner problem (Rajeswaran et al., 2019, arXiv:1909.04630).

    Nothing of the inner steps is kept, however many there are: see ``mamlkit.implicit``.

    Args:
        model: any module.
        inner_steps: K, enough to come near the solution.
        inner_lr: alpha.
        loss: of outputs and targets, averaged over points.
        regularisation: lambda, the weight of half the squared distance from theta.
        conjugate_gradient_steps: how many, at least 0; 0 is the first-order answer.
        switches: see ``Learner``. A ``direction`` is that of the whole inner problem.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """
    return ImplicitLearner(
        model,
        loss=loss,
        inner_steps=inner_steps,
        step_sizes=partial(FixedStepSize, rate=inner_lr),
        regularisation=regularisation,
        conjugate_gradient_steps=conjugate_gradient_steps,
        **switches,
    )


def maml_plus_plus(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.1,
    loss: Loss = F.cross_entropy,
    multi_step_loss: Literal["annealed", "uniform"] | Sequence[float] | OuterLoss | None = "annealed",
    annealing_epochs: int = 10,
    step_sizes: Literal["fixed", "tensor", "tensor_and_step", "parameter"] = "tensor_and_step",
    per_step_weights: bool = True,
    per_step_statistics: bool = False,
    first_order_epochs: int = 0,
    **switches: Unpack[Switches],
) -> Learner:
    """MAML++, every part a switch: Antoniou et al., 2019, arXiv:1810.09502, section 4. Cosine annealing is part of ``fit``.

    The per-step parts of batch norm apply where the model has batch norm. The multi-step loss and the order of derivative are
    annealed by ``learner.epoch``, which ``fit`` and ``train_maml`` move on. In an outer loop of your own, set it:

        learner.epoch = i // steps_per_epoch  # before outer step i; while it stays 0, nothing is annealed

    Args:
        model: any module.
        inner_steps: K.
        inner_lr: alpha, or what the learned rates start from.
        loss: of outputs and targets, averaged over points.
        multi_step_loss: how the query losses of all steps are weighed: annealed towards the last (``"annealed"``), equally
            (``"uniform"``), by the numbers given, or by an ``OuterLoss`` of your own; ``None``: only the last step.
        annealing_epochs: until only the last step counts, with ``"annealed"``; ``learner.epoch`` counts them.
        step_sizes: one fixed rate, or learned ones: see ``LearnedStepSizes``.
        per_step_weights: scale and shift of batch norm for each inner step, meta-learned and never ``adapted`` (BNWB).
        per_step_statistics: collect running statistics for each inner step and normalise query points with them at evaluation
            (BNRS). If off, query points are normalised with their own batch, as in the authors' code.
        first_order_epochs: epochs of first order before second order begins (DA).
        switches: see ``Learner``.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """
    expect_model(model)
    expect_at_least("inner_steps", inner_steps, 1)
    expect_one_of("step_sizes", step_sizes, ("fixed", *LearnedStepSizes.kinds))
    expect_switch("per_step_weights", per_step_weights)
    expect_switch("per_step_statistics", per_step_statistics)
    layers = batch_norm_layers(model).values()
    has_batch_norm = bool(layers)
    learned = any(not layer.affine or parameters_of(layer) for layer in layers)
    rows = None
    if has_batch_norm and ((per_step_weights and learned) or per_step_statistics):
        rows = PerStepBatchNorm(model, inner_steps, weights=per_step_weights, statistics=per_step_statistics)
    return Learner(
        model,
        loss=loss,
        inner_steps=inner_steps,
        step_sizes=(
            partial(FixedStepSize, rate=inner_lr)
            if step_sizes == "fixed"
            else partial(LearnedStepSizes, rate=inner_lr, per=step_sizes, steps=inner_steps)
        ),
        outer_loss=_outer_loss(multi_step_loss, annealing_epochs),
        first_order_epochs=first_order_epochs,
        batch_norm=rows,
        query_statistics="running" if per_step_statistics and has_batch_norm else "batch",
        **switches,
    )


ALGORITHMS: dict[str, Callable[..., Learner]] = {
    "maml": maml,
    "fomaml": fomaml,
    "reptile": reptile,
    "anil": anil,
    "meta-sgd": meta_sgd,
    "imaml": imaml,
    "maml++": maml_plus_plus,
}
"""The algorithms by name, for the facade, a configuration and the command line."""


def _outer_loss(multi_step_loss: str | Sequence[float] | OuterLoss | None, annealing_epochs: int) -> OuterLoss:
    if multi_step_loss is None:
        return FinalStep()
    if isinstance(multi_step_loss, OuterLoss):
        return multi_step_loss
    if not isinstance(multi_step_loss, str):
        return MultiStep(multi_step_loss)
    expect_one_of("multi_step_loss", multi_step_loss, ("annealed", "uniform"))
    return AnnealedMultiStep(annealing_epochs) if multi_step_loss == "annealed" else MultiStep()


def _last_layer(model: nn.Module) -> list[str]:
    """The parameters of the layer that is called last."""
    layers = [(name, child) for name, child in model.named_children() if parameters_of(child)]
    if list(model.parameters(recurse=False)) and not layers:
        return list(parameters_of(model))
    if is_strange(model) or not isinstance(model, nn.Sequential) or not layers:
        named = list(parameters_of(model))
        raise ValueError(
            f"expected adapted=[...] for a {type(model).__name__}, whose last layer only its forward knows, got None; "
            f"names are {', '.join(map(repr, named[-2:]))}, ..."
        )
    name, last = layers[-1]
    return [f"{name}.{part}" for part in _last_layer(last)]
