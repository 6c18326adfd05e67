"""The command line: ``python -m mamlkit train | evaluate | info``. Add ``--help`` to see every option and its default."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.distributed as dist
import tyro

from mamlkit._files import write_atomically
from mamlkit._version import versions
from mamlkit.arguments import expect_at_least
from mamlkit.checkpoint import latest_checkpoint, locked
from mamlkit.configuration import (
    Configuration,
    LearnerOptions,
    NetworkOptions,
    OptimiserOptions,
    TaskOptions,
    parameter_count,
)
from mamlkit.data.sources import sources_with
from mamlkit.evaluation import Evaluation, evaluate_ensemble
from mamlkit.pretrained import pretrained_learner, pretrained_names
from mamlkit.randomness import TEST_SEED
from mamlkit.runs import image_shape, load_best, processes, read_configuration
from mamlkit.tasks import TaskStream
from mamlkit.training import TrainingDiverged, TrainingOptions, fit


@dataclass(frozen=True)
class Train:
    """Meta-train a learner and write the run to a folder."""

    out: Path
    """Folder of the run: run.json, curves.csv and checkpoints/. New, or one to resume."""
    tasks: Annotated[TaskOptions, tyro.conf.arg(name="")] = field(default_factory=TaskOptions)
    network: Annotated[NetworkOptions, tyro.conf.arg(name="")] = field(default_factory=NetworkOptions)
    learner: Annotated[LearnerOptions, tyro.conf.arg(name="")] = field(default_factory=LearnerOptions)
    training: Annotated[TrainingOptions, tyro.conf.arg(name="")] = field(default_factory=TrainingOptions)
    optimiser: Annotated[OptimiserOptions, tyro.conf.arg(name="")] = field(default_factory=OptimiserOptions)
    device: str = "cpu"
    """Where to compute: cpu, cuda, ..."""
    resume: bool = False
    """Go on with the run in the folder. Its options are kept; others are refused, except for more epochs."""

    def run(self) -> None:
        """Train from the start or from the last checkpoint."""
        if self.out != (out := self.out.expanduser()):
            return dataclasses.replace(self, out=out).run()
        configuration = self.configuration
        longer = False
        if self.resume:
            longer = _expect_same_options(configuration, read_configuration(self.out))
        else:
            configuration.expect_used()
        with processes(configuration.device) as rank:
            training, validation = configuration.build_tasks("train"), configuration.build_tasks("validation")
            learner = configuration.build_learner(image_shape(training))
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            TaskStream(training, configuration.training.meta_batch, world_size=world_size)  # or nothing is written
            optimiser, schedule = configuration.build_optimiser(learner)
            if not self.resume:
                _expect_new(self.out)
                if rank == 0:
                    (self.out / "checkpoints").mkdir(parents=True, exist_ok=True)  # what a resume looks for
            if rank == 0 and (longer or not self.resume):
                with locked(self.out):
                    record = _longer(self.out, configuration) if longer else _record(configuration)
                    write_atomically(self.out / "run.json", json.dumps(record, indent=2) + "\n")
            history = fit(
                learner,
                training,
                options=configuration.training,
                optimiser=optimiser,
                schedule=schedule,
                validation=validation,
                folder=self.out,
                resume=self.resume,
                progress=True,
            )
            if rank == 0:
                last = (
                    f", meta-loss {history.rows[-1]['meta_loss']:.4f}" if history.rows else ""
                )  # the user's to delete
                print(f"{history.step} outer steps in {history.seconds:.1f} s{last}")
                if history.best:
                    score, name = history.best[0]
                    print(f"best validation score {score:.4f} at {name}, kept in {self.out / 'checkpoints'}")

    @property
    def configuration(self) -> Configuration:
        """The options as the configuration of a run."""
        return Configuration(self.tasks, self.network, self.learner, self.training, self.device, self.optimiser)

    def of_the_run(self) -> Train:
        """The same with the run's own options: what is not typed now is what it was then."""
        run = read_configuration(self.out.expanduser())
        parts = {item.name: getattr(run, item.name) for item in dataclasses.fields(run)}
        return dataclasses.replace(self, **parts)

    def when_interrupted(self) -> str:
        """What an interruption leaves behind."""
        out = self.out.expanduser()
        if not (out / "run.json").is_file():
            return "before anything was written"
        command = f"python -m mamlkit train --out {shlex.quote(str(self.out))} --resume"
        newest = latest_checkpoint(out / "checkpoints") if (out / "checkpoints").is_dir() else None
        return (
            f"{command} goes on after {newest.name}"
            if newest
            else f"{command} starts again: there is no checkpoint yet"
        )


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained run on test tasks: before adaptation and after each inner step."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """The folder that `train` wrote, or the name of a learner that ships with mamlkit."""
    tasks: int = 600
    """How many test tasks."""
    steps: int | None = None
    """Inner steps; as many as in training when not given."""
    split: Literal["train", "validation", "test"] = "test"
    """Which classes."""
    ensemble: int = 1
    """Average the outputs of this many of the best checkpoints."""
    root: Path | None = None
    """Folder of the data, if it is not where it was in training."""
    device: str = "cpu"
    """Where to compute."""
    json: Path | None = None
    """Also write the result, task by task, to this file."""

    def run(self) -> None:
        """Load the best checkpoints and print a table."""
        expect_at_least("tasks", self.tasks, 2)
        expect_at_least("ensemble", self.ensemble, 1)
        name = str(self.run_folder)
        shipped = name in pretrained_names() and not self.run_folder.exists()
        if shipped and self.ensemble > 1:
            raise ValueError(f"expected an ensemble of 1 for a learner that ships, got {self.ensemble}")
        configuration = pretrained_learner(name)[1] if shipped else read_configuration(self.run_folder)
        if self.root is not None and configuration.tasks.data not in (places := sources_with("root")):
            raise ValueError(
                f"expected --root only with {' or '.join(places)}, where it does something, got {self.root}"
            )
        data = configuration.tasks if self.root is None else dataclasses.replace(configuration.tasks, root=self.root)
        configuration = dataclasses.replace(configuration, tasks=data, device=self.device)
        if self.json is not None and (self.json.is_dir() or not self.json.parent.is_dir()):
            raise ValueError(f"expected --json to name a file in a folder that exists, got {self.json}")
        if self.json is not None and not shipped:
            own = self.run_folder.resolve()
            if (
                self.json.resolve() in (own / "run.json", own / "curves.csv")
                or own / "checkpoints" in self.json.resolve().parents
            ):
                raise ValueError(f"expected --json to name a file that is not part of the run, got {self.json}")
        source = configuration.build_tasks(self.split)
        if shipped:
            learners, names = [pretrained_learner(name)[0].to(self.device)], [name]
        else:
            learners, names = load_best(configuration, self.run_folder, image_shape(source), self.ensemble)
        batch = TaskStream(source, self.tasks, seed=TEST_SEED).batch(0).to(self.device)
        result = evaluate_ensemble(learners, batch, steps=self.steps, progress=True)
        print(f"{self.tasks} {self.split} tasks, checkpoints {', '.join(names)}, ", end="")
        print("query points see each other (transductive)" if learners[0].is_transductive else "inductive")
        print_table(result)
        if self.json is not None:
            write_atomically(self.json, json.dumps(result.to_json(), indent=2) + "\n")

    def when_interrupted(self) -> str:
        """What an interruption leaves behind."""
        return "nothing was written" if self.json is None else f"{self.json} is as it was or whole"


@dataclass(frozen=True)
class Info:
    """Say which versions are at work, or what is in a run."""

    run_folder: Annotated[Path | None, tyro.conf.Positional] = None
    """A folder that `train` wrote."""

    def run(self) -> None:
        """Print it."""
        configuration = None if self.run_folder is None else read_configuration(self.run_folder)
        for name, version in versions().items():
            print(f"{name:10s} {version}")
        if self.run_folder is None or configuration is None:
            return
        learner = configuration.build_learner(image_shape(configuration.build_tasks("train")))
        theta, everything = parameter_count(learner)
        print(json.dumps(configuration.to_json(), indent=2))
        print(f"{theta} parameters in theta, {everything} meta-parameters in all; engine {learner.engine_name}")
        newest = latest_checkpoint(self.run_folder / "checkpoints")
        print(f"newest checkpoint: {newest.name if newest else 'none yet'}")

    def when_interrupted(self) -> str:
        """What an interruption leaves behind."""
        return "nothing was written"


def print_table(result: Evaluation) -> None:
    """One line per inner step."""
    accuracy = result.accuracies is not None
    print(f"{'steps':>5}  {'query loss':>17}" + (f"  {'accuracy (%)':>15}" if accuracy else ""))
    for step in range(len(result.losses)):
        line = f"{step:5d}  {result.loss(step)!s:>17}"
        if accuracy:
            value = result.accuracy(step)
            line += f"  {100 * value.mean:7.2f} ± {100 * value.half_width:.2f}"
        print(line)
    if accuracy:
        print(f"tasks above 50 %: {100 * result.share_above(0.5):.1f} %, ", end="")
        print(f"above 80 %: {100 * result.share_above(0.8):.1f} %")


def _record(configuration: Configuration) -> dict[str, object]:
    own = {"command": _command(), "versions": versions(), "threads": torch.get_num_threads()}
    return {**own, "configuration": configuration.to_json()}


def _longer(folder: Path, configuration: Configuration) -> dict[str, object]:
    """The record of a run that gets more epochs."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    resumed = [
        *record.get("resumed", []),
        {name: value for name, value in _record(configuration).items() if name != "configuration"},
    ]
    return {**record, "resumed": resumed, "configuration": configuration.to_json()}


def _command() -> str:
    return f"python -m mamlkit {shlex.join(sys.argv[1:])}"


def _expect_new(folder: Path) -> None:
    checkpoints = folder / "checkpoints"
    if (checkpoints.is_dir() and any(checkpoints.iterdir())) or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"expected a new or empty folder for --out, got {folder}; add --resume to go on with its run")


def _expect_same_options(chosen: Configuration, recorded: Configuration) -> bool:
    """Refuse options that are not the run's own; say whether there are more epochs."""
    now, more = _flat(chosen.to_json()), chosen.training.epochs > recorded.training.epochs
    for name, value in _flat(recorded.to_json()).items():
        if now[name] != value and not (name == "epochs" and more):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"expected the run's own {option} {value} with --resume, got {now[name]}")
    return more


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of all parts together, by name."""
    parts = (part if isinstance(part, dict) else {name: part} for name, part in values.items())
    return {name: value for part in parts for name, value in part.items()}


def read_command_line() -> Train | Evaluate | Info:
    """The command that was typed.

    Raises:
        ValueError: in one line, where the parser draws a box.
    """
    if "" in sys.argv[1:]:
        raise ValueError("expected a value for every option, got an empty one")
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command: Train | Evaluate | Info = tyro.cli(
                Train | Evaluate | Info,
                prog="python -m mamlkit",
                description="Meta-train and evaluate MAML, MAML++ and their relatives.",
                config=(tyro.conf.OmitArgPrefixes,),
            )
            if isinstance(command, Train) and command.resume:  # again: what is not typed is the run's own
                run = command.of_the_run()
                return tyro.cli(Train, args=sys.argv[2:], default=run, config=(tyro.conf.OmitArgPrefixes,))
            return command
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        text = " ".join(line.strip(" +|│╭╮╰╯") for line in complaint.getvalue().splitlines())
        parts = re.split("[-─]{5,}", text)  # the title of the box, what is wrong, how to get help
        raise ValueError(
            f"expected options as --help lists them, got: {' '.join(parts[min(1, len(parts) - 1)].split())}"
        ) from None


def main() -> None:
    """Read the command line, run it, and put every foreseeable error in one line."""
    command: Train | Evaluate | Info | None = None
    try:
        command = read_command_line()
        command.run()
    except (ValueError, TypeError, OSError, TrainingDiverged) as error:
        text = str(error) or type(error).__name__
        if isinstance(error, OSError) and not text.startswith("expected "):  # the system's own words
            text = f"expected files and folders that can be read and written, got: {text}"
        sys.exit(f"mamlkit: {text}")
    except (MemoryError, RuntimeError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        if text.startswith("expected "):
            sys.exit(f"mamlkit: {text}")
        memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in text
        if not (memory or "home directory" in text):  # ~nosuchuser
            raise
        remedy = "; lower --meta-batch or take --engine recomputed" if memory else ""
        sys.exit(f"mamlkit: expected {'enough memory' if memory else 'a home directory'}, got: {text}{remedy}")
    except KeyboardInterrupt:
        sys.exit(f"mamlkit: interrupted: {command.when_interrupted() if command else 'nothing was done yet'}")


if __name__ == "__main__":
    main()
