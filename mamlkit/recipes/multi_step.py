"""Compare three outer losses on sinusoids, over seeds: the record behind chapter 7.

    python -m mamlkit.recipes.multi_step --out mamlkit/records

MAML (only the last step), the plain mean over the steps, and the annealed weights of MAML++ (Antoniou et al., 2019). For each
seed the three share the initial weights and the stream of tasks; all are judged on the same held-out tasks. The inner rate is the
paper's 0.01, or 0.05, which is too large for comfort. Everything else is as plain as possible: one fixed inner rate, Adam at a
constant rate, full second order, float64.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.nn import functional as F

from mamlkit._version import versions
from mamlkit.algorithms import maml_plus_plus
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.evaluation import evaluate
from mamlkit.learners import Learner
from mamlkit.models import mlp
from mamlkit.recipes.frame import InFloat64, command, outer_loop, parse, parser_for, run_all
from mamlkit.recipes.shipping import save_record
from mamlkit.tasks import TaskBatch, TaskStream

#: The three outer losses by name, as ``maml_plus_plus`` takes them.
OUTER_LOSSES = {"last step": None, "plain mean": "uniform", "annealed": "annealed"}
INNER_RATES = (0.01, 0.05)
SHOTS, META_BATCH, INNER_STEPS, OUTER_LR = 10, 10, 5, 3e-3
EPOCHS, ANNEALING_EPOCHS = 20, 10
HELD_OUT_TASKS, HELD_OUT_QUERIES, HELD_OUT_SEED = 400, 50, 99


def learner_with(outer_loss: str, inner_lr: float, seed: int) -> Learner:
    """MAML with one of the three outer losses, and nothing else of MAML++."""
    return maml_plus_plus(
        mlp(seed=seed).double(),
        loss=F.mse_loss,
        inner_steps=INNER_STEPS,
        inner_lr=inner_lr,
        multi_step_loss=OUTER_LOSSES[outer_loss],  # type: ignore[arg-type]
        annealing_epochs=ANNEALING_EPOCHS,
        step_sizes="fixed",
    )


def train(inner_lr: float, seed: int, outer_loss: str, steps_per_epoch: int) -> list[dict[str, Any]]:
    """One run; a row of results after a quarter, a half and all of its epochs."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    judge = InFloat64(Sinusoids(SHOTS, HELD_OUT_QUERIES))
    held_out = judge.sample(HELD_OUT_TASKS, torch.Generator().manual_seed(HELD_OUT_SEED))
    learner, rows = learner_with(outer_loss, inner_lr, seed), []
    optimiser = torch.optim.Adam(learner.parameters(), lr=OUTER_LR)
    outer_steps = EPOCHS * steps_per_epoch
    stops = {round(share * outer_steps) for share in (0.25, 0.5, 1.0)}
    stream = TaskStream(InFloat64(Sinusoids(SHOTS, SHOTS)), META_BATCH, seed=seed)
    for step, _ in outer_loop(learner.meta_backward, optimiser, stream, outer_steps):
        if step in stops:
            which = {"inner_lr": inner_lr, "seed": seed, "outer_loss": outer_loss, "outer_step": step}
            rows.append({**which, **measure(learner, held_out)})
        learner.epoch = step // steps_per_epoch  # of the next outer step
    print(f"alpha {inner_lr}  seed {seed}  {outer_loss:11} {rows[-1]['loss'][-1]:.4f}", flush=True)
    return rows


def measure(learner: Learner, held_out: TaskBatch) -> dict[str, Any]:
    """Mean and standard deviation over tasks after 0, 1, ..., K steps; the share of tasks whose loss rises in some step."""
    losses = evaluate(learner, held_out).losses  # (K + 1, tasks)
    rises = (losses[1:] > losses[:-1]).any(0).double().mean()  # ()
    digits = {"loss": losses.mean(1), "deviation": losses.std(1)}  # (K + 1,) each
    return {key: [round(x, 6) for x in row.tolist()] for key, row in digits.items()} | {"rises": round(rises.item(), 6)}


def main() -> None:
    """Run everything, then write ``multi-step.json``."""
    parser = parser_for(__doc__, "record")
    parser.add_argument("--seeds", type=int, default=6, help="how many; default: %(default)s")
    parser.add_argument("--steps-per-epoch", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parse(parser)
    runs = list(itertools.product(INNER_RATES, range(options.seeds), OUTER_LOSSES))
    results = run_all(train, runs, options.processes, options.steps_per_epoch)
    record = {
        "command": command("multi_step"),
        "seeds": options.seeds,
        "epochs": EPOCHS,
        "steps_per_epoch": options.steps_per_epoch,
        "annealing_epochs": ANNEALING_EPOCHS,
        "meta_batch": META_BATCH,
        "shots": SHOTS,
        "inner_steps": INNER_STEPS,
        "inner_rates": INNER_RATES,
        "outer_lr": OUTER_LR,
        "held_out_tasks": HELD_OUT_TASKS,
        "held_out_queries": HELD_OUT_QUERIES,
        "versions": versions(),
    }
    save_record(options.out / "multi-step.json", record, [row for rows in results for row in rows])


if __name__ == "__main__":
    main()
