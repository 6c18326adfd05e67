"""The outer loop: any optimiser step by step, with validation, checkpoints, an exact resume, and one process or many.

    fit(learner, glyphs("train", queries=1), options=TrainingOptions(epochs=5), validation=glyphs("validation"), folder="runs/a")

Under ``torchrun`` every process takes its share of each meta-batch and the meta-gradients are averaged: the parameters are the
same as in one process, up to rounding. Running statistics of batch norm, where a learner collects them, are averaged over the
processes as well; one process alone adds its tasks one after the other instead, so these differ a little.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm.auto import tqdm

from mamlkit._files import remove_stale, write_atomically
from mamlkit.arguments import expect_at_least, expect_rate
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
from mamlkit.evaluation import evaluate
from mamlkit.functional import unchanged_on_error
from mamlkit.inner_loop import Loss
from mamlkit.learners import Learner
from mamlkit.tasks import TaskBatch, TaskDistribution, TaskStream

__all__ = ["History", "TrainingDiverged", "TrainingOptions", "fit", "load_learner"]

VALIDATION_SEED = 1_000_003  # the same validation tasks for every run


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how to meta-train.

    Attributes:
        epochs: of ``steps_per_epoch`` outer steps each; annealed parts count in epochs.
        steps_per_epoch: outer steps between validations.
        meta_batch: tasks in each outer step, over all processes.
        outer_lr: beta, Adam's learning rate.
        cosine: anneal it to ``final_outer_lr`` along half a cosine (Loshchilov and Hutter, 2017, arXiv:1608.03983, equation 5).
        final_outer_lr: what the cosine ends at.
        clip_norm: scale the meta-gradient down to this norm where it is longer; ``None``: never.
        validation_tasks: tasks in each validation.
        patience: stop after so many epochs without a better validation; ``None``: never.
        keep_best: checkpoints kept, by validation accuracy (by loss where targets are not classes).
        checkpoint_every: outer steps between checkpoints, besides the one after each epoch.
        log_every: outer steps a row of the learning curve covers.
        seed: of the task stream.
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
        for name in ("epochs", "steps_per_epoch", "meta_batch", "keep_best", "checkpoint_every", "log_every"):
            expect_at_least(name, getattr(self, name), 1)
        expect_at_least("validation_tasks", self.validation_tasks, 2)
        if expect_at_least("seed", self.seed, 0) >= 2**63:
            raise ValueError(f"expected seed < 2**63, got {self.seed}")
        expect_rate("outer_lr", self.outer_lr)
        expect_rate("final_outer_lr", self.final_outer_lr, zero=True)
        if self.clip_norm is not None:
            expect_rate("clip_norm", self.clip_norm)
        if self.patience is not None:
            expect_at_least("patience", self.patience, 1)

    @property
    def outer_steps(self) -> int:
        """Of the whole run."""
        return self.epochs * self.steps_per_epoch


class TrainingDiverged(RuntimeError):
    """The meta-loss or its gradient is no longer a finite number."""


@dataclass
class History:
    """Where a run stands; all of it is in each checkpoint.

    Attributes:
        step: outer steps taken.
        rows: the learning curve, oldest first.
        best: kept checkpoints as (score, name), best first.
        loss_sum: of the meta-losses since the last row.
        loss_count: how many those are.
        seconds: of training so far.
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
        validation: tasks of other classes, looked at after each epoch; without them nothing is ranked.
        folder: where ``curves.csv`` and ``checkpoints/`` go; nothing is written when not given.
        resume: go on from the last whole checkpoint in ``folder``, bit for bit as if never interrupted.
        progress: show a bar, on the error stream.
        metric: of the outputs and targets of a task, one number, larger is better: ranks the checkpoints in place of accuracy
            or loss.

    Returns:
        The history; ``history.rows`` is the learning curve.

    Raises:
        TrainingDiverged: naming the outer step, the seed and the last good checkpoint, which is kept.
        ValueError: if ``folder`` already holds a run and ``resume`` is off, or holds none and it is on.
    """
    options = options or TrainingOptions()
    processes = _Processes()
    stream = TaskStream(
        distribution, options.meta_batch, seed=options.seed, rank=processes.rank, world_size=processes.count
    )
    held_out = TaskStream(validation, options.validation_tasks, seed=VALIDATION_SEED).batch(0) if validation else None
    place = _checkpoint_folder(folder, resume)
    run = _Run(learner, options, place, processes.rank == 0, metric)
    guard = locked(place.parent) if place is not None and run.writes else contextlib.nullcontext()
    with guard:
        return _train(run, stream, held_out, processes, resume=resume, progress=progress)


def _train(
    run: _Run, stream: TaskStream, held_out: TaskBatch | None, processes: _Processes, *, resume: bool, progress: bool
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


def load_learner(learner: Learner, checkpoint: str | Path) -> dict[str, Any]:
    """Put the tensors of a checkpoint into a learner of the same make, and return the checkpoint's record.

    Raises:
        ValueError: if the checkpoint is missing, damaged, or of another make.
    """
    tensors, record = load_checkpoint(Path(checkpoint))
    learner.load_state_dict(_of_learner(learner, tensors))
    learner.epoch, learner.meta_steps = record["epoch"], record["meta_steps"]
    return record


def _of_learner(learner: Learner, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint that are the learner's, once they are known to fit it."""
    own = {key.removeprefix("learner."): value for key, value in tensors.items() if key.startswith("learner.")}
    expected = {key: tuple(value.shape) for key, value in learner.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in own.items()}
    if odd := sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)):
        key = odd[0]
        raise ValueError(
            f"expected a checkpoint of this learner, with {key} of shape {expected.get(key)}, got {found.get(key)}"
        )
    return own


class _Processes:
    """This process among those that ``torchrun`` started; one alone without it."""

    def __init__(self) -> None:
        self.several = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if self.several else 0
        self.count = dist.get_world_size() if self.several else 1

    def average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message."""
        if self.several and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, mean in zip(tensors, (flat / self.count).split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def follow_the_last(self, tensors: list[Tensor]) -> None:
        """Take each tensor from the process whose tasks are the last of the meta-batch, as one process alone would."""
        if self.several:
            for tensor in tensors:
                dist.broadcast(tensor, self.count - 1)


class _Run:
    """The moving parts of one run."""

    def __init__(
        self, learner: Learner, options: TrainingOptions, folder: Path | None, writes: bool, metric: Loss | None = None
    ) -> None:
        self.learner, self.options, self.folder, self.writes, self.metric = learner, options, folder, writes, metric
        self.parameters = list(learner.meta_parameters().values())
        self.device = self.parameters[0].device
        self.optimiser = torch.optim.Adam(self.parameters, lr=options.outer_lr)
        final = options.final_outer_lr if options.cosine else options.outer_lr
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, options.outer_steps, final)
        self.history = History()

    def outer_step(self, tasks: TaskBatch, processes: _Processes) -> float:
        """One meta-gradient and one step of the optimiser; the meta-loss before it."""
        self.learner.epoch = self.history.step // self.options.steps_per_epoch
        self.optimiser.zero_grad(set_to_none=True)
        with unchanged_on_error(self.learner):  # the statistics of a batch that is refused do not stay
            loss = self.learner.meta_backward(tasks, first_task=processes.rank * tasks.num_tasks)
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            processes.average([*gradients, loss])
            processes.average(self._running_statistics())
            processes.follow_the_last(self.learner.written_buffers())
            norm = torch.nn.utils.get_total_norm(gradients)
            if not (math.isfinite(value := loss.item()) and math.isfinite(norm.item())):
                raise TrainingDiverged(self._last_words(value, norm.item()))
        if self.options.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.options.clip_norm, norm)
        self.optimiser.step()
        self.schedule.step()
        return value

    def after_step(self, loss: float, held_out: TaskBatch | None) -> None:
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
            self._write_curves()
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
        for name, value in dataclasses.asdict(self.options).items():
            if value != record["options"].get(name):
                raise ValueError(f"expected the run's own {name}={record['options'].get(name)}, got {value}")
        _of_learner(self.learner, tensors)
        chosen, kept = self.learner.describe(), record.get("learner", {})
        for name, value in kept.items():
            if chosen.get(name) != value:
                was, now = (f"{name}={end}" for end in (value, chosen.get(name)))
                raise ValueError(f"expected the run's own learner, with {was:.100}, got {now:.100}")
        load_learner(self.learner, newest)
        moments = {k.removeprefix("optimiser."): v for k, v in tensors.items() if k.startswith("optimiser.")}
        restore_optimiser(self.optimiser, moments, record["optimiser"])
        self.schedule.load_state_dict(record["schedule"])
        best = [(score, name) for score, name in record["history"]["best"]]  # JSON knows no tuples
        self.history = History(**{**record["history"], "best": best})

    def _validate(self, held_out: TaskBatch, row: dict[str, Any]) -> None:
        given: dict[str, Any] = {} if self.metric is None else {"metric": self.metric}
        result = evaluate(self.learner, held_out.to(self.device), **given)
        row["validation_loss"] = score = result.loss().mean
        score = -score
        if result.accuracies is not None and not result.accuracies[-1].isnan().all():
            row["validation_accuracy"] = score = result.accuracy().mean
        if self.metric is not None:
            row["validation_score"] = score = result.score().mean
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
            "learner": self.learner.describe(),
            "optimiser": rest,
            "schedule": self.schedule.state_dict(),
            "history": dataclasses.asdict(self.history),
        }
        save_checkpoint(self.folder / self._name(), tensors, record)
        keep = {self._name(), *(name for _, name in self.history.best)}
        for path in checkpoints_in(self.folder):
            if path.name not in keep:
                remove_checkpoint(path)

    def _write_curves(self) -> None:
        if self.folder is None or not self.writes:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.history.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history.rows)
        write_atomically(self.folder.parent / "curves.csv", text.getvalue())

    def _running_statistics(self) -> list[Tensor]:
        if self.learner.query_statistics != "running":
            return []
        return [buffer for buffer in self.learner.buffers() if buffer.is_floating_point()]

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
    checkpoints = Path(folder) / "checkpoints"
    if checkpoints.exists() and any(checkpoints.iterdir()) and not resume:
        raise ValueError(f"expected a folder without a run in it, got {folder}; resume it or choose another")
    if resume and not checkpoints.is_dir():
        raise ValueError(f"expected a folder with a run to resume, got {folder} without checkpoints")
    checkpoints.mkdir(parents=True, exist_ok=True)
    return checkpoints
