"""Train sinusoid networks with five inner steps until they have learnt: what chapters 6 to 8 rest on.

    python -m mamlkit.recipes.five_steps --out mamlkit --work runs/five-steps.pt

Three outer losses (only the last step, the plain mean over the steps, annealed weights), five seeds each. For each seed the
three share the initial weights and the stream of tasks. The inner rate is the paper's 0.01, with 10 support and 10 query points,
25 tasks per meta-batch, full second order, and Adam at 1e-3, which falls as a cosine in the last third. Besides weights it keeps
the course of the meta-loss and of the meta-gradient's length, and the first part of that course with one and with two steps.

A run stops and goes on with the same command; ``--work`` names the file that it goes on from.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from mamlkit._version import versions
from mamlkit.algorithms import maml_plus_plus
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.meta_gradient import Engine
from mamlkit.models import mlp
from mamlkit.recipes.frame import command
from mamlkit.recipes.shipping import save_record, save_weights
from mamlkit.tasks import TaskStream

#: The three outer losses by name, as ``maml_plus_plus`` takes them.
OUTER_LOSSES = {"last": None, "mean": "uniform", "annealed": "annealed"}
SHOTS, META_BATCH, INNER_STEPS, INNER_LR, OUTER_LR = 10, 25, 5, 0.01, 1e-3
EPOCH, ANNEALING_EPOCHS, CONSTANT = 100, 20, 2 / 3  # outer steps; epochs; share of training before the cosine
BLOCK = 50  # outer steps per point of the courses
SPIKE = 5  # times the median of its block


class Run:
    """One training, one epoch at a time, with the course of its meta-loss and of its meta-gradient's length."""

    def __init__(self, outer_loss: str, inner_steps: int, seed: int, engine: str = "compiled") -> None:
        self.which = {"outer_loss": outer_loss, "inner_steps": inner_steps, "seed": seed}
        self.learner = maml_plus_plus(
            mlp(seed=seed),
            loss=F.mse_loss,
            inner_steps=inner_steps,
            inner_lr=INNER_LR,
            multi_step_loss=OUTER_LOSSES[outer_loss],  # type: ignore[arg-type]
            annealing_epochs=ANNEALING_EPOCHS,
            step_sizes="fixed",
            engine=engine,
        )
        self.optimiser = torch.optim.Adam(self.learner.parameters(), lr=OUTER_LR)
        self.stream = TaskStream(Sinusoids(SHOTS, SHOTS), META_BATCH, seed=seed)
        self.course: dict[str, list[float]] = {"loss": [], "norm": [], "largest": [], "spikes": []}

    def train_epoch(self, outer_steps: int) -> None:
        """One more epoch of a training of this length."""
        self.learner.epoch = self.stream.position // EPOCH
        values = []
        for tasks in itertools.islice(self.stream, EPOCH):
            done = (self.stream.position - 1) / outer_steps
            falling = max(0.0, (done - CONSTANT) / (1 - CONSTANT))
            self.optimiser.param_groups[0]["lr"] = OUTER_LR * (1 + math.cos(math.pi * falling)) / 2
            self.optimiser.zero_grad()
            loss = self.learner.meta_backward(tasks)
            lengths = [p.grad.norm() for p in self.learner.parameters() if p.grad is not None]
            values.append([loss.item(), torch.stack(lengths).norm().item()])
            self.optimiser.step()
        for block in torch.tensor(values).split(BLOCK):  # (BLOCK, 2)
            losses, norms = block.T
            middle, largest = norms.median().item(), norms.max().item()
            spikes = (norms > SPIKE * middle).sum().item()
            for name, value in zip(self.course, (losses.mean().item(), middle, largest, spikes), strict=True):
                self.course[name].append(round(value, 4))

    def state(self) -> dict[str, Any]:
        """The state that ``resume`` goes on from."""
        parts = {"learner": self.learner.state_dict(), "optimiser": self.optimiser.state_dict()}
        return {"which": self.which, **parts, "position": self.stream.position, "course": self.course}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.learner.load_state_dict(state["learner"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.stream.position, self.course = state["position"], state["course"]


def main() -> None:
    """Train all runs side by side, then write weights and record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder with the folders weights and records")
    parser.add_argument("--work", type=Path, required=True, help="file to go on from; made where it is missing")
    parser.add_argument("--seeds", type=int, default=5, help="how many; default: %(default)s")
    parser.add_argument("--outer-steps", type=int, default=6_000, help="default: %(default)s")
    parser.add_argument("--short", type=int, default=1_000, help="with one and two inner steps; default: %(default)s")
    options = parser.parse_args()
    for folder in (options.out / "weights", options.out / "records"):
        if not folder.is_dir():
            parser.error(f"expected --out to have the folders weights and records, got {options.out}")
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    long = [Run(name, INNER_STEPS, seed) for seed in range(options.seeds) for name in OUTER_LOSSES]
    short = [Run("last", steps, seed) for steps in (1, 2) for seed in range(options.seeds)]
    share_programs(long + short)
    if options.work.exists():
        for run, state in zip(long + short, torch.load(options.work), strict=True):
            run.resume(state)
    for runs, outer_steps in ((long, options.outer_steps), (short, options.short)):
        for epoch in range(outer_steps // EPOCH):
            started = time.perf_counter()
            for run in runs:
                if run.stream.position == epoch * EPOCH:
                    run.train_epoch(options.outer_steps)
            torch.save([run.state() for run in long + short], options.work)
            found = " ".join(f"{run.course['loss'][epoch * EPOCH // BLOCK]:.2f}" for run in runs)
            print(f"epoch {epoch}  {found}  {time.perf_counter() - started:.0f} s", flush=True)
    record = {
        "command": command("five_steps"),
        "seeds": options.seeds,
        "outer_steps": options.outer_steps,
        "steps_per_epoch": EPOCH,
        "annealing_epochs": ANNEALING_EPOCHS,
        "meta_batch": META_BATCH,
        "shots": SHOTS,
        "inner_steps": INNER_STEPS,
        "inner_lr": INNER_LR,
        "outer_lr": OUTER_LR,
        "constant_share": round(CONSTANT, 3),
        "versions": versions(),
    }
    for name in OUTER_LOSSES:
        states = [run.learner.model.state_dict() for run in long if run.which["outer_loss"] == name]
        tensors = {key: torch.stack([state[key] for state in states]) for key in states[0]}  # (seeds, ...)
        save_weights(options.out / "weights", f"sinusoid-five-steps-{name}", tensors, record | {"outer_loss": name})
    record |= {"outer_steps_short": options.short, "block": BLOCK, "spike": SPIKE}
    save_record(options.out / "records" / "five-steps.json", record, [run.which | run.course for run in long + short])


def share_programs(runs: list[Run]) -> None:
    """Compile once for each number of inner steps: the program takes the weights as arguments."""
    engines: dict[int, Engine] = {}
    for run in runs:
        run.learner.engine = engines.setdefault(run.learner.inner_steps, run.learner.engine)


if __name__ == "__main__":
    main()
