"""Train with schedules of order and of the outer rate on sinusoids, eight seeds at once: the record behind chapter 10.

    python -m mamlkit.recipes.schedules --out mamlkit/records

*Order*: first order before second, in plans that all take the same time if a first-order step takes half of a second-order one
(``time`` counts second-order steps). *Rate*: a constant outer rate beside a cosine that starts from it, for several rates;
judged several times in the last outer steps. All runs with a seed share initial weights and tasks; all are judged on the same
held-out tasks. Losses are means over these tasks, one for each seed. Float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mamlkit._version import versions
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.models import mlp
from mamlkit.recipes.frame import InFloat64, command, parse, parser_for, run_all
from mamlkit.recipes.shipping import save_record
from mamlkit.tasks import TaskStream

SEEDS = 8
SHOTS, META_BATCH, INNER_RATE = 10, 5, 0.01
HELD_OUT_TASKS, HELD_OUT_QUERIES, HELD_OUT_SEED = 200, 20, 99
#: Of the plans of order: inner steps, outer rates, when they are judged, and their (first-order, second-order) outer steps.
ORDER_STEPS, ORDER_RATES = 5, (0.003, 0.01)
TIMES = (20, 40, 80, 160, 240, 320, 400)
PLANS = {"all second": (0, 400), "400 + 200": (400, 200), "all first": (800, 0)}
#: Of the outer rates: inner steps, outer steps of a run, where a cosine ends, and when a run is judged before its end.
RATE_STEPS, OUTER_STEPS, FINAL_RATE = 1, 300, 1e-5
RATES = (0.003, 0.01, 0.03, 0.06)
BEFORE_THE_END = (50, 40, 30, 20, 10, 0)


@cache
def batch(step: int) -> list[Tensor]:
    """The meta-batches of every seed: four tensors (seeds, tasks, points, 1)."""
    source = InFloat64(Sinusoids(SHOTS, SHOTS))
    parts = (TaskStream(source, META_BATCH, seed=seed).batch(step) for seed in range(SEEDS))
    return [torch.stack(part) for part in zip(*parts, strict=True)]


def initial_weights() -> list[Tensor]:
    """1-40-40-1 of every seed: weights (seeds, 1, in, out), biases (seeds, 1, 1, out)."""
    networks = [list(mlp(seed=seed).double().parameters()) for seed in range(SEEDS)]
    stacked = [torch.stack([p.detach() for p in of_all]) for of_all in zip(*networks, strict=True)]
    shaped = [p.mT[:, None] if p.ndim == 3 else p[:, None, None] for p in stacked]
    return [p.contiguous().requires_grad_() for p in shaped]


def losses(weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of every seed and task: (seeds, tasks)."""
    for i in (0, 2):
        x = torch.relu(x @ weights[i] + weights[i + 1])
    return (x @ weights[4] + weights[5] - y).square().mean((2, 3))


def adapt(weights: Sequence[Tensor], x: Tensor, y: Tensor, inner_steps: int, order: int) -> list[Tensor]:
    """The weights of every seed and task after the inner steps."""
    adapted = [w.expand(-1, x.shape[-3], -1, -1) for w in weights]
    for _ in range(inner_steps):
        slopes = torch.autograd.grad(losses(adapted, x, y).sum(), adapted, create_graph=order == 2)
        adapted = [w - INNER_RATE * slope for w, slope in zip(adapted, slopes, strict=True)]
    return adapted


def train(
    outer_steps: int,
    inner_steps: int,
    order_at: Callable[[int], int],
    rate_at: Callable[[int], float],
    judged: Sequence[int],
) -> list[list[float]]:
    """All seeds at once; for each outer step in ``judged`` the held-out loss of every seed."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    held_out = InFloat64(Sinusoids(SHOTS, HELD_OUT_QUERIES)).sample(
        HELD_OUT_TASKS, torch.Generator().manual_seed(HELD_OUT_SEED)
    )
    weights, found = initial_weights(), []
    optimiser = torch.optim.Adam(weights)
    for step in range(outer_steps):
        sx, sy, qx, qy = batch(step)
        adapted = adapt(weights, sx, sy, inner_steps, order_at(step))
        optimiser.zero_grad()
        losses(adapted, qx, qy).mean(1).sum().backward()  # the seeds do not meet
        optimiser.param_groups[0]["lr"] = rate_at(step)
        optimiser.step()
        if step + 1 in judged:
            after = adapt(weights, held_out.support_x, held_out.support_y, inner_steps, order=1)
            found.append([round(x, 6) for x in losses(after, held_out.query_x, held_out.query_y).mean(1).tolist()])
    return found


def step_at(time: int, first: int) -> int:
    """Outer steps done by a time, when a first-order step takes half of a second-order one."""
    return min(2 * time, first) + max(0, time - first // 2)


def order_rows(plan: str, outer_lr: float) -> list[dict[str, Any]]:
    """A row for each time at which this plan is judged."""
    first, second = PLANS[plan]
    judged = [step_at(time, first) for time in TIMES]
    found = train(first + second, ORDER_STEPS, lambda i: 1 if i < first else 2, lambda i: outer_lr, judged)
    rows = zip(TIMES, judged, found, strict=True)
    return [
        {"plan": plan, "outer_lr": outer_lr, "time": time, "outer_step": step, "loss": loss}
        for time, step, loss in rows
    ]


def rate_rows(schedule: str, rate: float) -> list[dict[str, Any]]:
    """A row for each of the last outer steps in which this run is judged."""

    def rate_at(i: int) -> float:
        if schedule == "constant":
            return rate
        return FINAL_RATE + 0.5 * (rate - FINAL_RATE) * (1 + math.cos(math.pi * i / OUTER_STEPS))

    judged = [OUTER_STEPS - before for before in BEFORE_THE_END]
    found = train(OUTER_STEPS, RATE_STEPS, lambda i: 2, rate_at, judged)
    which = {"schedule": schedule, "rate": rate}
    return [{**which, "outer_step": step, "loss": loss} for step, loss in zip(judged, found, strict=True)]


def rows_of(run: tuple[Any, ...]) -> list[dict[str, Any]]:
    """The rows of one run: ``("order", plan, outer rate)`` or ``("rate", schedule, rate)``."""
    kind, *which = run
    rows = order_rows(*which) if kind == "order" else rate_rows(*which)
    print(*run, *(f"{x:.2f}" for x in rows[-1]["loss"]), flush=True)
    return rows


def main() -> None:
    """Run everything, then write ``schedules.json``."""
    parser = parser_for(__doc__, "record")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parse(parser)
    runs: list[tuple[Any, ...]] = [("order", plan, rate) for rate in ORDER_RATES for plan in PLANS]
    runs += [("rate", name, rate) for rate in RATES for name in ("constant", "cosine")]
    results = run_all(rows_of, [(run,) for run in runs], options.processes)
    record = {
        "command": command("schedules"),
        "seeds": SEEDS,
        "shots": SHOTS,
        "meta_batch": META_BATCH,
        "inner_rate": INNER_RATE,
        "order": {"inner_steps": ORDER_STEPS, "outer_rates": ORDER_RATES},
        "rate": {"inner_steps": RATE_STEPS, "outer_steps": OUTER_STEPS, "final_outer_lr": FINAL_RATE},
        "held_out_tasks": HELD_OUT_TASKS,
        "held_out_queries": HELD_OUT_QUERIES,
        "versions": versions(),
    }
    save_record(options.out / "schedules.json", record, [row for rows in results for row in rows])


if __name__ == "__main__":
    main()
