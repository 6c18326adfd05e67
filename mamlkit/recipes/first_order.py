"""Train sinusoids with MAML, FOMAML and Reptile, over seeds: the record behind chapter 4's race.

    python -m mamlkit.recipes.first_order --out mamlkit/records

For each seed the three share the initial weights and the stream of tasks; all are judged on the same held-out tasks, many times
during training. Everything else is as plain as possible: one fixed inner rate, Adam at a constant rate, float64. The settings are
MAML's usual ones, and nothing is tuned for the other two (Finn et al., 2017, section 5.2; Nichol et al., 2018).
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from mamlkit._version import versions
from mamlkit.algorithms import fomaml, maml, reptile
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.evaluation import evaluate
from mamlkit.models import mlp
from mamlkit.recipes.shipping import save_record
from mamlkit.tasks import TaskBatch, TaskStream

LEARNERS = {"maml": maml, "fomaml": fomaml, "reptile": reptile}
SHOTS, META_BATCH, INNER_STEPS, INNER_LR, OUTER_LR = 10, 10, 3, 0.01, 5e-3
#: The held-out loss is measured after so many outer steps. Each number has its 1.5-fold beside it, for a race in equal time.
STOPS = (50, 100, 150, 200, 300, 400, 600, 900, 1000, 1500)
HELD_OUT_TASKS, HELD_OUT_QUERIES, HELD_OUT_SEED = 200, 100, 99


def train(seed: int, name: str) -> list[dict[str, Any]]:
    """One run; a row of results at each stop: the mean held-out loss after 0, 1, ..., 2 K inner steps."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    held_out = doubled(
        Sinusoids(SHOTS, HELD_OUT_QUERIES).sample(HELD_OUT_TASKS, torch.Generator().manual_seed(HELD_OUT_SEED))
    )
    learner = LEARNERS[name](mlp(seed=seed).double(), loss=F.mse_loss, inner_steps=INNER_STEPS, inner_lr=INNER_LR)
    optimiser = torch.optim.Adam(learner.parameters(), lr=OUTER_LR)
    rows: list[dict[str, Any]] = []
    stream = TaskStream(Sinusoids(SHOTS, SHOTS), META_BATCH, seed=seed)
    for step, tasks in enumerate(itertools.islice(stream, max(STOPS)), start=1):
        optimiser.zero_grad()
        learner.meta_backward(doubled(tasks))
        optimiser.step()
        if step in STOPS:
            losses = evaluate(learner, held_out, steps=2 * INNER_STEPS).losses.mean(1)  # (2 K + 1,)
            loss = [round(x, 6) for x in losses.tolist()]
            rows.append({"seed": seed, "learner": name, "outer_step": step, "loss": loss})
    print(f"seed {seed}  {name:8} {rows[-1]['loss'][INNER_STEPS]:.4f}", flush=True)
    return rows


def doubled(tasks: TaskBatch) -> TaskBatch:
    """The same tasks in float64."""
    return TaskBatch(*(tensor.double() for tensor in tasks))


def main() -> None:
    """Run everything, then write ``first-order.json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the record; it must exist")
    parser.add_argument("--seeds", type=int, default=8, help="how many; default: %(default)s")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parser.parse_args()
    if not options.out.is_dir():
        parser.error(f"expected --out to be an existing folder, got {options.out}")
    runs = list(itertools.product(range(options.seeds), LEARNERS))
    if options.processes == 1:
        results = list(itertools.starmap(train, runs))
    else:  # a run does not depend on which process makes it
        with ProcessPoolExecutor(options.processes) as pool:
            results = list(pool.map(train, *zip(*runs, strict=True)))
    record = {
        "command": f"python -m mamlkit.recipes.first_order {shlex.join(sys.argv[1:])}",
        "seeds": options.seeds,
        "meta_batch": META_BATCH,
        "shots": SHOTS,
        "inner_steps": INNER_STEPS,
        "inner_lr": INNER_LR,
        "outer_lr": OUTER_LR,
        "held_out_tasks": HELD_OUT_TASKS,
        "held_out_queries": HELD_OUT_QUERIES,
        "versions": versions(),
    }
    save_record(options.out / "first-order.json", record, [row for rows in results for row in rows])


if __name__ == "__main__":
    main()
