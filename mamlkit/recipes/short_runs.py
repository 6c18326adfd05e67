"""Train sinusoid networks for as few outer steps as chapters 6 and 13 ask for: at three inner rates, and by iMAML.

    python -m mamlkit.recipes.short_runs --out mamlkit/weights

*Rates*: MAML with five inner steps of 0.003, 0.01 or 0.03. *iMAML* with twenty inner steps and lambda = 2, beside MAML with five.
For each seed, runs that are compared share the initial weights and the stream of tasks. Adam has one constant rate; everything is
float64. A file holds one way of training, with a leading axis for the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mamlkit._version import versions
from mamlkit.algorithms import imaml, maml
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.learners import Learner
from mamlkit.models import mlp
from mamlkit.recipes.frame import command, outer_loop, parse, parser_for
from mamlkit.recipes.shipping import save_weights
from mamlkit.tasks import TaskStream

SHOTS, META_BATCH = 10, 10
RATES = (0.003, 0.01, 0.03)


@dataclass(frozen=True)
class Way:
    """One way of training: what makes the learner, and its settings."""

    make: Callable[..., Learner]
    seeds: int
    outer_steps: int
    outer_lr: float
    inner_steps: int
    inner_lr: float
    options: dict[str, float] = field(default_factory=dict)


WAYS = {
    **{f"sinusoid-short-rate-{rate}": Way(maml, 5, 150, 3e-3, 5, rate) for rate in RATES},
    "sinusoid-short-maml": Way(maml, 3, 100, 5e-3, 5, 0.02),
    "sinusoid-short-imaml": Way(imaml, 3, 100, 5e-3, 20, 0.02, {"regularisation": 2.0}),
}
"""What is trained, by the name of its file."""


def train(way: Way, seed: int) -> dict[str, Tensor]:
    """The initialisation that one run ends with; weights and tasks are drawn in float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = mlp(seed=seed)
        learner = way.make(model, loss=F.mse_loss, inner_steps=way.inner_steps, inner_lr=way.inner_lr, **way.options)
        optimiser = torch.optim.Adam(learner.parameters(), lr=way.outer_lr)
        stream = TaskStream(Sinusoids(shots=SHOTS, queries=SHOTS), META_BATCH, seed=seed)
        for _ in outer_loop(learner.meta_backward, optimiser, stream, way.outer_steps):
            pass
        return model.state_dict()
    finally:
        torch.set_default_dtype(before)


def main() -> None:
    """Train, then write ``NAME.safetensors`` and ``NAME.json`` for each way."""
    options = parse(parser_for(__doc__, "weights"))
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    for name, way in WAYS.items():
        print(name, flush=True)
        states = [train(way, seed) for seed in range(way.seeds)]
        tensors = {key: torch.stack([state[key] for state in states]) for key in states[0]}  # (seeds, ...)
        record: dict[str, Any] = {
            "command": command("short_runs"),
            "seeds": way.seeds,
            "outer_steps": way.outer_steps,
            "meta_batch": META_BATCH,
            "shots": SHOTS,
            "inner_steps": way.inner_steps,
            "inner_lr": way.inner_lr,
            **way.options,
            "outer_lr": way.outer_lr,
            "versions": versions(),
        }
        save_weights(options.out, name, tensors, record)


if __name__ == "__main__":
    main()
