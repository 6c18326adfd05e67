"""Train sinusoids with MAML, FOMAML and Reptile, over seeds: the record behind chapter 4's race.

    python -m mamlkit.recipes.first_order --out mamlkit/records

For each seed the three share the initial weights and the stream of tasks; all are judged on the same held-out tasks, many times
during training. Everything else is as plain as possible: one fixed inner rate, Adam at a constant rate, float64. The settings are
MAML's usual ones, and nothing is tuned for the other two (Finn et al., 2017, section 5.2; Nichol et al., 2018).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.nn import functional as F

from mamlkit._version import versions
from mamlkit.algorithms import fomaml, maml, reptile
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.evaluation import evaluate
from mamlkit.models import mlp
from mamlkit.recipes.frame import InFloat64, command, outer_loop, parse, parser_for, run_all
from mamlkit.recipes.shipping import save_record
from mamlkit.tasks import TaskStream

LEARNERS = {"maml": maml, "fomaml": fomaml, "reptile": reptile}
SHOTS, META_BATCH, INNER_STEPS, INNER_LR, OUTER_LR = 10, 10, 3, 0.01, 5e-3
#: The held-out loss is measured after these outer steps. Each number has its 1.5-fold beside it, for a race in equal time.
STOPS = (50, 100, 150, 200, 300, 400, 600, 900, 1000, 1500)
HELD_OUT_TASKS, HELD_OUT_QUERIES, HELD_OUT_SEED = 200, 100, 99


def train(seed: int, name: str) -> list[dict[str, Any]]:
    """One run; a row of results at each stop: the mean held-out loss after 0, 1, ..., 2 K inner steps."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    judge = InFloat64(Sinusoids(SHOTS, HELD_OUT_QUERIES))
    held_out = judge.sample(HELD_OUT_TASKS, torch.Generator().manual_seed(HELD_OUT_SEED))
    learner = LEARNERS[name](mlp(seed=seed).double(), loss=F.mse_loss, inner_steps=INNER_STEPS, inner_lr=INNER_LR)
    optimiser = torch.optim.Adam(learner.parameters(), lr=OUTER_LR)
    rows: list[dict[str, Any]] = []
    stream = TaskStream(InFloat64(Sinusoids(SHOTS, SHOTS)), META_BATCH, seed=seed)
    for step, _ in outer_loop(learner.meta_backward, optimiser, stream, max(STOPS)):
        if step in STOPS:
            losses = evaluate(learner, held_out, steps=2 * INNER_STEPS).losses.mean(1)  # (2 K + 1,)
            loss = [round(x, 6) for x in losses.tolist()]
            rows.append({"seed": seed, "learner": name, "outer_step": step, "loss": loss})
    print(f"seed {seed}  {name:8} {rows[-1]['loss'][INNER_STEPS]:.4f}", flush=True)
    return rows


def main() -> None:
    """Run everything, then write ``first-order.json``."""
    parser = parser_for(__doc__, "record")
    parser.add_argument("--seeds", type=int, default=8, help="how many; default: %(default)s")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parse(parser)
    results = run_all(train, list(itertools.product(range(options.seeds), LEARNERS)), options.processes)
    record = {
        "command": command("first_order"),
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
