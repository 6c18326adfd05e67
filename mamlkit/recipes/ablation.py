"""The ablation of chapter 11: MAML, MAML++ as published, each part of it alone, all but one of these, and the relatives.

    python -m mamlkit.recipes.ablation --data omniglot --root DIR --out book/results/omniglot --work runs/omniglot

Every run sees the same network, the same number of outer steps and, for the same seed, the same tasks. The checkpoint with the
best validation accuracy is measured on 600 test tasks, whose classes are never turned. A run that was interrupted goes on from
its last checkpoint in ``--work``; one that has a record in ``--out`` is not repeated. A run of another length than the script's
own has its outer steps in its name. ``--collect FILE`` puts all records of ``--out`` into one file, for ``mamlkit.recorded``;
``--weights FOLDER`` keeps the measured checkpoints of MAML and MAML++.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import multiprocessing
import shlex
import statistics
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from mamlkit._files import write_atomically, write_tensors
from mamlkit._version import versions
from mamlkit.configuration import Configuration, LearnerOptions, NetworkOptions, TaskOptions
from mamlkit.evaluation import evaluate
from mamlkit.learners import Learner
from mamlkit.randomness import TEST_SEED
from mamlkit.recipes.protocols import measure_protocols
from mamlkit.runs import image_shape, load_best, peak_memory_mb
from mamlkit.tasks import TaskBatch, TaskStream
from mamlkit.training import History, TrainingOptions, fit

# MAML++ with every part switched off, and MAML++ as its authors publish it: with cosine, and with every other part but statistics
# of each step and annealing of the derivative order. A run switches on, or off, what it names.
OFF: dict[str, Any] = {
    "learner": "maml++",
    "multi_step_loss": "final",
    "step_sizes": "fixed",
    "per_step_weights": False,
    "per_step_statistics": False,
}
ON: dict[str, Any] = {"learner": "maml++", "cosine": True}
# MAML as its paper has it for 5-way Omniglot, and the same inner loop with parts of MAML++. The multi-step loss is none of them:
# with one step it is MAML's. Of their learned rates the largest becomes 1.2: the larger rate is that for every layer.
ONE_STEP_LOOP: dict[str, Any] = {"inner_steps": 1, "inner_lr": 0.4}
ONE_STEP: dict[str, Any] = {"learner": "maml", **ONE_STEP_LOOP, "test_steps": 3}
ONE_STEP_OFF: dict[str, Any] = {**OFF, **ONE_STEP_LOOP, "cosine": True}
RUNS: dict[str, dict[str, Any]] = {
    "maml": {"learner": "maml"},
    "maml++": ON,
    "multi-step": {**OFF, "multi_step_loss": "annealed"},
    "plain-mean": {**OFF, "multi_step_loss": "uniform"},
    "learned-rates": {**OFF, "step_sizes": "tensor_and_step"},
    "per-step-norm": {**OFF, "per_step_weights": True},
    "cosine": {**OFF, "cosine": True},
    "order-annealing": {**OFF, "first_order_share": 0.5},
    "no-multi-step": {**ON, "multi_step_loss": "final"},
    "no-learned-rates": {**ON, "step_sizes": "fixed"},
    "no-per-step-norm": {**ON, "per_step_weights": False},
    "no-cosine": {**ON, "cosine": False},
    "larger-rate": {"learner": "maml", "inner_lr": 0.4},
    "one-step": ONE_STEP,
    "one-step-cosine": {**ONE_STEP, "cosine": True},
    "one-step-larger-rate": {**ONE_STEP, "inner_lr": 1.2, "cosine": True},
    "one-step-learned-rates": {**ONE_STEP_OFF, "step_sizes": "tensor_and_step"},
    "one-step-per-step-norm": {**ONE_STEP_OFF, "per_step_weights": True},
    "one-step-maml++": {**ONE_STEP_OFF, "step_sizes": "tensor_and_step", "per_step_weights": True},
    "fomaml": {"learner": "fomaml"},
    "anil": {"learner": "anil"},
    "reptile": {"learner": "reptile"},
    "meta-sgd": {"learner": "meta-sgd"},
}
"""The runs by name.

``first_order_share`` is the share of the epochs with first order (half of them in the paper). ``test_steps`` are inner steps at
test where they are not those of training.
"""

MAIN = ("maml", "maml++")
SHIPPED = (*MAIN, "one-step-cosine", "one-step-maml++")  # whose checkpoints --weights keeps: also with one inner step

BUDGETS: dict[str, dict[str, int]] = {
    "glyphs": {
        "filters": 16,
        "queries": 5,
        "epochs": 20,
        "steps_per_epoch": 12,
        "meta_batch": 4,
        "validation_tasks": 16,
        "keep_best": 1,
    },
    "omniglot": {
        "filters": 32,
        "queries": 1,
        "epochs": 15,
        "steps_per_epoch": 100,
        "meta_batch": 8,
        "validation_tasks": 50,
        "keep_best": 1,
    },
    "omniglot-pooled": {
        "filters": 64,
        "queries": 1,
        "epochs": 13,
        "steps_per_epoch": 200,
        "meta_batch": 8,
        "validation_tasks": 200,
        "keep_best": 1,
    },
    "omniglot-long": {
        "filters": 64,
        "queries": 1,
        "epochs": 50,
        "steps_per_epoch": 200,
        "meta_batch": 8,
        "validation_tasks": 200,
        "keep_best": 5,
    },
}
"""What a run costs when nothing else is asked for; the same for all runs of a name.

``omniglot-pooled`` has the network of the MAML++ paper, which learns faster by the outer step than the strided one: MAML++ costs
there what MAML with one inner step costs in ``omniglot-long``, the same for as many outer steps as the comparison with the papers
needs.
"""
SIZES = ("ways", "shots", *BUDGETS["omniglot"])
POOLED = NetworkOptions(downsample="pool", activation="leaky_relu")
NETWORKS = {
    "glyphs": NetworkOptions(downsample="stride"),
    "omniglot": NetworkOptions(downsample="stride"),
    "omniglot-pooled": POOLED,
    "omniglot-long": POOLED,
}
# The paper's 1e-3 is slower on the strided network over as few outer steps as these.
OUTER_LR = {"glyphs": 1e-3, "omniglot": 3e-3, "omniglot-pooled": 1e-3, "omniglot-long": 1e-3}
# The share of the epochs for which the multi-step loss is annealed: 10 of 100 in the paper. A tenth of a short run of the pooled
# network would be 200 outer steps; the long runs anneal for 1,000, and so do these.
ANNEALED_SHARE = {"glyphs": 0.1, "omniglot": 0.1, "omniglot-pooled": 0.4, "omniglot-long": 0.1}


def configuration(
    name: str, seed: int, *, data: str = "glyphs", root: Path | None = None, device: str = "cpu", **budget: int
) -> Configuration:
    """One run of the ablation as data.

    Args:
        name: a key of ``RUNS``.
        seed: of the network's weights and of the stream of tasks.
        data: a key of ``BUDGETS``: the data set, and after it the network where there are several.
        root: folder of the data, for Omniglot.
        device: where to compute.
        budget: ``ways``, ``shots``, or what ``BUDGETS`` has, where it differs.
    """
    own, size = dict(RUNS[name]), {"ways": 5, "shots": 1, **BUDGETS[data], **budget}
    cosine, share = own.pop("cosine", False), own.pop("first_order_share", 0.0)
    own.pop("test_steps", None)
    epochs = size["epochs"]
    return Configuration(
        tasks=TaskOptions(
            data=data.partition("-")[0],
            root=root,
            ways=size["ways"],
            shots=size["shots"],
            queries=size["queries"],
            test_queries=5,
            rotations=data.startswith("omniglot"),
        ),
        network=dataclasses.replace(NETWORKS[data], filters=size["filters"]),
        learner=LearnerOptions(
            annealing_epochs=max(1, round(ANNEALED_SHARE[data] * epochs)),
            first_order_epochs=round(share * epochs),
            **own,
        ),
        training=TrainingOptions(
            epochs=epochs,
            steps_per_epoch=size["steps_per_epoch"],
            meta_batch=size["meta_batch"],
            outer_lr=OUTER_LR[data],
            cosine=cosine,
            validation_tasks=size["validation_tasks"],
            keep_best=size["keep_best"],
            log_every=size["steps_per_epoch"],
            checkpoint_every=size["steps_per_epoch"],
            seed=seed,
        ),
        device=device,
    )


def stem_of(name: str, chosen: Configuration, data: str) -> str:
    """What a run's files are called. The outer steps are in the name where they are not those of ``BUDGETS``."""
    tasks, usual = chosen.tasks, BUDGETS[data]
    steps = chosen.training.outer_steps
    length = "" if steps == usual["epochs"] * usual["steps_per_epoch"] else f"-{steps}steps"
    return f"{name}-{tasks.ways}way-{tasks.shots}shot{length}-seed{chosen.training.seed}"


def train_and_measure(name: str, chosen: Configuration, folder: Path, test_tasks: int = 600) -> dict[str, Any]:
    """Train a run, or go on with it, and measure its best checkpoint: everything of a record but how it was called.

    ``"protocols"`` has it in other ways to test too, and all checkpoints together where several are kept.
    """
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    training, test = chosen.build_tasks("train"), chosen.build_tasks("test")
    shape = image_shape(training)
    learner = chosen.build_learner(shape)
    resume, started = (folder / "checkpoints").is_dir(), time.process_time()
    history = fit(
        learner,
        training,
        options=chosen.training,
        validation=chosen.build_tasks("validation"),
        folder=folder,
        resume=resume,
    )
    cpu_seconds = round(time.process_time() - started, 1)  # with the validations
    peak = peak_memory_mb()
    best, names = load_best(chosen, folder, shape, chosen.training.keep_best)
    tasks = TaskStream(test, test_tasks, seed=TEST_SEED).batch(0).to(chosen.device)
    steps = RUNS[name].get("test_steps", chosen.learner.inner_steps)
    result = evaluate(best[0], tasks, steps=steps, chunk=50)
    accuracy = result.accuracy()
    if result.accuracies is None:
        raise ValueError(f"expected tasks with classes, got those of {chosen.tasks.data}")
    return {
        "learner": chosen.learner.learner,
        "ways": chosen.tasks.ways,
        "shots": chosen.tasks.shots,
        "seed": chosen.training.seed,
        "ablation": None if name in MAIN else name,
        "test_accuracy": round(accuracy.mean, 5),
        "test_ci95": round(accuracy.half_width, 5),
        "test_tasks": accuracy.tasks,
        "is_transductive": best[0].is_transductive,
        "best_checkpoint": names[0],
        "iterations": history.step,
        "seconds": round(history.seconds, 1),
        "cpu_seconds": None if resume else cpu_seconds,  # of a run that was interrupted only the last part is known
        "peak_memory_mb": round(peak, 1),
        "meta_step": meta_step_cost(chosen, training.sample(chosen.training.meta_batch, _seeded(0))),
        "learning_curve": _curve(history),
        "per_step_accuracy": [round(result.accuracy(step).mean, 5) for step in range(len(result.losses))],
        "per_step_loss": [round(result.loss(step).mean, 5) for step in range(len(result.losses))],
        "per_task_final_losses": [round(value, 4) for value in result.losses[-1].tolist()],
        "per_task_final_accuracies": [round(value, 4) for value in result.accuracies[-1].tolist()],
        "protocols": measure_protocols(best, chosen, test_tasks, steps),
    }


def meta_step_cost(chosen: Configuration, tasks: TaskBatch, rounds: int = 5) -> dict[str, dict[str, float]]:
    """What a meta-step costs in the first and in the last epoch, beside one of MAML with the same network and tasks.

    Returns:
        For ``"first_epoch"`` and ``"last_epoch"``: ``seconds`` of processor time (median), ``seconds_ratio`` to MAML (median of
        the ratios of neighbours in time, so that a slow moment of the machine hits both), and, on a CPU, ``memory_mb``, the most
        that tensors made in the step held at once, with ``memory_ratio`` to MAML.
    """
    plain = dataclasses.replace(chosen, learner=LearnerOptions(learner="maml", inner_lr=chosen.learner.inner_lr))
    tasks = tasks.to(chosen.device)
    shape = tuple(tasks.support_x.shape[2:])
    reference, learner = plain.build_learner(shape), chosen.build_learner(shape)
    cost = {}
    for moment, epoch in (("first_epoch", 0), ("last_epoch", chosen.training.epochs - 1)):
        learner.epoch = epoch
        pairs = [(_seconds(reference, tasks), _seconds(learner, tasks)) for _ in range(rounds + 1)][1:]
        cost[moment] = {
            "seconds": round(statistics.median(own for _, own in pairs), 4),
            "seconds_ratio": round(statistics.median(own / base for base, own in pairs), 3),
        }
        if tasks.support_x.device.type == "cpu":
            base, own = _memory(reference, tasks), _memory(learner, tasks)
            cost[moment] |= {"memory_mb": round(own, 2), "memory_ratio": round(own / base, 3)}
    return cost


def _seconds(learner: Learner, tasks: TaskBatch) -> float:
    learner.zero_grad(set_to_none=True)
    started = time.process_time()
    learner.meta_backward(tasks).item()
    return time.process_time() - started


def _memory(learner: Learner, tasks: TaskBatch) -> float:
    """The most that tensors held at once during a meta-step, above what was there before, in MB."""
    learner.zero_grad(set_to_none=True)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        learner.meta_backward(tasks)
    changes = [event for event in trace.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most / 2**20


def _curve(history: History) -> list[dict[str, Any]]:
    """One row per epoch: outer step, mean meta-loss, validation accuracy."""
    return [
        {
            "step": row["step"],
            "meta_loss": round(row["meta_loss"], 4),
            "validation_accuracy": round(row["validation_accuracy"], 4),
        }
        for row in history.rows
        if row["validation_accuracy"] is not None
    ]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _commit() -> str | None:
    """The commit of the checkout that this file is in; ``None`` outside one, or where files were changed."""
    here = Path(__file__).resolve().parent
    try:
        said = [
            subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return said[0] if not said[1] else None


def keep_weights(record: dict[str, Any], data: str, stem: str, root: Path | None, work: Path, out: Path) -> None:
    """Copy the checkpoint that a record measured to ``out``, with what ``mamlkit.pretrained_learner`` needs beside it."""
    public = Configuration.from_json(record["configuration"])
    chosen = dataclasses.replace(public, tasks=dataclasses.replace(public.tasks, root=root))
    shape = image_shape(chosen.build_tasks("test"))
    best, names = load_best(chosen, work / stem, shape, 1)
    if names[0] != record["best_checkpoint"]:
        raise ValueError(f"expected {record['best_checkpoint']} to be the best in {work / stem}, got {names[0]}")
    name = f"{data}-{stem}"
    write_tensors(out / f"{name}.safetensors", best[0].state_dict())
    kept = ("seed", "test_accuracy", "test_ci95", "test_tasks", "configuration", "versions")
    notes = {"command": f"{record['command']} --weights mamlkit/weights", "image_shape": shape}
    write_atomically(out / f"{name}.json", to_text(notes | {key: record[key] for key in kept}))


def collect(folder: Path, data: str) -> dict[str, Any]:
    """All records of a folder, those of a key of ``BUDGETS``, in one, as ``mamlkit.recorded`` gives them."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"expected records in {folder}, got none")
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    root = "" if data == "glyphs" else "--root DIR "
    words = f"--data {data} {root}--out book/results/{data} --work runs/{data} --collect mamlkit/records/{data}.json"
    return {"command": f"python -m mamlkit.recipes.ablation {words}", "runs": runs}


def to_text(record: dict[str, Any]) -> str:
    """A record as JSON: one line per key, lists and tables within a line."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in record.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def collected_text(collected: dict[str, Any]) -> str:
    """The same for a collection: one line per run."""
    runs = ",\n".join(json.dumps(run, separators=(",", ":")) for run in collected["runs"])
    return f'{{\n  "command": {json.dumps(collected["command"])},\n  "runs": [\n{runs}\n  ]\n}}\n'


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what has no record yet, and write the records."""
    parser = argparse.ArgumentParser(prog="ablation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=sorted(BUDGETS), default="glyphs", help="default: %(default)s")
    parser.add_argument("--root", type=Path, help="folder of the Omniglot archives")
    parser.add_argument("--out", type=Path, required=True, help="folder for the records; made when it is not there")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints; made when it is not there")
    parser.add_argument("--collect", type=Path, help="file for all records of --out together")
    parser.add_argument("--weights", type=Path, help="folder for the measured checkpoints of MAML and MAML++")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), metavar="NAME", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--test-tasks", type=int, default=600, help="default: %(default)s")
    for size in SIZES:
        parser.add_argument(f"--{size.replace('_', '-')}", type=int, help="default: what BUDGETS in this script says")
    options = parser.parse_args(arguments)
    if not options.out.parent.is_dir():
        parser.error(f"expected --out to name a folder in a folder that exists, got {options.out}")
    if options.weights is not None and not options.weights.is_dir():
        parser.error(f"expected --weights to be an existing folder, got {options.weights}")
    if options.collect is not None and not options.collect.parent.is_dir():
        parser.error(f"expected --collect to name a file in a folder that exists, got {options.collect}")
    options.out.mkdir(exist_ok=True)
    budget = {size: getattr(options, size) for size in SIZES if getattr(options, size) is not None}
    # A process of its own for each run, so that its peak of memory is its own; a server that has imported torch makes them.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mamlkit"])
    for seed in options.seeds:
        for name in options.only or RUNS:
            chosen = configuration(name, seed, data=options.data, root=options.root, device=options.device, **budget)
            stem = stem_of(name, chosen, options.data)
            file = options.out / f"{stem}.json"
            if not file.exists():
                print(stem, flush=True)
                with ProcessPoolExecutor(1, mp_context=processes) as pool:
                    training = pool.submit(train_and_measure, name, chosen, options.work / stem, options.test_tasks)
                    measured = training.result()
                typed = [f"--{size.replace('_', '-')} {value}" for size, value in budget.items()]
                typed += ["--root DIR"] if options.root is not None else []
                typed += [f"--device {options.device}"] if options.device != "cpu" else []
                typed += [f"--test-tasks {options.test_tasks}"] if options.test_tasks != 600 else []
                command = (
                    f"python -m mamlkit.recipes.ablation --data {options.data} --out book/results/{options.data} "
                    f"--work runs/{options.data} --only {shlex.quote(name)} --seeds {seed} {' '.join(typed)}"
                ).rstrip()
                public = dataclasses.replace(chosen, tasks=dataclasses.replace(chosen.tasks, root=None))
                record = {
                    **measured,
                    "configuration": public.to_json(),
                    "command": command,
                    "versions": versions(),
                    "commit": _commit(),
                }
                write_atomically(file, to_text(record))
                accuracy, width = 100 * record["test_accuracy"], 100 * record["test_ci95"]
                print(f"  test accuracy {accuracy:.2f} ± {width:.2f}", flush=True)
            if options.weights is not None and name in SHIPPED:
                record = json.loads(file.read_text(encoding="utf-8"))
                keep_weights(record, options.data, stem, options.root, options.work, options.weights)
    if options.collect is not None:
        write_atomically(options.collect, collected_text(collect(options.out, options.data)))


if __name__ == "__main__":
    main()
