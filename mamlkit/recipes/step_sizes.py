"""Learned step sizes on images, over seeds: the record behind chapter 8.

    python -m mamlkit.recipes.step_sizes --out mamlkit/records

MAML on glyphs with one fixed inner rate, for several values of it, and with rates that are learned for each tensor and step
(LSLR, Antoniou et al., 2019). For each seed all runs share the initial weights and the stream of tasks, and all are judged on the
same tasks, of scripts that training has not seen. Everything else is as plain as possible: the loss after the last step, full
second order, batch norm without rows for each step, and Adam at one constant rate for the weights and for the rates.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from mamlkit._version import versions
from mamlkit.algorithms import maml_plus_plus
from mamlkit.data.glyphs import glyphs
from mamlkit.evaluation import evaluate
from mamlkit.learners import Learner
from mamlkit.models import conv4
from mamlkit.recipes.frame import command, outer_loop, parse, parser_for, run_all
from mamlkit.recipes.shipping import save_record
from mamlkit.step_sizes import FixedStepSize, LearnedStepSizes
from mamlkit.tasks import TaskBatch, TaskStream

FIXED_RATES, FIRST_RATE = (0.1, 0.2, 0.4), 0.1
WAYS, SHOTS, QUERIES, FILTERS, INNER_STEPS, META_BATCH, OUTER_LR = 5, 1, 5, 16, 3, 4, 2e-3
HELD_OUT_TASKS, HELD_OUT_SEED, ROWS = 200, 99, 20


def learner_with(rate: float | None, seed: int) -> Learner:
    """MAML with a fixed rate, or (None) with LSLR, and nothing else of MAML++."""
    return maml_plus_plus(
        conv4(WAYS, filters=FILTERS, downsample="stride", seed=seed),
        inner_steps=INNER_STEPS,
        inner_lr=FIRST_RATE if rate is None else rate,
        step_sizes="tensor_and_step" if rate is None else "fixed",
        multi_step_loss=None,
        per_step_weights=False,
    )


def train(seed: int, rate: float | None, outer_steps: int, held_out_tasks: int) -> dict[str, Any]:
    """One run: what it reaches on unseen scripts, and how its rates went."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    learner = learner_with(rate, seed)
    optimiser = torch.optim.Adam(learner.meta_parameters().values(), lr=OUTER_LR)
    course: list[dict[str, Any]] = []
    stream = TaskStream(glyphs(ways=WAYS, shots=SHOTS, queries=QUERIES), META_BATCH, seed=seed)
    for step, _ in outer_loop(learner.meta_backward, optimiser, stream, outer_steps):
        if isinstance(learner.step_sizes, LearnedStepSizes) and step * ROWS % outer_steps < ROWS:
            course.append({"outer_step": step, "alpha": _rounded(learner.step_sizes.alpha)})
    held_out = glyphs("test", ways=WAYS, shots=SHOTS, queries=QUERIES).sample(
        held_out_tasks, torch.Generator().manual_seed(HELD_OUT_SEED)
    )
    row: dict[str, Any] = {"seed": seed, "step_sizes": "learned" if rate is None else rate}
    row |= _measured(learner, held_out) | {"moved": _moved(learner, held_out)}
    if isinstance(learner.step_sizes, LearnedStepSizes):
        learned = learner.step_sizes
        learner.step_sizes = FixedStepSize(learned.names, FIRST_RATE)  # the mistake: what was learned is not used
        row |= {"thrown_away": _measured(learner, held_out), "course": course}
    print(f"seed {seed}  {row['step_sizes']!s:8} {sum(row['accuracies']) / held_out_tasks:.3f}", flush=True)
    return row


def _measured(learner: Learner, tasks: TaskBatch) -> dict[str, list[float]]:
    """Accuracy and query loss of each task after the last step."""
    result = evaluate(learner, tasks)
    assert result.accuracies is not None
    values = {"accuracies": result.accuracies[-1], "losses": result.losses[-1]}  # (tasks,) each
    return {name: [round(x, 4) for x in value.tolist()] for name, value in values.items()}


def _moved(learner: Learner, tasks: TaskBatch, how_many: int = 50) -> dict[str, float]:
    """How far the inner loop moves each tensor, as a share of its length; mean over tasks."""
    shares: dict[str, list[float]] = {}
    for x, y in zip(tasks.support_x[:how_many], tasks.support_y[:how_many], strict=True):
        path = learner.adapt(x, y)
        for name, first in path[0].items():
            shares.setdefault(name, []).append(((path[-1][name] - first).norm() / first.norm()).item())
    return {name: round(sum(values) / len(values), 4) for name, values in shares.items()}


def _rounded(alpha: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: [round(x, 4) for x in rates.tolist()] for name, rates in alpha.items()}


def main() -> None:
    """Run everything, then write ``step-sizes.json``."""
    parser = parser_for(__doc__, "record")
    parser.add_argument("--seeds", type=int, default=3, help="how many; default: %(default)s")
    parser.add_argument("--outer-steps", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--held-out-tasks", type=int, default=HELD_OUT_TASKS, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parse(parser)
    runs = list(itertools.product(range(options.seeds), (None, *FIXED_RATES)))
    glyphs()  # loaded once, before processes share them
    rows = run_all(train, runs, options.processes, options.outer_steps, options.held_out_tasks)
    record = {
        "command": command("step_sizes"),
        "seeds": options.seeds,
        "outer_steps": options.outer_steps,
        "meta_batch": META_BATCH,
        "ways": WAYS,
        "shots": SHOTS,
        "queries": QUERIES,
        "filters": FILTERS,
        "inner_steps": INNER_STEPS,
        "first_rate": FIRST_RATE,
        "fixed_rates": FIXED_RATES,
        "outer_lr": OUTER_LR,
        "held_out_tasks": options.held_out_tasks,
        "versions": versions(),
    }
    save_record(options.out / "step-sizes.json", record, rows)


if __name__ == "__main__":
    main()
