"""Meta-learners: a model, its step sizes, an outer loss and an order of derivative, put together.

A learner is one class, ``Learner``; the algorithms are functions that choose its parts. Each meta-parameter is an ordinary
``nn.Parameter``, so that any ``torch.optim`` optimiser drives the outer loop:

    learner = maml(mlp(), loss=F.mse_loss, inner_steps=1, inner_lr=0.01)
    optimiser = torch.optim.Adam(learner.parameters(), lr=1e-3)
    for tasks in TaskStream(Sinusoids(), meta_batch=25):
        optimiser.zero_grad()
        loss = learner.meta_backward(tasks)  # fills .grad, as loss.backward() would
        optimiser.step()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Unpack

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.batch_norm import PerStepBatchNorm
from mamlkit.functional import (
    BatchNormMode,
    FunctionalModel,
    Parameters,
    WatchedLoss,
    batch_norm_layers,
    is_strange,
    keep_writes,
    parameters_of,
    structure,
)
from mamlkit.inner_loop import Forward, InnerLoop, Loss, Order
from mamlkit.meta_gradient import choose_engine, displacement
from mamlkit.outer_loss import AnnealedMultiStep, FinalStep, MultiStep, OuterLoss
from mamlkit.step_sizes import FixedStepSize, LearnedStepSizes, Rates, StepSizes
from mamlkit.task_groups import together
from mamlkit.tasks import TaskBatch, stream_seed
from mamlkit.validation import (
    checked_loss,
    describe,
    expect_at_least,
    expect_classes,
    expect_model,
    expect_names,
    expect_on_model,
    expect_one_of,
    expect_points,
    expect_same_tasks,
)

__all__ = ["Learner", "anil", "fomaml", "maml", "maml_plus_plus", "meta_sgd", "reptile"]


Result = TypeVar("Result")


class Switches(TypedDict, total=False):
    """What every algorithm takes besides its own arguments, as ``Learner`` describes it."""

    dropout: bool
    seed: int
    autocast: torch.dtype | None
    engine: str


class Learner(nn.Module):
    """A meta-learner by gradient descent, composed of parts.

    Args:
        model: any module; its parameters are the initialisation theta that is meta-learned.
        loss: of outputs and targets, averaged over points; used on support and query alike. Parameters of a loss that is a
            module are meta-learned.
        inner_steps: K, at least 1.
        step_sizes: which parameters the inner loop moves, and how far.
        outer_loss: how the query losses along the inner loop are weighed; the last one alone when not given.
        order: 2 for the full meta-gradient, 1 for the first-order approximation, 0 for Reptile, which takes no derivative of the
            query loss: its direction is theta minus the adapted parameters.
        first_order_epochs: epochs with order 1 before order 2 begins (derivative-order annealing).
        batch_norm: weights and statistics of each inner step; ``None`` leaves the model's own batch norm.
        query_statistics: what batch norm normalises query points with at evaluation: the statistics of the query set
            (``"batch"``, transductive) or running statistics collected in meta-training (``"running"``, inductive). Support sets
            and meta-training always use the statistics of the batch.
        dropout: whether the inner loop of meta-training calls the model in the mode that it is in (``model.train()``, a
            module's default, drops), or as after ``model.eval()``. Masks of dropout layers, recurrent and attention layers stay
            the same over the steps of a task; what else draws numbers takes them from torch's generator. Query points and
            evaluation see no dropout.
        seed: of the dropout masks.
        autocast: lower precision for the model, for instance ``torch.bfloat16``; losses and updates stay as they are.
        engine: ``"auto"``, or a name in ``mamlkit.meta_gradient.ENGINES``; ``print(learner)`` says which was taken.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        inner_steps: int,
        step_sizes: StepSizes,
        outer_loss: OuterLoss | None = None,
        order: Order = 2,
        first_order_epochs: int = 0,
        batch_norm: PerStepBatchNorm | None = None,
        query_statistics: Literal["batch", "running"] = "batch",
        dropout: bool = True,
        seed: int = 0,
        autocast: torch.dtype | None = None,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        self.model = expect_model(model)
        if not isinstance(step_sizes, StepSizes):
            raise TypeError(f"expected step_sizes to be a StepSizes, got {describe(step_sizes)}")
        self.inner_steps = expect_at_least("inner_steps", inner_steps, 1)
        if order not in (0, 1, 2):
            raise ValueError(f"expected order 0, 1 or 2, got {order!r}")
        expect_one_of("query_statistics", query_statistics, ("batch", "running"))
        checked_loss(loss)
        self._autocast, self._asked = autocast, (dropout, engine)
        self.loss, self.step_sizes, self.order = loss, step_sizes, order
        self.outer_loss: OuterLoss = outer_loss or FinalStep()
        if order == 0 and self._loss_parameters():
            name = next(iter(self._loss_parameters()))
            raise ValueError(
                f"expected a loss without parameters for Reptile, which takes no derivative of it, got {name!r}"
            )
        self.first_order_epochs = expect_at_least("first_order_epochs", first_order_epochs, 0)
        self.batch_norm, self.query_statistics = batch_norm, query_statistics
        self.seed = expect_at_least("seed", seed, 0)
        self.epoch = self.meta_steps = 0  # annealed parts and dropout masks look at these
        self._known = set(parameters_of(model))
        self._adapts_all = set(self.initialisation()) <= set(step_sizes(0))
        self._seen: tuple[object] = (None,)  # the loss that was watched; a tuple, as a module would be registered
        self._runs_together = True  # until a loss is met that does not
        self._look()

    def _look(self) -> None:
        """Look at the model as it is now: layers may have come or gone, or have been hooked."""
        made = structure(self.model)
        if made != getattr(self, "_made", None):
            self._choose()
            self._made = made
        elif any(has_modes for _, _, has_modes in made):
            for network in self._networks:
                network.look()

    def _choose(self) -> None:
        """The engine, and the modes in which it calls the model."""
        dropout, engine = self._asked
        self.dropout = dropout and any(_drops(module) for module in self.model.modules())
        collects = self.query_statistics == "running" and bool(batch_norm_layers(self.model))
        general = self.dropout or collects or self._autocast is not None
        engine = engine if self._runs_together or engine != "auto" else "task_by_task"
        self.engine_name, self.engine = choose_engine(engine, self.model, general=general)
        if self.dropout and self.engine.grouping is together:
            raise ValueError("expected dropout=False or no dropout layers for engine 'all_at_once', got dropout layers")
        if self.engine_name == "compiled" and self._loss_parameters():
            raise ValueError(
                f"expected a loss without parameters for engine 'compiled', got {next(iter(self._loss_parameters()))!r}"
            )
        self._written: dict[str, Tensor] = {}

        def network(batch_norm: BatchNormMode, name: str, *, training: bool, dropout: bool = False) -> FunctionalModel:
            return FunctionalModel(
                self.model,
                batch_norm=batch_norm,
                dropout=dropout,
                autocast=self._autocast,
                name=name,
                written=self._written if training else None,
            )

        self._support_train = network("batch", "support", training=True, dropout=dropout)
        self._query_train = network("collect" if collects else "batch", "query", training=True)
        self._support_eval = network("batch", "support", training=False)
        self._query_eval = network("running" if collects else "batch", "query", training=False)
        self._networks = (self._support_train, self._query_train, self._support_eval, self._query_eval)

    @property
    def is_transductive(self) -> bool:
        """Whether the answer for one query point depends on the other query points, through batch norm."""
        return self.query_statistics == "batch" and bool(batch_norm_layers(self.model))

    @property
    def current_order(self) -> Order:
        """The order of derivative in this epoch."""
        return 1 if self.order == 2 and self.epoch < self.first_order_epochs else self.order

    def extra_repr(self) -> str:
        """Shown by ``print``: with the engine that was chosen."""
        why = "" if self._runs_together else " (as the loss or the model does not run under vmap)"
        return f"inner_steps={self.inner_steps}, order={self.order}, engine={self.engine_name!r}{why}"

    def describe(self) -> dict[str, Any]:
        """What decides the numbers of this learner, besides its tensors: a resumed run must have the same."""
        parts: dict[str, Any] = {"order": self.order, "inner_steps": self.inner_steps}
        for name in ("step_sizes", "outer_loss", "batch_norm"):
            parts[name] = _facts(getattr(self, name))
        parts["loss"] = getattr(self.loss, "__qualname__", None) or _facts(self.loss)
        for name in ("first_order_epochs", "query_statistics", "dropout", "seed"):
            parts[name] = getattr(self, name)
        parts["autocast"] = str(self._autocast)
        return parts

    def inner_loop(self, *, steps: int | None = None, training: bool = False) -> InnerLoop:
        """How this learner adapts a task; more steps than in training are allowed."""
        self._look()
        twice = training and self.current_order == 2
        return InnerLoop(
            support_forward=self._forward(self._support_train if training else self._support_eval, twice=twice),
            query_forward=self._forward(self._query_train if training else self._query_eval, judges=True),
            loss=self._watched_loss(),
            step_sizes=self._rates,
            steps=self.inner_steps if steps is None else expect_at_least("steps", steps, 1),
            order=self.current_order if training else 0,
            dropout_seed=stream_seed(self.seed, self.meta_steps) if training and self.dropout else None,
            collects_every_step=training and self.batch_norm is not None and self.batch_norm.has_statistics,
        )

    def _watched_loss(self) -> Loss:
        """The loss, which the first time is watched where it may read anything."""
        loss = checked_loss(self.loss)
        kind = self.loss if not isinstance(self.loss, nn.Module) else type(self.loss)
        if self._seen[0] is self.loss or getattr(kind, "__module__", "") in (
            "torch.nn.functional",
            "torch.nn.modules.loss",
        ):
            return loss

        def watched(outputs: Tensor, targets: Tensor) -> Tensor:
            if self._seen[0] is self.loss or torch.compiler.is_compiling():
                return loss(outputs, targets)
            with WatchedLoss(self.model, self.initialisation()):
                value = loss(outputs, targets)
            self._seen = (self.loss,)
            return value

        return watched

    def _rates(self, step: int) -> Rates:
        """The rates of this step, for parameters that are learned now: some may have been frozen or unfrozen meanwhile."""
        rates = self.step_sizes(step)
        learned = {name: p.requires_grad for name, p in self.model.named_parameters()}
        rates = {name: rate for name, rate in rates.items() if learned.get(name, True)}
        late = [name for name, on in learned.items() if on and self._adapts_all and name not in self._known]
        if late and not isinstance(self.step_sizes, FixedStepSize):
            raise ValueError(
                f"expected the parameters that had a step size when the learner was made, got {late[0]!r} unfrozen since; "
                "make the learner anew"
            )
        return {**rates, **dict.fromkeys(late, getattr(self.step_sizes, "rate", 0.0))}

    def initialisation(self) -> dict[str, Tensor]:
        """theta, by name; without the batch-norm weights that have a row for each step instead."""
        replaced = self.batch_norm.weight_names if self.batch_norm else set()
        return {name: value for name, value in parameters_of(self.model).items() if name not in replaced}

    def meta_parameters(self) -> dict[str, Tensor]:
        """Everything that meta-training learns: theta, step sizes, batch-norm weights of each step, parameters of the loss."""
        parts = {"step_sizes": self.step_sizes, "batch_norm": self.batch_norm}
        named = {f"model.{name}": value for name, value in self.initialisation().items()}
        for part, module in parts.items():
            if module is not None:
                named |= {f"{part}.{name}": p for name, p in module.named_parameters() if p.requires_grad}
        return named | self._loss_parameters()

    def _loss_parameters(self) -> dict[str, Tensor]:
        """What can be learned of the loss, where it is a module."""
        if not isinstance(self.loss, nn.Module):
            return {}
        own = {id(parameter) for parameter in self.model.parameters()}
        named = self.loss.named_parameters()
        return {f"loss.{name}": p for name, p in named if p.requires_grad and id(p) not in own}

    def meta_backward(self, tasks: TaskBatch, first_task: int = 0) -> Float[Tensor, ""]:
        """Add the meta-gradient of these tasks to ``.grad`` of every meta-parameter, as ``loss.backward()`` would.

        Args:
            tasks: the meta-batch; see ``TaskBatch`` for its shapes.
            first_task: number of its first task, when a meta-batch is taken in parts.

        Returns:
            The meta-loss ``()``, the mean over tasks of the weighted query losses (Finn et al., 2017, equation 2).

        Raises:
            TypeError, ValueError: if the tensors of the batch do not fit each other.
        """
        tasks = self.expect_tasks(tasks)
        inner, start, learned = self.inner_loop(training=True), self.initialisation(), self.meta_parameters()
        self._written.clear()
        gradients: Sequence[Tensor | None]
        if self.order == 0:
            loss, direction = self.generally(
                lambda: displacement(self.engine.grouping, inner, start, tasks, first_task)
            )
            gradients = [direction.get(name.removeprefix("model.")) for name in learned]
        else:
            if not torch.is_grad_enabled():
                raise RuntimeError("expected gradients to be switched on, got meta_backward under torch.no_grad()")
            weights = self.outer_loss.weights(self.inner_steps, self.epoch)
            wanted = list(learned.values())
            try:
                loss, gradients = self.generally(lambda: self.engine(inner, start, tasks, weights, wanted, first_task))
            except (IndexError, RuntimeError):
                self.explain(tasks)
                raise
        self.expect_gradients_found()
        for parameter, gradient in zip(learned.values(), gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        keep_writes(self.model, self._written)
        self.meta_steps += 1
        return loss

    def written_buffers(self) -> list[Tensor]:
        """The model's own buffers that the last meta-batch wrote into, batch norm's apart."""
        return [self.model.get_buffer(name) for name in sorted(self._written)]

    def expect_gradients_found(self) -> None:
        """Refuse a model that loses the gradient of a parameter that it reads."""
        self._support_train.expect_gradients_found()
        self._query_train.expect_gradients_found()
        self._support_eval.expect_gradients_found()

    def adapt(
        self,
        support_x: Float[Tensor, "support *input"],
        support_y: Shaped[Tensor, "support *output"],
        steps: int | None = None,
    ) -> list[Parameters]:
        """Adapt to one new task, keeping no gradients: the parameters after 0, 1, ..., steps steps.

        Args:
            support_x: ``(support, *input)``.
            support_y: ``(support, *output)``, or class numbers ``(support,)``.
            steps: K in training when not given.
        """
        expect_points("support", support_x, support_y)
        expect_on_model(
            self.model,
            ("support inputs", support_x),
            ("support targets", support_y),
            any_type=self._autocast is not None,
        )
        start = {name: value.detach().clone() for name, value in self.initialisation().items()}  # outlives training
        path = self.inner_loop(steps=steps).trajectory(start, support_x, support_y)
        self.expect_gradients_found()
        return path

    def expect_tasks(self, tasks: TaskBatch) -> TaskBatch:
        """These tasks, once they are known to fit each other and the model."""
        expect_same_tasks(tasks)
        tasks = TaskBatch(*tasks)
        named = (
            (name.replace("_x", " inputs").replace("_y", " targets"), part) for name, part in tasks._asdict().items()
        )
        expect_on_model(self.model, *named, any_type=self._autocast is not None)
        rates = ((f"step size {name!r}", rate) for name, rate in self.step_sizes.named_parameters())
        expect_on_model(self.model, *rates, any_type=True)  # torch takes a single number from any device
        return tasks

    def generally(self, compute: Callable[[], Result]) -> Result:
        """What ``compute`` gives; with engine ``"auto"`` task by task from now on where a loss does not run under ``vmap``."""
        try:
            return compute()
        except Exception as error:
            if self.engine.grouping is not together or str(error).startswith("expected "):
                raise
            if self._asked[1] != "auto":
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                if "vmap" not in str(error):
                    raise
                raise ValueError(
                    f"expected a model and a loss that run under vmap for engine {self.engine_name!r}, got {reason:.80}...; "
                    "use 'task_by_task'"
                ) from error
            fast = self.engine_name, self.engine
            self.engine_name, self.engine = choose_engine("task_by_task", self.model)
            try:
                result = compute()
            except Exception:  # it was something else
                self.engine_name, self.engine = fast
                raise
            self._runs_together = False
            return result

    def explain(self, tasks: TaskBatch) -> None:
        """After a failure, say in one line what torch says in many. (On a GPU labels out of range end the process.)"""
        if self.loss is F.cross_entropy or isinstance(self.loss, nn.CrossEntropyLoss):
            classes = self.predict(tasks.query_x[0]).shape[1]
            for labels in (tasks.support_y, tasks.query_y):
                if not labels.is_floating_point() and labels.device.type == "cpu":
                    expect_classes(labels, classes)

    def predict(
        self, x: Float[Tensor, "points *input"], parameters: Parameters | None = None, step: int | None = None
    ) -> Shaped[Tensor, "points *output"]:
        """Outputs for query inputs ``(points, *input)`` with adapted parameters.

        Args:
            x: the inputs.
            parameters: as ``adapt`` gave them; the initialisation when not given.
            step: how many inner steps made them, for batch norm; K when not given.
        """
        if parameters is not None:
            expect_names([name for name, _ in self.model.named_parameters()], list(parameters))
        start = self.initialisation() if parameters is None else parameters
        step = self.inner_steps if step is None else step
        self._look()
        return self._forward(self._query_eval, judges=True)(start, x, max(step - 1, 0))

    def _forward(self, network: FunctionalModel, *, judges: bool = False, twice: bool = False) -> Forward:
        def forward(parameters: Parameters, x: Tensor, step: int) -> Tensor:
            if self.batch_norm is None:
                return network(parameters, x, twice=twice)
            rows = self.batch_norm.weights(step) | (self.batch_norm.statistics(step) if judges else {})
            return network({**parameters, **rows}, x, twice=twice)

        return forward


def maml(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    **switches: Unpack[Switches],
) -> Learner:
    """MAML with the full second-order meta-gradient: Finn et al., 2017, arXiv:1703.03400, algorithms 1 and 2."""
    sizes = FixedStepSize(parameters_of(expect_model(model)), inner_lr)
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
    sizes = FixedStepSize(parameters_of(expect_model(model)), inner_lr)
    return Learner(model, loss=loss, inner_steps=inner_steps, step_sizes=sizes, order=1, **switches)


def reptile(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    **switches: Unpack[Switches],
) -> Learner:
    """Reptile: move theta towards the adapted parameters (Nichol et al., 2018, arXiv:1803.02999, algorithm 2)."""
    sizes = FixedStepSize(parameters_of(expect_model(model)), inner_lr)
    return Learner(model, loss=loss, inner_steps=inner_steps, step_sizes=sizes, order=0, **switches)


def anil(
    model: nn.Module,
    *,
    adapted: Iterable[str] | None = None,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    **switches: Unpack[Switches],
) -> Learner:
    """ANIL, almost no inner loop: only some parameters are adapted (Raghu et al., 2020, arXiv:1909.09157, section 4).

    Args:
        model: any module.
        adapted: names of the parameters that the inner loop moves; those of the last layer of an ``nn.Sequential`` when not
            given. Other models must say, as the order in which they register layers need not be that of the calls.
        inner_steps: K.
        inner_lr: alpha.
        loss: of outputs and targets, averaged over points.
        switches: see ``Learner``.

    Raises:
        ValueError: for a name that is not a parameter of the model.
    """
    everything = parameters_of(expect_model(model))
    chosen = _last_layer(model) if adapted is None else list(adapted)
    if unknown := [name for name in chosen if name not in everything]:
        raise ValueError(f"expected names out of {', '.join(everything)}, got {', '.join(map(repr, unknown))}")
    if not chosen:
        raise ValueError("expected at least one parameter to adapt, got none")
    sizes = FixedStepSize(chosen, inner_lr)
    return Learner(model, loss=loss, inner_steps=inner_steps, step_sizes=sizes, **switches)


def meta_sgd(
    model: nn.Module,
    *,
    inner_steps: int = 1,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    **switches: Unpack[Switches],
) -> Learner:
    """Meta-SGD: MAML with a learned rate for every single parameter (Li et al., 2017, arXiv:1707.09835, equation 3)."""
    sizes = LearnedStepSizes(parameters_of(expect_model(model)), inner_lr, "parameter", inner_steps)
    return Learner(model, loss=loss, inner_steps=inner_steps, step_sizes=sizes, **switches)


def maml_plus_plus(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.1,
    loss: Loss = F.cross_entropy,
    multi_step_loss: Literal["annealed", "uniform"] | Sequence[float] | None = "annealed",
    annealing_epochs: int = 10,
    step_sizes: Literal["fixed", "tensor", "tensor_and_step", "parameter"] = "tensor_and_step",
    per_step_weights: bool = True,
    per_step_statistics: bool = False,
    first_order_epochs: int = 0,
    **switches: Unpack[Switches],
) -> Learner:
    """MAML++, every part a switch: Antoniou et al., 2019, arXiv:1810.09502, section 4. Cosine annealing is part of ``fit``.

    The per-step parts of batch norm apply where the model has batch norm.

    Args:
        model: any module.
        inner_steps: K.
        inner_lr: alpha, or what the learned rates start from.
        loss: of outputs and targets, averaged over points.
        multi_step_loss: weigh the query losses of all steps, annealed towards the last (``"annealed"``), equally
            (``"uniform"``) or as given; ``None``: the last step only.
        annealing_epochs: until only the last step counts.
        step_sizes: one fixed rate, or learned ones: see ``LearnedStepSizes``.
        per_step_weights: scale and shift of batch norm for each inner step, meta-learned and not adapted (BNWB).
        per_step_statistics: collect running statistics for each inner step and normalise query points with them at evaluation
            (BNRS). Off, query points are normalised with their own batch, which is what the authors' code does.
        first_order_epochs: epochs of first order before second order begins (DA).
        switches: see ``Learner``.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """
    expect_model(model)
    expect_at_least("inner_steps", inner_steps, 1)
    expect_one_of("step_sizes", step_sizes, ("fixed", *LearnedStepSizes.kinds))
    layers = batch_norm_layers(model).values()
    has_batch_norm = bool(layers)
    learned = any(not layer.affine or parameters_of(layer) for layer in layers)
    rows = None
    if has_batch_norm and ((per_step_weights and learned) or per_step_statistics):
        rows = PerStepBatchNorm(model, inner_steps, weights=per_step_weights, statistics=per_step_statistics)
    replaced = rows.weight_names if rows else set()
    adapted = {name: value for name, value in parameters_of(model).items() if name not in replaced}
    return Learner(
        model,
        loss=loss,
        inner_steps=inner_steps,
        step_sizes=(
            FixedStepSize(adapted, inner_lr)
            if step_sizes == "fixed"
            else LearnedStepSizes(adapted, inner_lr, step_sizes, inner_steps)
        ),
        outer_loss=_outer_loss(multi_step_loss, annealing_epochs),
        first_order_epochs=first_order_epochs,
        batch_norm=rows,
        query_statistics="running" if per_step_statistics and has_batch_norm else "batch",
        **switches,
    )


def _outer_loss(multi_step_loss: str | Sequence[float] | None, annealing_epochs: int) -> OuterLoss:
    if multi_step_loss is None:
        return FinalStep()
    if not isinstance(multi_step_loss, str):
        return MultiStep(multi_step_loss)
    expect_one_of("multi_step_loss", multi_step_loss, ("annealed", "uniform"))
    return AnnealedMultiStep(annealing_epochs) if multi_step_loss == "annealed" else MultiStep()


def _facts(part: object) -> str:
    """The kind of a part and its plain settings."""
    plain = (bool, int, float, str, tuple, list, dict, type(None))
    own = getattr(part, "__dict__", {}).items()
    kept = {name: value for name, value in own if isinstance(value, plain) and name not in _OF_EVERY_MODULE}
    return f"{type(part).__name__}({', '.join(f'{name.lstrip(chr(95))}={value!r}' for name, value in sorted(kept.items()))})"


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def _drops(module: nn.Module) -> bool:
    """Whether a layer is known to drop values at random."""
    return isinstance(module, nn.modules.dropout._DropoutNd) or (
        isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and module.dropout > 0
    )


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
