"""A run as data: which tasks, which network, which learner, which training. The command line fills it in, a run records it.

Some defaults are not those of the Python functions that an option goes to:

    option       command line  Python
    protocol     'characters'  'alphabets' in omniglot
    shots        1             10 in Sinusoids
    queries      1             15 in glyphs, image_folder, omniglot; 10 in Sinusoids
    downsample   'stride'      'pool' in conv4
    inner_steps  5             16 in imaml; 1 in meta_sgd
    inner_lr     0.1           0.01 in anil, fomaml, imaml, maml, meta_sgd, reptile

An option has one default, whatever ``--data`` and ``--learner`` are; a function has one of its own. The command line trains
MAML++ on images when nothing else is said, so its inner loop, its one query image and its split of Omniglot are those of the
MAML++ authors' code. With ``"alphabets"`` no alphabet is in two splits. ``"stride"`` is the network that MAML has for Omniglot,
``"pool"`` that of MAML++. (The facade, ``ModelAgnosticMetaLearning``, starts every algorithm from an inner rate of 0.01, MAML++
too.) Commands and notebooks rest on both columns, so neither is changed.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mamlkit.algorithms import ALGORITHMS
from mamlkit.arguments import expect_device, expect_one_of, expect_rate
from mamlkit.data.episodes import ImageTasks
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.data.sources import SOURCES, options_of, sources_with
from mamlkit.functional import parameters_of
from mamlkit.learners import Learner
from mamlkit.models import conv4, mlp
from mamlkit.optimisers import expect_optimiser, expect_schedule
from mamlkit.training import TrainingOptions

__all__ = ["Configuration", "LearnerOptions", "NetworkOptions", "OptimiserOptions", "TaskOptions"]

if TYPE_CHECKING:
    AlgorithmName = str
    SourceName = str
else:  # the command line offers these
    AlgorithmName, SourceName = Literal[tuple(ALGORITHMS)], Literal[tuple(SOURCES)]


@dataclass(frozen=True)
class TaskOptions:
    """Which tasks.

    Attributes:
        data: where tasks come from, a name in ``mamlkit.data.sources.SOURCES``.
        root: folder of the data: the Omniglot archives, or ``root/class/*.png`` and so on for ``folder``.
        protocol: how Omniglot is split: by alphabet, or 1150/50/423 characters as in the papers.
        ways: classes per task.
        shots: support points per class (sinusoids: support points).
        queries: query points per class in training (sinusoids: query points).
        test_queries: query points per class in validation and evaluation.
        rotations: in training, count each quarter turn of an image class as a class of its own.
        image_size: pixels that images of ``folder`` are resized to.
        colour: keep the colours of images of ``folder``.
        fractions: of the classes of ``folder`` that go to training, validation and test.
    """

    data: SourceName = "glyphs"
    root: Path | None = None
    protocol: Literal["alphabets", "characters"] = "characters"
    ways: int = 5
    shots: int = 1
    queries: int = 1
    test_queries: int = 1
    rotations: bool = False
    image_size: int = 28
    colour: bool = False
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class NetworkOptions:
    """The four-layer convolutional network. (Sinusoids have the 1-40-40-1 network of the paper instead.)

    Attributes:
        filters: of each convolution.
        downsample: by a stride of 2 (MAML on Omniglot) or by max-pooling (MAML++).
        activation: after each batch norm.
        dropout: the share dropped after each block in the inner loop of meta-training.
    """

    filters: int = 64
    downsample: Literal["stride", "pool"] = "stride"
    activation: Literal["relu", "leaky_relu"] = "relu"
    dropout: float = 0.0


@dataclass(frozen=True)
class LearnerOptions:
    """The meta-learner. From ``multi_step_loss`` to ``first_order_epochs``, options are for algorithms that have them: MAML++.

    Attributes:
        learner: the algorithm, a name in ``mamlkit.algorithms.ALGORITHMS``.
        inner_steps: K.
        inner_lr: alpha, or what learned step sizes start from.
        multi_step_loss: query losses of all steps, annealed towards the last or equally weighted, or only the last.
        annealing_epochs: until only the last step counts.
        step_sizes: one fixed rate, or learned for each tensor, tensor and step, or single parameter.
        per_step_weights: batch-norm scale and shift for each inner step.
        per_step_statistics: running statistics for each inner step, used for query points at evaluation.
        first_order_epochs: epochs of first order before second order begins.
        bfloat16: run the network in bfloat16 where torch deems it safe.
        engine: how the meta-gradient is computed.
    """

    learner: AlgorithmName = "maml++"
    inner_steps: int = 5
    inner_lr: float = 0.1
    multi_step_loss: Literal["annealed", "uniform", "final"] = "annealed"
    annealing_epochs: int = 10
    step_sizes: Literal["fixed", "tensor", "tensor_and_step", "parameter"] = "tensor_and_step"
    per_step_weights: bool = True
    per_step_statistics: bool = False
    first_order_epochs: int = 0
    bfloat16: bool = False
    engine: str = "auto"


@dataclass(frozen=True)
class OptimiserOptions:
    """What takes the outer steps, see ``fit``; ``--outer-lr`` is its rate.

    Attributes:
        optimiser: a name in ``torch.optim``.
        optimiser_settings: its settings besides the rate, ``NAME=VALUE``: ``momentum=0.9 nesterov=True``.
        step_size_lr: a separate rate for learned step sizes.
        step_size_decay: a separate weight decay for learned step sizes.
        schedule: a name in ``torch.optim.lr_scheduler``, instead of ``--cosine``.
        schedule_settings: its settings, ``NAME=VALUE``: ``gamma=0.99``.
    """

    optimiser: str = "Adam"
    optimiser_settings: tuple[str, ...] = ()
    step_size_lr: float | None = None
    step_size_decay: float | None = None
    schedule: str | None = None
    schedule_settings: tuple[str, ...] = ()


_SWITCHES = (
    "multi_step_loss", "annealing_epochs", "step_sizes", "per_step_weights", "per_step_statistics", "first_order_epochs"
)  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """Everything that decides a run, besides the versions of the software.

    Attributes:
        tasks: which tasks.
        network: which network.
        learner: which meta-learner.
        training: how long and how to train.
        device: ``"cpu"``, ``"cuda"``, ...
        optimiser: what takes the outer steps.
    """

    tasks: TaskOptions = field(default_factory=TaskOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    learner: LearnerOptions = field(default_factory=LearnerOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    device: str = "cpu"
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)

    def expect_used(self) -> None:
        """Refuse options that would do nothing.

        Raises:
            ValueError: naming the option, and what it belongs to.
        """
        taken = options_of(self.tasks.data) | {"data", "test_queries"}
        idle: list[tuple[bool, object, tuple[str, ...], str]] = [
            *(
                (True, self.tasks, (n,), f"--data {' or '.join(sources_with(n))}")
                for n in vars(self.tasks)
                if n not in taken
            ),
            ("ways" not in taken, self.network, ("filters", "downsample", "activation", "dropout"), "images"),
            (True, self.learner, self._idle_switches(), "algorithms that have it, as --learner maml++"),
            (self.learner.multi_step_loss != "annealed", self.learner, ("annealing_epochs",), "annealing"),
            (not self.training.cosine, self.training, ("final_outer_lr",), "--cosine"),
            (self.optimiser.schedule is not None, self.training, ("final_outer_lr",), "--cosine"),
            (self.optimiser.schedule is None, self.optimiser, ("schedule_settings",), "--schedule"),
        ]
        for unused, part, names, place in idle:
            for name in names if unused else ():
                if (value := getattr(part, name)) != getattr(type(part)(), name):
                    option = name.replace("_", "-")
                    raise ValueError(f"expected --{option} only with {place}, where it does something, got {value}")

    def _idle_switches(self) -> tuple[str, ...]:
        names = inspect.signature(ALGORITHMS[self.learner.learner]).parameters
        return tuple(name for name in _SWITCHES if name not in names)

    def build_tasks(self, split: str) -> ImageTasks | Sinusoids:
        """The tasks of ``"train"``, ``"validation"`` or ``"test"``.

        Raises:
            ValueError, FileNotFoundError: if the data is not there or has too few classes or images.
        """
        o, taken = self.tasks, options_of(self.tasks.data)
        options = {**vars(o), "queries": o.queries if split == "train" else o.test_queries}
        return SOURCES[o.data](split, **{name: value for name, value in options.items() if name in taken})

    def build_learner(self, image_shape: tuple[int, int, int] | None) -> Learner:
        """A fresh learner; the network's weights follow from the training seed.

        Args:
            image_shape: channels, height and width of an input; ``None`` for sinusoids.

        Raises:
            TypeError, ValueError: naming what was expected and what came.
        """
        model = self._model(image_shape).to(expect_device(self.device))
        o = self.learner
        loss = F.cross_entropy if image_shape is not None else F.mse_loss
        shared: dict[str, Any] = {
            "inner_steps": o.inner_steps,
            "inner_lr": o.inner_lr,
            "loss": loss,
            "engine": o.engine,
            "autocast": torch.bfloat16 if o.bfloat16 else None,
            "seed": self.training.seed,
        }
        switches = {
            "multi_step_loss": None if o.multi_step_loss == "final" else o.multi_step_loss,
            "annealing_epochs": o.annealing_epochs,
            "step_sizes": o.step_sizes,
            "per_step_weights": o.per_step_weights,
            "per_step_statistics": o.per_step_statistics,
            "first_order_epochs": o.first_order_epochs,
        }
        make = ALGORITHMS[o.learner]
        names = inspect.signature(make).parameters  # an algorithm gets the switches that its signature names
        return make(model, **shared, **{name: value for name, value in switches.items() if name in names})

    def build_optimiser(self, learner: Learner) -> tuple[Optimizer | None, LRScheduler | None]:
        """The optimiser and the schedule of a learner, for ``fit``; ``None`` stands for the one that ``fit`` takes by default.

        Raises:
            ValueError, TypeError: for names and settings that torch does not know, and as in ``fit``.
        """
        o, rate = self.optimiser, self.training.outer_lr
        if o == OptimiserOptions():
            return None, None
        named = learner.meta_parameters()
        apart = {name: value for name, value in named.items() if name.startswith("step_sizes.")}
        own: dict[str, float] = {}
        if o.step_size_lr is not None:
            own["lr"] = expect_rate("step_size_lr", o.step_size_lr)
        if o.step_size_decay is not None:
            own["weight_decay"] = expect_rate("step_size_decay", o.step_size_decay, zero=True)
        if own and not apart:
            raise ValueError("expected a rate or a decay for step sizes only where these are learned, got fixed ones")
        groups: list[dict[str, Any]] = [{"params": [value for name, value in named.items() if name not in apart]}]
        if apart:
            groups.append({"params": list(apart.values()), **own})
        settings = {"lr": rate, **_settings("optimiser", o.optimiser_settings)}
        optimiser = expect_optimiser(_made(torch.optim, Optimizer, "optimiser", o.optimiser, groups, settings), learner)
        if foreign := own.keys() - optimiser.defaults.keys():
            raise ValueError(f"expected an optimiser with {foreign.pop()} for step sizes, got {o.optimiser}")
        if o.schedule is None:
            return optimiser, None
        settings = _settings("schedule", o.schedule_settings)
        schedule = _made(torch.optim.lr_scheduler, LRScheduler, "schedule", o.schedule, optimiser, settings, _tried)
        return optimiser, expect_schedule(schedule, optimiser, self.training.outer_steps, validates=True)

    def _model(self, image_shape: tuple[int, int, int] | None) -> nn.Module:
        if image_shape is None:
            return mlp(seed=self.training.seed)
        channels, height, width = image_shape
        if height != width:
            raise ValueError(f"expected square images, got {height} x {width}")
        n = self.network
        return conv4(
            self.tasks.ways,
            channels=channels,
            image_size=height,
            filters=n.filters,
            downsample=n.downsample,
            activation=n.activation,
            dropout=n.dropout,
            seed=self.training.seed,
        )

    def to_json(self) -> dict[str, Any]:
        """As nested dicts of plain values."""
        values = dataclasses.asdict(self)
        values["tasks"]["root"] = None if self.tasks.root is None else str(self.tasks.root)
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Configuration:
        """Undo ``to_json``.

        Raises:
            ValueError: for a record that lacks a part or holds an unknown one.
        """
        try:
            root = values["tasks"]["root"]
            configuration = Configuration(
                tasks=_task_options({**values["tasks"], "root": None if root is None else Path(root)}),
                network=NetworkOptions(**values["network"]),
                learner=LearnerOptions(**values["learner"]),
                training=TrainingOptions(**values["training"]),
                device=values["device"],
                optimiser=_optimiser_options(values.get("optimiser", {})),  # runs of earlier versions have none
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected a recorded configuration, got one that does not fit: {error}") from None
        for part in (
            configuration.tasks,
            configuration.network,
            configuration.learner,
            configuration.optimiser,
            configuration,
        ):
            _expect_types(part)
        return configuration


def _task_options(values: Mapping[str, Any]) -> TaskOptions:
    lists = {"fractions": tuple(values["fractions"])} if "fractions" in values else {}  # runs of old have none
    return TaskOptions(**{**values, **lists})


def _optimiser_options(values: Mapping[str, Any]) -> OptimiserOptions:
    lists = {name: tuple(values[name]) for name in ("optimiser_settings", "schedule_settings") if name in values}
    return OptimiserOptions(**{**values, **lists})


def _settings(part: str, words: Sequence[str]) -> dict[str, Any]:
    """``("momentum=0.9", "nesterov=True")`` as a dict."""
    found: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found[name] = value
        if not name.isidentifier() or value == "":
            raise ValueError(f"expected --{part}-settings as NAME=VALUE, got {word!r}")
    return found


def _tried(kind: type[Any], optimiser: Optimizer, settings: Mapping[str, Any]) -> None:
    """Some settings only fail in the first steps, so a copy takes these."""
    trial = copy.deepcopy(optimiser)
    schedule = kind(trial, **settings)
    for _ in range(2):
        trial.step()
        schedule.step(*([1.0] if isinstance(schedule, ReduceLROnPlateau) else []))
        if odd := [group["lr"] for group in trial.param_groups if not 0 <= group["lr"] < math.inf]:
            raise ValueError(f"a rate of {odd[0]}")


def _made(
    module: Any,
    base: type[Any],
    part: str,
    name: str,
    first: Any,
    settings: Mapping[str, Any],
    tried: Callable[[type[Any], Any, Mapping[str, Any]], None] = lambda *_: None,
) -> Any:
    """An optimiser or a schedule of torch by its name."""
    kinds = {n: k for n, k in vars(module).items() if isinstance(k, type) and issubclass(k, base) and k is not base}
    kind = kinds[expect_one_of(part, name, sorted(n for n in kinds if not n.startswith("_")))]
    try:
        tried(kind, first, settings)
        return kind(first, **settings)
    except Exception as error:  # each checks its settings in its own way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"expected settings that {name} of torch takes, got: {reason}") from None


def _expect_types(part: object) -> None:
    """Check words, switches and numbers: a JSON file may hold anything."""
    for name, kind in get_type_hints(type(part)).items():
        value, words = getattr(part, name), get_args(kind) if get_origin(kind) is Literal else ()
        if type(None) in get_args(kind):  # or nothing
            if value is None:
                continue
            kind = get_args(kind)[0]
        if words:
            expect_one_of(name, value, words)
        elif kind is bool and not isinstance(value, bool):
            raise ValueError(f"expected {name} to be true or false, got {value!r}")
        elif kind == tuple[str, ...] and not all(isinstance(word, str) for word in value):
            raise ValueError(f"expected {name} to be strings, got {list(value)}")
        elif get_args(kind)[:1] == (float,):
            if any(isinstance(part, bool) or not isinstance(part, (int, float)) for part in value):
                raise ValueError(f"expected {name} to be numbers, got {list(value)}")
        elif kind is str and not isinstance(value, str):
            raise ValueError(f"expected {name} to be a string, got {value!r}")
        elif kind is float and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ValueError(f"expected {name} to be a number, got {value!r}")
        elif kind is int and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"expected {name} to be a whole number, got {value!r}")


def parameter_count(learner: Learner) -> tuple[int, int]:
    """How many numbers theta has, and how many all meta-parameters have together."""
    return (
        sum(value.numel() for value in parameters_of(learner.model).values()),
        sum(value.numel() for value in learner.meta_parameters().values()),
    )
