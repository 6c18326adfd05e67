"""What a learner is: a model, its step sizes, an outer loss and an order of derivative, put together.

A learner is one class, ``Learner``; the functions of ``mamlkit.algorithms`` choose its parts. Each meta-parameter is an ordinary
``nn.Parameter``, so that any ``torch.optim`` optimiser drives the outer loop:

    learner = maml_plus_plus(mlp(), loss=F.mse_loss, inner_steps=5, inner_lr=0.01)
    optimiser = torch.optim.Adam(learner.parameters(), lr=1e-3)
    stream = TaskStream(Sinusoids(), meta_batch=25)
    for i, tasks in zip(range(outer_steps), stream):
        learner.epoch = i // steps_per_epoch  # what is annealed counts in epochs; fit and train_maml do this for you
        optimiser.zero_grad()
        loss = learner.meta_backward(tasks)  # fills .grad, as loss.backward() would
        optimiser.step()  # the outer update
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypedDict, TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.arguments import (
    checked_loss,
    describe,
    expect_at_least,
    expect_kind,
    expect_model,
    expect_names,
    expect_on_model,
    expect_one_of,
    expect_parameters,
    expect_points,
    expect_rates,
    expect_same_tasks,
    expect_seed,
    expect_switch,
    expect_tensors,
    explain_labels,
    explained,
)
from mamlkit.batch_norm import PerStepBatchNorm
from mamlkit.directions import Direction, in_turn
from mamlkit.engines import choose_engine
from mamlkit.functional import (
    BatchNormMode,
    FunctionalModel,
    Parameters,
    batch_norm_layers,
    drops,
    keep_writes,
    parameters_of,
    structure,
)
from mamlkit.inner_loop import Forward, InnerLoop, Loss, Order
from mamlkit.meta_gradient import AllAtOnce, Request
from mamlkit.outer_loss import FinalStep, OuterLoss
from mamlkit.randomness import stream_seed
from mamlkit.reptile import displacement
from mamlkit.step_sizes import Adapted, FixedStepSize, Rates, StepSizes, which
from mamlkit.tasks import TaskBatch, TaskList, Tasks, listed
from mamlkit.trees import Several, Tree, each, joined
from mamlkit.watches import WatchedLoss

__all__ = ["Learner", "Switches"]


Result = TypeVar("Result")


class Switches(TypedDict, total=False):
    """What every algorithm takes besides its own arguments; ``Learner`` describes them."""

    adapted: Adapted | None
    direction: Direction | Iterable[Direction] | None
    keep_statistics: bool
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
        step_sizes: how far the inner loop moves each parameter, or a function that makes such step sizes for the parameters
            that are adapted, by name.
        adapted: which parameters the inner loop moves, by their names or by a function of a name, such as
            ``lambda name: name.endswith("bias")``. When not given: all that are learned and have a step size. The others are
            still meta-learned by every algorithm but Reptile, which leaves them as they are.
        direction: what inner steps follow instead of the gradient, one part or several in turn: momentum, weight decay,
            clipping, Adam. See ``mamlkit.directions``. An engine that only knows plain descent gives way to one that takes any.
        outer_loss: how the query losses along the inner loop are weighed; when not given, only the last one counts.
        order: the order of derivative: 2 for the full meta-gradient, 1 for the first-order approximation. 0 chooses Reptile,
            which has no meta-gradient: see ``is_reptile``.
        first_order_epochs: epochs with order 1 before order 2 begins (derivative-order annealing).
        batch_norm: weights and statistics of each inner step; with ``None`` the model keeps its own batch norm.
        query_statistics: what batch norm normalises query points with at evaluation: the statistics of the query set
            (``"batch"``, transductive) or running statistics collected in meta-training (``"running"``, inductive). Support sets
            and meta-training always use the statistics of the batch.
        keep_statistics: batch norm uses the running statistics that the model came with, for instance those of pretraining, for
            support and query, in meta-training and evaluation, and does not change them.
        dropout: whether the inner loop of meta-training calls the model in the mode that it is in (``model.train()``, a
            module's default, drops), or as after ``model.eval()``. The masks of dropout, recurrent and attention layers stay the
            same over the steps of a task; anything else that draws numbers takes them from torch's generator. Query points and
            evaluation see no dropout.
        seed: the seed of the dropout masks.
        autocast: lower precision for the model, for instance ``torch.bfloat16``; losses and updates stay as they are.
        engine: ``"auto"``, or a name in ``mamlkit.engines.ENGINES``; ``print(learner)`` says which was taken. All give the
            same numbers: in float64 to one part in 10^8, and in float32 within three times the plain loop's own error in a
            forward pass, a gradient, a Hessian-vector product and, in the median of 80 networks, a meta-gradient (``python -m
            mamlkit.bench --errors`` measures it). Where an error crosses a kink of ReLU or max-pool, the meta-gradient of one
            batch can be off by far more, with every engine and with the plain loop.

    Attributes:
        epoch: of meta-training, from 0. What is annealed reads it: the weights of ``outer_loss``, and ``first_order_epochs``.
            ``fit`` and ``train_maml`` move it on. An outer loop of your own has to set it, or nothing is ever annealed.
        meta_steps: calls of ``meta_backward`` so far; the dropout masks depend on it.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        inner_steps: int,
        step_sizes: StepSizes | Callable[[dict[str, Tensor]], StepSizes],
        adapted: Adapted | None = None,
        direction: Direction | Iterable[Direction] | None = None,
        outer_loss: OuterLoss | None = None,
        order: Order = 2,
        first_order_epochs: int = 0,
        batch_norm: PerStepBatchNorm | None = None,
        query_statistics: Literal["batch", "running"] = "batch",
        keep_statistics: bool = False,
        dropout: bool = True,
        seed: int = 0,
        autocast: torch.dtype | None = None,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        self.model = expect_model(model)
        expect_switch("dropout", dropout)
        if autocast not in (None, torch.bfloat16, torch.float16):
            raise TypeError(f"expected autocast to be None, torch.bfloat16 or torch.float16, got {describe(autocast)}")
        self.inner_steps = expect_at_least("inner_steps", inner_steps, 1)
        if order not in (0, 1, 2):
            raise ValueError(f"expected order 0, 1 or 2, got {order!r}")
        expect_one_of("query_statistics", query_statistics, ("batch", "running"))
        checked_loss(loss)
        self._autocast, self._asked = autocast, (dropout, engine)
        if batch_norm is not None:
            expect_kind("batch_norm", batch_norm, PerStepBatchNorm)
            expect_names([name for name, _ in model.named_parameters()], sorted(batch_norm.weight_names))
        theta = _without_rows(model, batch_norm)
        chosen = which(theta, adapted)
        self._adapted = frozenset(chosen) if adapted is not None and not callable(adapted) else adapted
        self.loss, self.order = loss, order
        self.step_sizes = _made(step_sizes, {name: theta[name] for name in chosen})
        if order == 0 and self._loss_parameters():
            name = next(iter(self._loss_parameters()))
            raise ValueError(
                f"expected a loss without parameters for Reptile, which takes no derivative of it, got {name!r}"
            )
        self.direction = in_turn(direction)
        if order == 0 and self.direction is not None and (names := list(parameters_of(self.direction))):
            raise ValueError(
                f"expected a direction without parameters for Reptile, which takes no derivative of it, got {names[0]!r}"
            )
        self.outer_loss: OuterLoss = (
            FinalStep() if outer_loss is None else expect_kind("outer_loss", outer_loss, OuterLoss)
        )
        self.first_order_epochs = expect_at_least("first_order_epochs", first_order_epochs, 0)
        self.batch_norm, self.query_statistics = batch_norm, query_statistics
        self.keep_statistics = expect_switch("keep_statistics", keep_statistics)
        self.seed = expect_seed("seed", seed)
        self.epoch = self.meta_steps = 0
        self._known = set(parameters_of(model))
        rates = self.step_sizes(0)
        expect_rates(rates, theta)
        if not any(name in rates for name in chosen):
            raise ValueError(
                f"expected a step size of what is adapted, such as {chosen[0]!r}, got {next(iter(rates))!r}"
            )
        self._adapts_all = set(theta) <= set(rates)
        self._seen: tuple[object] = (None,)  # the loss that was watched; in a tuple, or torch would register a module
        self._runs_together = True  # until a loss turns out not to
        self._look()

    def _look(self) -> None:
        """Look at the model as it is now: layers may have been added, removed or hooked."""
        made = structure(self.model)
        if made != getattr(self, "_made", None):
            self._choose()
            self._made = made
        elif any(has_modes for _, _, has_modes, _ in made):
            for network in self._networks:
                network.look()

    def _expect_statistics_to_keep(self) -> None:
        layers = batch_norm_layers(self.model)
        if not layers:
            raise ValueError(
                f"expected a model with batch-norm layers for keep_statistics=True, got {type(self.model).__name__} without any"
            )
        if without := [
            name for name, layer in layers.items() if layer.running_mean is None or layer.running_var is None
        ]:
            raise ValueError(f"expected batch norm {without[0]!r} to have running statistics to keep, got none")
        if self.query_statistics == "running" or (self.batch_norm and self.batch_norm.has_statistics):
            raise ValueError(
                "expected keep_statistics=False where running statistics are collected (per_step_statistics=True), got True"
            )

    def _choose(self) -> None:
        """The engine, and the modes in which it calls the model."""
        dropout, engine = self._asked
        if self.keep_statistics:
            self._expect_statistics_to_keep()
        self.dropout = dropout and any(drops(module) for module in self.model.modules())
        collects = self.query_statistics == "running" and bool(batch_norm_layers(self.model))
        beyond_conv4 = self.dropout or collects or self.keep_statistics or self._autocast is not None
        engine = engine if self._runs_together or engine != "auto" else "task_by_task"
        self.engine = choose_engine(engine, self.model, beyond_conv4=beyond_conv4, dropout=self.dropout)
        self._why = ""
        if self.direction is not None and not self.engine.follows_directions:
            self._why = f" (as {self.engine_name!r} knows plain descent only)"
            self.engine = choose_engine(
                "auto" if self._runs_together else "task_by_task", self.model, beyond_conv4=True
            )
        if self.engine_name == "compiled" and (names := list(self._loss_parameters())):
            raise ValueError(f"expected a loss without parameters for engine 'compiled', got {names[0]!r}")
        called, written = self.engine.network(self.model), dict[str, Tensor]()

        def network(batch_norm: BatchNormMode, name: str, *, training: bool, dropout: bool = False) -> FunctionalModel:
            return FunctionalModel(
                called,
                batch_norm=batch_norm,
                dropout=dropout,
                autocast=self._autocast,
                name=name,
                written=written if training else None,
            )

        self._written = written
        usual: BatchNormMode = "running" if self.keep_statistics else "batch"
        self._support_train = network(usual, "support", training=True, dropout=dropout)
        self._query_train = network("collect" if collects else usual, "query", training=True)
        self._support_eval = network(usual, "support", training=False)
        self._query_eval = network("running" if collects else usual, "query", training=False)
        self._networks = (self._support_train, self._query_train, self._support_eval, self._query_eval)

    @property
    def is_transductive(self) -> bool:
        """Whether the answer for one query point depends on the other query points, through batch norm."""
        uses_batch = self.query_statistics == "batch" and not self.keep_statistics
        return uses_batch and bool(batch_norm_layers(self.model))

    @property
    def is_reptile(self) -> bool:
        """Whether the outer loop moves towards where the tasks went (``mamlkit.reptile``) and differentiates no query loss."""
        return self.order == 0

    @property
    def engine_name(self) -> str:
        """The name of the engine that was taken."""
        return self.engine.name

    @property
    def current_order(self) -> Order:
        """The order of derivative in this epoch."""
        return 1 if self.order == 2 and self.epoch < self.first_order_epochs else self.order  # MAML++: annealed

    def extra_repr(self) -> str:
        """Shown by ``print``, with the engine that was chosen."""
        why = self._why if self._runs_together else " (as the loss or the model does not run under vmap)"
        return f"inner_steps={self.inner_steps}, order={self.order}, engine={self.engine_name!r}{why}"

    def describe(self) -> dict[str, Any]:
        """What decides this learner's numbers besides its tensors. A resumed run must have the same."""
        parts: dict[str, Any] = {"order": self.order, "inner_steps": self.inner_steps}
        for name in ("step_sizes", "outer_loss", "batch_norm"):
            parts[name] = _facts(getattr(self, name))
        directions = [] if self.direction is None else list(getattr(self.direction, "parts", [self.direction]))
        parts["direction"] = [_facts(direction) for direction in directions]
        parts["loss"] = getattr(self.loss, "__qualname__", None) or _facts(self.loss)
        for name in ("first_order_epochs", "query_statistics", "keep_statistics", "dropout", "seed"):
            parts[name] = getattr(self, name)
        parts["autocast"] = str(self._autocast)
        return parts

    def inner_loop(self, *, steps: int | None = None, training: bool = False) -> InnerLoop:
        """How this learner adapts a task, with as many steps as in training or with another number."""
        self._look()
        second_order = training and self.current_order == 2
        return InnerLoop(
            support_forward=self._forward(
                self._support_train if training else self._support_eval, second_order=second_order
            ),
            query_forward=self._forward(self._query_train if training else self._query_eval, of_queries=True),
            loss=self._watched_loss(),
            step_sizes=partial(self._rates, {name: p.requires_grad for name, p in self.model.named_parameters()}),
            steps=self.inner_steps if steps is None else expect_at_least("steps", steps, 1),
            order=self.current_order if training else 0,
            dropout_seed=stream_seed(self.seed, self.meta_steps) if training and self.dropout else None,
            collects_every_step=training and self.batch_norm is not None and self.batch_norm.has_statistics,
            direction=self.direction,
        )

    def _watched_loss(self) -> Loss:
        """The loss. If it could read anything besides its arguments, its first call is watched."""
        loss = checked_loss(self.loss)
        kind = self.loss if not isinstance(self.loss, nn.Module) else type(self.loss)
        if self._seen[0] is self.loss or getattr(kind, "__module__", "") in (
            "torch.nn.functional",
            "torch.nn.modules.loss",
        ):
            return loss

        def watched(outputs: Tree, targets: Tree) -> Tensor:
            if self._seen[0] is self.loss or torch.compiler.is_compiling():
                return loss(outputs, targets)
            with WatchedLoss(self.model, self.initialisation()):
                value = loss(outputs, targets)
            self._seen = (self.loss,)
            return value

        return watched

    def _rates(self, learned: Mapping[str, bool], step: int) -> Rates:
        """The rates of this step, for parameters that are ``learned``: some may have been frozen or unfrozen meanwhile."""
        rates = self.step_sizes(step)
        rates = {name: rate for name, rate in rates.items() if learned.get(name, True) and self._moves(name)}
        unknown = [name for name, on in learned.items() if on and name not in self._known]
        late = [name for name in unknown if (self._adapts_all if self._adapted is None else self._moves(name))]
        if late and not isinstance(self.step_sizes, FixedStepSize):
            raise ValueError(
                f"expected the parameters that had a step size when the learner was made, got {late[0]!r} unfrozen since; "
                "make the learner anew"
            )
        return {**rates, **dict.fromkeys(late, getattr(self.step_sizes, "rate", 0.0))}

    def _moves(self, name: str) -> bool:
        """Whether ``adapted`` leaves this parameter to the inner loop."""
        if self._adapted is None:
            return True
        return self._adapted(name) if callable(self._adapted) else name in self._adapted

    def initialisation(self) -> dict[str, Tensor]:
        """theta, by name, without batch-norm weights that have one row per step instead."""
        return _without_rows(self.model, self.batch_norm)

    def meta_parameters(self) -> dict[str, Tensor]:
        """Everything that meta-training learns: theta, step sizes, batch-norm weights of each step, parameters of other parts."""
        parts = {"step_sizes": self.step_sizes, "direction": self.direction, "batch_norm": self.batch_norm}
        named = {f"model.{name}": value for name, value in self.initialisation().items()}
        for part, module in parts.items():
            if module is not None:
                named |= {f"{part}.{name}": p for name, p in module.named_parameters() if p.requires_grad}
        return named | self._loss_parameters()

    def _loss_parameters(self) -> dict[str, Tensor]:
        """The parameters of the loss, if it is a module that has some."""
        if not isinstance(self.loss, nn.Module):
            return {}
        own = {id(parameter) for parameter in self.model.parameters()}
        named = self.loss.named_parameters()
        return {f"loss.{name}": p for name, p in named if p.requires_grad and id(p) not in own}

    def meta_backward(self, tasks: Tasks, first_task: int = 0) -> Float[Tensor, ""]:
        """Add the meta-gradient of these tasks to ``.grad`` of every meta-parameter, as ``loss.backward()`` would.

        Args:
            tasks: the meta-batch; see ``TaskBatch`` for its shapes. Tasks of unequal sizes are a list of batches, ``TaskList``;
                each task weighs the same, whatever its size.
            first_task: the number of its first task, when a meta-batch is taken in parts.

        Returns:
            The meta-loss ``()``, the mean over tasks of the weighted query losses (Finn et al., 2017, equation 2).

        Raises:
            TypeError, ValueError: if the tensors of the batch do not fit each other.
        """
        batches = self.expect_batches(tasks)
        expect_at_least("first_task", first_task, 0)
        expect_at_least("epoch", self.epoch, 0)
        self._look()
        self._written.clear()
        with explained(*_points_of(batches)):
            loss, gradients = self._mean(batches, first_task)
        self._expect_gradients_found()
        learned = self.meta_parameters()
        for name, gradient in gradients.items():
            parameter = learned[name]
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        keep_writes(self.model, self._written)
        self.meta_steps += 1
        return loss

    def _mean(self, batches: Sequence[TaskBatch], first_task: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean over the tasks of all batches of the loss ``()``, and of what the outer loop follows, by name."""
        direction = self._displacement if self.is_reptile else self._meta_gradient
        loss, mean = self._with_fallback(partial(direction, batches[0], first_task))
        count = batches[0].num_tasks
        for batch in batches[1:]:
            other, found = self._with_fallback(partial(direction, batch, first_task + count))
            count += batch.num_tasks
            share = batch.num_tasks / count  # of the tasks so far
            loss = torch.lerp(loss, other, share)
            mean = {name: torch.lerp(value, found[name], share) for name, value in mean.items()}
        return loss, mean

    def _meta_gradient(self, tasks: TaskBatch, first_task: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The meta-loss ``()`` and its gradient by the name of the meta-parameter, as in MAML and most of its relatives."""
        if not torch.is_grad_enabled():
            raise RuntimeError("expected gradients to be switched on, got meta_backward under torch.no_grad()")
        inner, theta, learned = self.inner_loop(training=True), self.initialisation(), self.meta_parameters()
        weights = self.step_weights()
        try:
            loss, gradients = self.differentiated(
                Request(inner, theta, tasks, weights, list(learned.values()), first_task)
            )
        except (IndexError, RuntimeError):
            self._explain(tasks)
            raise
        return loss, dict(zip(learned, gradients, strict=True))

    def step_weights(self) -> Float[Tensor, " steps"]:
        """How much the query loss after each inner step counts in this epoch."""
        weights = self.outer_loss.weights(self.inner_steps, self.epoch)  # MAML: 0, ..., 0, 1; MAML++: of each step
        _expect_weights(weights, self.inner_steps)
        return weights

    def differentiated(self, request: Request) -> tuple[Tensor, list[Tensor]]:
        """The meta-loss ``()`` and its gradient for each meta-parameter, as the engine finds them: what iMAML exchanges."""
        return self.engine(request)

    def _displacement(self, tasks: TaskBatch, first_task: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The same for Reptile, whose direction is not a gradient, and which only moves theta."""
        theta = self.initialisation()
        groups = self.engine.groups(self.inner_loop(training=True), theta, tasks, first_task)
        loss, direction = displacement(groups, theta, tasks)
        return loss, {f"model.{name}": gone for name, gone in direction.items()}

    def _with_fallback(self, compute: Callable[[], Result]) -> Result:
        """What ``compute`` gives. If the loss does not run under ``vmap``, engine ``"auto"`` goes on task by task from here."""
        try:
            return compute()
        except Exception as error:
            if not isinstance(self.engine, AllAtOnce) or str(error).startswith("expected "):
                raise
            if self._asked[1] != "auto":
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                if "vmap" not in str(error):
                    raise
                raise ValueError(
                    f"expected a model and a loss that run under vmap for engine {self.engine_name!r}, got {reason:.80}...; "
                    "use 'task_by_task'"
                ) from error
            fast = self.engine
            self.engine = choose_engine("task_by_task", self.model)
            try:
                result = compute()
            except Exception:  # it was something else
                self.engine = fast
                raise
            self._runs_together = False
            return result

    def _expect_gradients_found(self) -> None:
        """Refuse a model that loses the gradient of a parameter that it reads."""
        self._support_train.expect_gradients_found()
        self._query_train.expect_gradients_found()
        self._support_eval.expect_gradients_found()

    def written_buffers(self) -> list[Tensor]:
        """The model's own buffers that the last meta-batch wrote into, except those of batch norm."""
        return [self.model.get_buffer(name) for name in sorted(self._written)]

    def adapt(
        self,
        support_x: Float[Tensor, "support *input"] | Several,
        support_y: Shaped[Tensor, "support *output"] | Several,
        steps: int | None = None,
    ) -> list[Parameters]:
        """Adapt to one new task, keeping no gradients: the parameters after 0, 1, ..., steps steps.

        Args:
            support_x: ``(support, *input)``; or a tuple or dict of tensors, see ``mamlkit.trees``.
            support_y: ``(support, *output)``, or class numbers ``(support,)``.
            steps: as many as in training, K, when not given.
        """
        expect_points("support", support_x, support_y)
        expect_on_model(
            self.model,
            ("support inputs", support_x),
            ("support targets", support_y),
            any_type=self._autocast is not None,
        )
        start = {name: value.detach().clone() for name, value in self.initialisation().items()}  # outlives training
        with explained(("support inputs", support_x), ("support targets", support_y)):
            path = self.inner_loop(steps=steps).trajectory(start, support_x, support_y)
        self._expect_gradients_found()
        return path

    def query_outputs(self, tasks: TaskBatch, steps: int | None = None) -> Tree:
        """Outputs for the query points of many tasks, before adaptation and after each step; no gradient is kept.

        Args:
            tasks: the batch.
            steps: as many as in training, K, when not given.

        Returns:
            ``(steps + 1, tasks, query, *output)``, or a tuple or dict of such tensors if the model gives one.
        """
        tasks, inner = self.expect_tasks(tasks), self.inner_loop(steps=steps)

        def answers() -> Tree:
            outputs = []
            with torch.no_grad():
                for group in self.engine.groups(inner, self.initialisation(), tasks, 0):
                    path = enumerate(group.adapt())
                    outputs.append(joined(torch.stack, [group.query_outputs(here, step) for step, here in path]))
            return joined(lambda groups: torch.cat(groups, 1), outputs)

        try:
            with explained(*_points_of([tasks])):
                found = self._with_fallback(answers)
        except (IndexError, RuntimeError):
            self._explain(tasks)
            raise
        self._expect_gradients_found()
        return found

    def task_losses(self, outputs: Tree, targets: Tree) -> Tensor:
        """The loss of each task ``(tasks,)``, of outputs and targets with an axis for tasks in front."""
        try:
            return self._with_fallback(lambda: self.engine.task_losses(self.loss)(outputs, targets))
        except (IndexError, RuntimeError):
            if isinstance(outputs, Tensor) and isinstance(targets, Tensor):
                explain_labels(self.loss, outputs[0], targets)
            raise

    def expect_batches(self, tasks: Tasks) -> list[TaskBatch]:
        """The batches of these tasks (several, where sizes differ), checked against the model."""
        tasks = listed(tasks)
        return [self.expect_tasks(batch) for batch in (tasks if isinstance(tasks, TaskList) else [tasks])]

    def expect_tasks(self, tasks: TaskBatch) -> TaskBatch:
        """These tasks, checked against each other and the model."""
        expect_same_tasks(tasks)
        tasks = TaskBatch(*tasks)
        named = (
            (name.replace("_x", " inputs").replace("_y", " targets"), part) for name, part in tasks._asdict().items()
        )
        expect_on_model(self.model, *named, any_type=self._autocast is not None)
        rates = ((f"step size {name!r}", rate) for name, rate in self.step_sizes.named_parameters())
        expect_on_model(self.model, *rates, any_type=True)  # torch takes a single number from any device
        return tasks

    def _explain(self, tasks: TaskBatch) -> None:
        """After a failure, say in one line what torch says in many. (On a GPU, labels out of range end the process.)"""
        if self._takes_classes():
            self._expect_classes(self.predict(next(each(tasks.query_x))), tasks.support_y, tasks.query_y)

    def _takes_classes(self) -> bool:
        return self.loss is F.cross_entropy or isinstance(self.loss, nn.CrossEntropyLoss)

    def _expect_classes(self, outputs: Tree, *targets: Tree) -> None:
        """Refuse class numbers that do not fit outputs ``(points, classes, ...)``, where the loss takes classes."""
        if not all(isinstance(value, Tensor) for value in (outputs, *targets)):
            return
        if self._takes_classes() and outputs.ndim > 1:
            for labels in targets:
                explain_labels(self.loss, outputs, labels)

    def predict(
        self, x: Float[Tensor, "points *input"] | Several, parameters: Parameters | None = None, step: int | None = None
    ) -> Tree:
        """Outputs ``(points, *output)`` for query inputs ``(points, *input)`` with adapted parameters.

        Args:
            x: the inputs.
            parameters: as ``adapt`` gave them; the initialisation when not given.
            step: how many inner steps made them, for batch norm; K when not given.
        """
        if parameters is not None:
            expect_parameters(self.model, parameters)
        expect_tensors("inputs", x)
        expect_on_model(self.model, ("inputs", x), any_type=self._autocast is not None)
        start = self.initialisation() if parameters is None else parameters
        step = self.inner_steps if step is None else expect_at_least("step", step, 0)
        self._look()
        with explained(("inputs", x)):
            return self._forward(self._query_eval, of_queries=True)(start, x, max(step - 1, 0))

    def _forward(self, network: FunctionalModel, *, of_queries: bool = False, second_order: bool = False) -> Forward:
        def forward(parameters: Parameters, x: Tree, step: int) -> Tree:
            if self.batch_norm is None:
                return network(parameters, x, second_order=second_order)
            rows = self.batch_norm.weights(step)  # MAML++: the batch norm of this step
            if of_queries:
                rows = rows | self.batch_norm.statistics(step)
            return network({**parameters, **rows}, x, second_order=second_order)

        return forward


def _points_of(batches: Sequence[TaskBatch]) -> list[tuple[str, Tree]]:
    return [(f"tasks with {name}", part) for name, part in batches[-1]._asdict().items()]


def _expect_weights(weights: Tensor, steps: int) -> None:
    expect_kind("weights of the query losses", weights, Tensor)
    if weights.shape != (steps,) or not (weights.isfinite().all() and weights.any()):
        raise ValueError(
            f"expected {steps} finite weights of query losses that are not all 0, one per step, got {weights.tolist()}"
        )


def _without_rows(model: nn.Module, batch_norm: PerStepBatchNorm | None) -> dict[str, Tensor]:
    replaced = batch_norm.weight_names if batch_norm else set()
    return {name: value for name, value in parameters_of(model).items() if name not in replaced}


def _made(step_sizes: object, adapted: dict[str, Tensor]) -> StepSizes:
    """The step sizes given, or those that a function given makes for these parameters."""
    if not isinstance(step_sizes, (StepSizes, type)) and callable(step_sizes):
        step_sizes = step_sizes(adapted)
    if not isinstance(step_sizes, StepSizes):
        raise TypeError(f"expected step_sizes to be a StepSizes, got {describe(step_sizes)}")
    return step_sizes


def _facts(part: object) -> str:
    """The kind of a part and its plain settings."""
    plain = (bool, int, float, str, tuple, list, dict, type(None))
    own = getattr(part, "__dict__", {}).items()
    kept = {name: value for name, value in own if isinstance(value, plain) and name not in _OF_EVERY_MODULE}
    return f"{type(part).__name__}({', '.join(f'{name.lstrip(chr(95))}={value!r}' for name, value in sorted(kept.items()))})"


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
