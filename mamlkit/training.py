"""The outer loop: any optimiser step by step, with validation, checkpoints, an exact resume, and one process or many.

    fit(learner, glyphs("train", queries=1), options=TrainingOptions(epochs=5), validation=glyphs("validation"), folder="runs/a")

Under ``torchrun`` every process takes its share of each meta-batch, and the meta-gradients are averaged: the parameters are the
same as in one process, up to rounding. So are the running statistics of batch norm, if a learner collects them: the processes'
shares are combined as if the tasks had come one after the other.

With the same number of threads and the same versions of the software, a resumed run is, bit for bit, the uninterrupted one.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, ReduceLROnPlateau
from tqdm.auto import tqdm

from mamlkit._files import append, remove_stale, write_atomically
from mamlkit._processes import Processes
from mamlkit.arguments import expect_at_least, expect_function, expect_kind, expect_rate, expect_seed, expect_switch
from mamlkit.checkpoint import (
    checkpoints_in,
    latest_checkpoint,
    load_checkpoint,
    locked,
    optimiser_tensors,
    remove_checkpoint,
    restore_optimiser,
    save_checkpoint,
)
from mamlkit.evaluation import evaluate, expect_learner
from mamlkit.functional import unchanged_on_error
from mamlkit.inner_loop import Loss
from mamlkit.learners import Learner
from mamlkit.optimisers import (
    adam,
    as_plain,
    expect_optimiser,
    expect_schedule,
    from_plain,
    settings_of,
    stretch,
)
from mamlkit.randomness import VALIDATION_SEED
from mamlkit.tasks import TaskBatch, TaskDistribution, TaskList, TaskStream

__all__ = ["History", "TrainingDiverged", "TrainingOptions", "fit", "load_learner"]


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how to meta-train.

    Attributes:
        epochs: of ``steps_per_epoch`` outer steps each; annealed parts count in epochs.
        steps_per_epoch: outer steps between validations.
        meta_batch: tasks in each outer step, over all processes.
        outer_lr: beta, Adam's learning rate. An optimiser of your own has its own.
        cosine: anneal it to ``final_outer_lr`` along half a cosine (Loshchilov and Hutter, 2017, arXiv:1608.03983, equation 5),
            unless a schedule is given. Each parameter group starts from its own rate.
        final_outer_lr: where the cosine ends.
        clip_norm: scale longer meta-gradients down to this norm; ``None``: never.
        validation_tasks: tasks in each validation.
        patience: stop after this many epochs without a better validation; ``None``: never.
        keep_best: how many checkpoints to keep, by validation accuracy (by loss if targets are not classes).
        checkpoint_every: outer steps between checkpoints, besides the one after each epoch.
        log_every: outer steps per row of the learning curve.
        seed: the seed of the task stream.
    """

    epochs: int = 20
    steps_per_epoch: int = 500
    meta_batch: int = 8
    outer_lr: float = 1e-3
    cosine: bool = True
    final_outer_lr: float = 1e-5
    clip_norm: float | None = None
    validation_tasks: int = 200
    patience: int | None = None
    keep_best: int = 5
    checkpoint_every: int = 500
    log_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        expect_switch("cosine", self.cosine)
        for name in ("epochs", "steps_per_epoch", "meta_batch", "keep_best", "checkpoint_every", "log_every"):
            expect_at_least(name, getattr(self, name), 1)
        expect_at_least("validation_tasks", self.validation_tasks, 2)
        expect_seed("seed", self.seed)
        expect_rate("outer_lr", self.outer_lr)
        expect_rate("final_outer_lr", self.final_outer_lr, zero=True)
        if self.clip_norm is not None:
            expect_rate("clip_norm", self.clip_norm)
        if self.patience is not None:
            expect_at_least("patience", self.patience, 1)

    @property
    def outer_steps(self) -> int:
        """Outer steps of the whole run."""
        return self.epochs * self.steps_per_epoch


class TrainingDiverged(RuntimeError):
    """The meta-loss or its gradient is no longer a finite number."""


@dataclass
class History:
    """The state of a run. Each checkpoint holds all of it but the learning curve, which is in ``curves.csv``.

    Attributes:
        step: outer steps taken.
        rows: the learning curve, oldest first.
        best: kept checkpoints as (score, name), best first.
        loss_sum: the sum of the meta-losses since the last row.
        loss_count: how many of them there are.
        seconds: how long training has taken so far.
        stopped_early: whether patience ran out.
    """

    step: int = 0
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0
    stopped_early: bool = False


def fit(
    learner: Learner,
    distribution: TaskDistribution,
    *,
    options: TrainingOptions | None = None,
    optimiser: Optimizer | None = None,
    schedule: LRScheduler | None = None,
    validation: TaskDistribution | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    metric: Loss | None = None,
) -> History:
    """Meta-train a learner in place.

    Args:
        learner: what to train; its tensors decide the device.
        distribution: training tasks.
        options: see ``TrainingOptions``.
        optimiser: any of ``torch.optim`` over all of ``learner.meta_parameters()``, in parameter groups as you like; Adam when
            not given. See ``mamlkit.optimisers``.
        schedule: any of ``torch.optim.lr_scheduler`` for this optimiser, moved on after each outer step, ``ReduceLROnPlateau``
            after each validation; the cosine of the options when not given.
        validation: tasks of other classes, looked at after each epoch; without them nothing is ranked.
        folder: where ``curves.csv`` and ``checkpoints/`` go; nothing is written when not given.
        resume: go on from the last whole checkpoint in ``folder``, bit for bit as if never interrupted. Everything must be as it
            was: options, learner, optimiser and schedule as they were made for the first call, and the tasks, as far as they
            have a ``fingerprint()``. More epochs are allowed: the cosine is stretched over them, and a schedule of your own goes
            on as torch has it.
        progress: show a bar, on the error stream.
        metric: of the outputs and targets of a task, one number, larger is better: ranks the checkpoints in place of accuracy
            or loss.

    Returns:
        The history; ``history.rows`` is the learning curve.

    Raises:
        TrainingDiverged: naming the outer step, the seed and the last good checkpoint, which is kept.
        ValueError: if ``folder`` already holds a run and ``resume`` is off, or holds none or a different one and it is on; if the
            optimiser or the schedule does not fit.
        TypeError: if ``optimiser`` or ``schedule`` is not one of torch's, or holds something that a checkpoint cannot.
    """
    expect_learner(learner)
    options = TrainingOptions() if options is None else expect_kind("options", options, TrainingOptions)
    _expect_used(options, validation, metric)
    for name, switch in (("resume", resume), ("progress", progress)):
        expect_switch(name, switch)
    processes = Processes()
    if optimiser is not None:
        _expect_own_rate(options, expect_optimiser(optimiser, learner))
    if schedule is not None:
        expect_schedule(schedule, optimiser, options.outer_steps, validates=validation is not None)
    stream = TaskStream(
        distribution, options.meta_batch, seed=options.seed, rank=processes.rank, world_size=processes.count
    )
    held_out = (
        TaskStream(validation, options.validation_tasks, seed=VALIDATION_SEED).batch(0)
        if validation is not None
        else None
    )
    place = _checkpoint_folder(folder, resume)
    run = _Run(learner, options, place, processes.rank == 0, metric, optimiser, schedule)
    if place is not None:
        prints = {"training": _fingerprint(distribution), "validation": _fingerprint(validation)}
        run.facts["data"] = {split: text for split, text in prints.items() if text is not None}
    guard = locked(place.parent) if place is not None and run.writes else contextlib.nullcontext()
    with guard:
        return _train(run, stream, held_out, processes, resume=resume, progress=progress)


def _train(
    run: _Run,
    stream: TaskStream,
    held_out: TaskBatch | TaskList | None,
    processes: Processes,
    *,
    resume: bool,
    progress: bool,
) -> History:
    options = run.options
    if resume:
        run.restore()
    stream.position = run.history.step
    bar = tqdm(
        total=options.outer_steps, initial=run.history.step, disable=not (progress and processes.rank == 0), unit="step"
    )
    with bar:
        for tasks in stream:
            if run.history.step >= options.outer_steps or run.history.stopped_early:
                break
            started = time.perf_counter()
            loss = run.outer_step(tasks.to(run.device, non_blocking=True), processes)
            run.history.seconds += time.perf_counter() - started
            run.after_step(loss, held_out)
            bar.update()
            bar.set_postfix(meta_loss=f"{loss:.3f}", refresh=False)
    return run.history


def default_schedule(optimiser: Optimizer, options: TrainingOptions, *, own: bool) -> LRScheduler:
    """The schedule of a run that was given none.

    Args:
        optimiser: what it is for.
        options: of the run; ``cosine`` decides.
        own: whether the optimiser was given, with rates of its own.
    """
    if options.cosine:
        return CosineAnnealingLR(optimiser, options.outer_steps, options.final_outer_lr)
    if own:
        return ConstantLR(optimiser, 1.0)
    # A constant rate as well. It stays a cosine from outer_lr to outer_lr, whose state is what checkpoints hold.
    return CosineAnnealingLR(optimiser, options.outer_steps, options.outer_lr)


def load_learner(learner: Learner, checkpoint: str | Path) -> dict[str, Any]:
    """Put the tensors of a checkpoint into a learner of the same make, and return the checkpoint's record.

    Raises:
        ValueError: if the checkpoint is missing, damaged, or of another make.
    """
    tensors, record = load_checkpoint(Path(expect_kind("checkpoint", checkpoint, (str, Path))))
    own = _of_learner(expect_learner(learner), tensors)
    with of_a_run(Path(checkpoint)):
        epoch, steps = (expect_at_least(name, record[name], 0) for name in ("epoch", "meta_steps"))
    learner.load_state_dict(own)
    learner.epoch, learner.meta_steps = epoch, steps
    return record


def best_of(record: Mapping[str, Any]) -> list[tuple[float, str]]:
    """The best checkpoints that a record names, best first, with their scores: names of files beside it."""
    best = [(float(score), str(name)) for score, name in record["history"]["best"]]
    if odd := [name for _, name in best if Path(name).name != name]:
        raise ValueError(f"expected a checkpoint beside the record, got {odd[0]!r}")
    return best


@contextlib.contextmanager
def of_a_run(path: Path) -> Iterator[None]:
    """Inside, a record is read that may be whole and yet not what ``fit`` wrote; errors then say so."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        if str(error).startswith(("expected the run's own", "expected a run", "expected a checkpoint")):
            raise
        raise ValueError(
            f"expected {path} to hold what fit wrote, got a record with something else: {error}"
        ) from error


def _of_learner(learner: Learner, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint that belong to the learner, checked against it."""
    own = {key.removeprefix("learner."): value for key, value in tensors.items() if key.startswith("learner.")}
    expected = {key: tuple(value.shape) for key, value in learner.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in own.items()}
    if odd := sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)):
        key = odd[0]
        raise ValueError(
            f"expected a checkpoint of this learner, with {key} of shape {expected.get(key)}, got {found.get(key)}"
        )
    return own


class _Run:
    """The moving parts of one run."""

    def __init__(
        self,
        learner: Learner,
        options: TrainingOptions,
        folder: Path | None,
        writes: bool,
        metric: Loss | None,
        optimiser: Optimizer | None,
        schedule: LRScheduler | None,
    ) -> None:
        self.learner, self.options, self.folder, self.writes, self.metric = learner, options, folder, writes, metric
        self.parameters = list(learner.meta_parameters().values())
        self.device = self.parameters[0].device
        # What must be the same in a resumed run, besides the options.
        self.facts = {
            "learner": learner.describe(),
            "optimiser_settings": settings_of(optimiser),
            "schedule_settings": settings_of(schedule),
        }
        self.stretches = schedule is None
        self.optimiser = adam(learner, options.outer_lr) if optimiser is None else optimiser
        self.schedule = schedule or default_schedule(self.optimiser, options, own=optimiser is not None)
        self.history = History()

    def outer_step(self, tasks: TaskBatch | TaskList, processes: Processes) -> float:
        """One meta-gradient and one step of the optimiser; the meta-loss before it."""
        self.learner.epoch = self.history.step // self.options.steps_per_epoch
        self.optimiser.zero_grad(set_to_none=True)
        with unchanged_on_error(self.learner):  # the statistics of a batch that is refused do not stay
            with processes.one_after_the_other(self.learner):
                loss = self.learner.meta_backward(tasks, first_task=processes.rank * tasks.num_tasks)
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            processes.average([*gradients, loss])
            processes.follow_the_last(self.learner.written_buffers())
            norm = torch.nn.utils.get_total_norm(gradients)
            if not (math.isfinite(value := loss.item()) and math.isfinite(norm.item())):
                raise TrainingDiverged(self._last_words(value, norm.item()))
        if self.options.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.options.clip_norm, norm)
        self.optimiser.step()
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        return value

    def after_step(self, loss: float, held_out: TaskBatch | TaskList | None) -> None:
        """Count, log, validate, save."""
        history, options = self.history, self.options
        history.step += 1
        history.loss_sum += loss
        history.loss_count += 1
        epoch_ends = history.step % options.steps_per_epoch == 0
        if epoch_ends or history.step % options.log_every == 0:
            row: dict[str, Any] = {
                "step": history.step,
                "epoch": (history.step - 1) // options.steps_per_epoch,
                "meta_loss": history.loss_sum / history.loss_count,
                "outer_lr": self.optimiser.param_groups[0]["lr"],
                "seconds": round(history.seconds, 3),
                "validation_loss": None,
                "validation_accuracy": None,
            }
            history.loss_sum, history.loss_count = 0.0, 0
            if self.metric is not None:
                row["validation_score"] = None
            if epoch_ends and held_out is not None:
                self._validate(held_out, row)
            history.rows.append(row)
            self._write_row()
        if epoch_ends or history.step % options.checkpoint_every == 0:
            self._save()

    def restore(self) -> None:
        """Go on from the newest whole checkpoint."""
        assert self.folder is not None
        newest = latest_checkpoint(self.folder)
        if self.writes:  # what a kill in the middle of a write has left
            remove_stale(self.folder)
            remove_stale(self.folder.parent)
        if newest is None:
            if checkpoints_in(self.folder):  # written last, so no kill explains it
                raise ValueError(f"expected a whole checkpoint in {self.folder}, got damaged ones only")
            return  # killed before the first checkpoint: start again
        tensors, record = load_checkpoint(newest)
        with of_a_run(newest):
            self._take(newest, tensors, record)

    def _take(self, newest: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Put a checkpoint into the moving parts, after checking that it is one of this run."""
        more = self._expect_same_options(record["options"])
        if more and record["history"]["stopped_early"]:
            raise ValueError(f"expected a run that can go on, got one that patience has stopped at {newest.name}")
        _of_learner(self.learner, tensors)
        for part, kept in self.facts.items():
            default = settings_of(None) if part.endswith("_settings") else {}  # of earlier versions
            _expect_same(part.removesuffix("_settings"), record.get(part, default), kept)
        load_learner(self.learner, newest)
        moments = {k.removeprefix("optimiser."): v for k, v in tensors.items() if k.startswith("optimiser.")}
        if len(moments) != record.get("optimiser_tensors", len(moments)):
            raise ValueError(f"{len(moments)} tensors of the optimiser")
        restore_optimiser(self.optimiser, moments, record["optimiser"])
        self.schedule.load_state_dict(from_plain(record["schedule"]))
        if more and self.stretches:
            stretch(self.schedule, self.options.outer_steps)
        best = best_of(record)
        rows = record["history"]["rows"]  # how many are in curves.csv; in earlier versions the rows themselves
        if not isinstance(rows, (int, list)):
            raise TypeError(f"rows={rows!r}")
        self.history = History(**{**record["history"], "best": best, "rows": rows if isinstance(rows, list) else []})
        if not isinstance(rows, list):
            self.history.rows = self._read_curves(rows)
        self._write_curves()
        threads = expect_at_least("threads", record.get("threads", torch.get_num_threads()), 1)
        if threads != torch.get_num_threads():
            warnings.warn(
                f"expected {threads} threads, as the run had, for the same bits as without an interruption, got "
                f"{torch.get_num_threads()}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _expect_same_options(self, recorded: Mapping[str, Any]) -> bool:
        """Refuse options that are not the run's own; say whether there are more epochs now."""
        for name, value in dataclasses.asdict(self.options).items():
            if value != recorded.get(name) and not (name == "epochs" and value > recorded[name]):
                raise ValueError(f"expected the run's own {name}={recorded.get(name)}, got {value}")
        return self.options.epochs > recorded["epochs"]

    def _validate(self, held_out: TaskBatch | TaskList, row: dict[str, Any]) -> None:
        given: dict[str, Any] = {} if self.metric is None else {"metric": self.metric}
        result = evaluate(self.learner, held_out.to(self.device), **given)
        row["validation_loss"] = score = result.loss().mean
        score = -score
        if result.accuracies is not None and not result.accuracies[-1].isnan().all():
            row["validation_accuracy"] = score = result.accuracy().mean
        if self.metric is not None:
            row["validation_score"] = score = result.score().mean
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(row["validation_loss"] if self.schedule.mode == "min" else score)
        if not math.isfinite(score) or not math.isfinite(row["validation_loss"]):
            warnings.warn(
                f"expected a finite validation loss and score at outer step {self.history.step}, got "
                f"{row['validation_loss']} and {score}: ranked last",
                RuntimeWarning,
                stacklevel=2,
            )
            score = -math.inf
        history = self.history
        history.best.append((score, self._name()))
        history.best.sort(key=lambda entry: -entry[0])  # stable: of equals the earlier stays ahead
        history.best = history.best[: self.options.keep_best]
        epochs = [int(name.removeprefix("step-")) // self.options.steps_per_epoch for _, name in history.best]
        if self.options.patience is not None:
            history.stopped_early = row["epoch"] + 1 - epochs[0] >= self.options.patience

    def _save(self) -> None:
        if self.folder is None or not self.writes:
            return
        moments, rest = optimiser_tensors(self.optimiser)
        tensors = {f"learner.{key}": value for key, value in self.learner.state_dict().items()}
        tensors |= {f"optimiser.{key}": value for key, value in moments.items()}
        record = {
            "epoch": self.learner.epoch,
            "meta_steps": self.learner.meta_steps,
            "options": dataclasses.asdict(self.options),
            **self.facts,
            "threads": torch.get_num_threads(),
            "optimiser": rest,
            "optimiser_tensors": len(moments),
            "schedule": as_plain(self.schedule.state_dict()),
            "history": {**vars(self.history), "rows": len(self.history.rows)},
        }
        save_checkpoint(self.folder / self._name(), tensors, record)
        keep = {self._name(), *(name for _, name in self.history.best)}
        for path in checkpoints_in(self.folder):
            if path.name not in keep:
                remove_checkpoint(path)

    def _write_row(self) -> None:
        """Append the last row to the file, so that this takes no longer in a long run."""
        if self.folder is not None and self.writes:
            if len(self.history.rows) == 1:
                return self._write_curves()
            append(self.folder.parent / "curves.csv", _as_csv(self.history.rows[-1:], header=False))

    def _write_curves(self) -> None:
        if self.folder is not None and self.writes and self.history.rows:
            write_atomically(self.folder.parent / "curves.csv", _as_csv(self.history.rows))

    def _read_curves(self, count: int) -> list[dict[str, Any]]:
        """The rows of the learning curve up to the step of the checkpoint, which knows how many these are."""
        assert self.folder is not None
        path = self.folder.parent / "curves.csv"
        rows = [row for row in _rows_of(path) if row["step"] <= self.history.step]
        if len(rows) != count:
            warnings.warn(
                f"expected the {count} rows of the learning curve up to outer step {self.history.step} in {path}, got "
                f"{len(rows)}: go on with these",
                RuntimeWarning,
                stacklevel=2,
            )
        return rows

    def _name(self) -> str:
        return f"step-{self.history.step:08d}"

    def _last_words(self, loss: float, norm: float) -> str:
        newest = latest_checkpoint(self.folder) if self.folder is not None else None
        return (
            f"expected a finite meta-loss and meta-gradient, got {loss} and a gradient of norm {norm} at outer step "
            f"{self.history.step + 1} (seed {self.options.seed}); last good checkpoint: {newest or 'none'}"
        )


def _checkpoint_folder(folder: str | Path | None, resume: bool) -> Path | None:
    if folder is None:
        if resume:
            raise ValueError("expected a folder to resume from, got none")
        return None
    expect_kind("folder", folder, (str, Path))
    if folder == "":
        raise ValueError("expected the name of a folder, got an empty string")
    try:
        folder = Path(folder).expanduser()
    except RuntimeError:
        raise ValueError(f"expected a folder of a user that exists, got {folder}") from None
    checkpoints = folder / "checkpoints"
    for place in (folder, checkpoints):
        if place.exists() and not place.is_dir():
            raise ValueError(f"expected a folder, got the file {place}")
    if checkpoints.exists() and any(checkpoints.iterdir()) and not resume:
        raise ValueError(f"expected a folder without a run in it, got {folder}; resume it or choose another")
    if resume and not checkpoints.is_dir():
        raise ValueError(f"expected a folder with a run to resume, got {folder} without checkpoints")
    checkpoints.mkdir(parents=True, exist_ok=True)
    return checkpoints


def _expect_used(options: TrainingOptions, validation: TaskDistribution | None, metric: Loss | None) -> None:
    """Refuse options that look at validations where there are none."""
    if metric is not None:
        expect_function("metric", metric, "outputs and targets")
    for name, value in (("metric", metric), ("patience", options.patience)):
        if value is not None and validation is None:
            raise ValueError(f"expected validation tasks for {name}, which looks at them, got none")


def _expect_own_rate(options: TrainingOptions, optimiser: Optimizer) -> None:
    """Refuse an ``outer_lr`` that would do nothing, as the optimiser given does not have it."""
    rates = [group.get("initial_lr", group["lr"]) for group in optimiser.param_groups]
    if options.outer_lr not in (TrainingOptions.outer_lr, *rates):
        raise ValueError(f"expected outer_lr only without an optimiser, which has its own rate, got {options.outer_lr}")


def _fingerprint(distribution: TaskDistribution | None) -> str | None:
    """A string that differs where the tasks do; ``None`` for a distribution that gives none."""
    give = getattr(distribution, "fingerprint", None)
    return "none" if distribution is None else str(give()) if callable(give) else None


def _expect_same(part: str, recorded: Any, given: Any) -> None:
    if found := _difference("", recorded, given):
        was, now = (f"{found[0]}={value}" for value in found[1:])
        raise ValueError(f"expected the run's own {part}, with {was:.100}, got {now:.100}")


def _difference(name: str, recorded: Any, given: Any) -> tuple[str, Any, Any] | None:
    """The first place where two records differ, and what each has there. Other versions may know other names."""
    if isinstance(recorded, dict) and isinstance(given, dict):
        pairs = [(key, value, given[key]) for key, value in recorded.items() if key in given]
    elif isinstance(recorded, list) and isinstance(given, list) and len(recorded) == len(given):
        pairs = [(name, *both) for both in zip(recorded, given, strict=True)]
    else:
        return None if recorded == given else (name, recorded, given)
    return next((found for pair in pairs if (found := _difference(*pair))), None)


def _as_csv(rows: Sequence[Mapping[str, Any]], *, header: bool = True) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def _rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a learning curve, bit for bit, without a last one that a kill cut off; none if there is no file."""
    if not path.is_file():  # a pipe would be waited for
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return []
    found = csv.DictReader(line for line in lines if line.endswith("\n"))
    whole = ("step", "epoch")
    try:
        return [{k: int(v) if k in whole else float(v) if v else None for k, v in row.items()} for row in found]
    except (ValueError, TypeError, KeyError):  # edited by hand
        return []
