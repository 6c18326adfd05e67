"""Train the small networks that chapter 9 measures: three ways to treat batch norm's weights in the inner loop, over seeds.

    python -m mamlkit.recipes.batch_norm --out mamlkit/weights

MAML on glyphs, 5-way 1-shot, with a strided conv4 of 8 filters: the weights of batch norm are adapted like all others, or kept,
or there is a row of them for each inner step (BNWB, Antoniou et al., 2019). For each seed the three share the initial weights and
the stream of tasks. Everything else is as plain as possible: one fixed inner rate, the loss after the last step, second order,
float64, and Adam at one constant rate. A file holds one version, with a leading axis for the seed, rounded to float32.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from mamlkit._version import versions
from mamlkit.batch_norm import PerStepBatchNorm
from mamlkit.glyphs import glyphs
from mamlkit.learners import Learner, anil, maml, maml_plus_plus
from mamlkit.models import conv4
from mamlkit.recipes.shipping import save_weights
from mamlkit.tasks import TaskStream

VERSIONS = ("adapted", "kept", "per-step")
WAYS, SHOTS, QUERIES, FILTERS, INNER_STEPS, INNER_LR, META_BATCH, OUTER_LR = 5, 1, 3, 8, 3, 0.4, 4, 0.01


def learner_with(version: str, seed: int) -> Learner:
    """MAML with one of the three versions of batch norm's weights, and nothing else of MAML++."""
    model = conv4(WAYS, filters=FILTERS, downsample="stride", seed=seed).double()
    if version == "adapted":
        return maml(model, inner_steps=INNER_STEPS, inner_lr=INNER_LR)
    if version == "kept":
        norms = PerStepBatchNorm(model, INNER_STEPS, weights=True, statistics=False).weight_names
        names = [name for name, _ in model.named_parameters() if name not in norms]
        return anil(model, adapted=names, inner_steps=INNER_STEPS, inner_lr=INNER_LR)
    return maml_plus_plus(
        model,
        inner_steps=INNER_STEPS,
        inner_lr=INNER_LR,
        step_sizes="fixed",
        multi_step_loss=None,
        per_step_weights=True,
    )


def train(version: str, seed: int, outer_steps: int) -> dict[str, Tensor]:
    """One run: what ``learner.load_state_dict`` takes, in float32."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    learner = learner_with(version, seed)
    optimiser = torch.optim.Adam(learner.parameters(), lr=OUTER_LR)
    stream = TaskStream(glyphs(ways=WAYS, shots=SHOTS, queries=QUERIES), META_BATCH, seed=seed)
    losses = []
    for tasks in itertools.islice(stream, outer_steps):
        optimiser.zero_grad()
        images = {"support_x": tasks.support_x.double(), "query_x": tasks.query_x.double()}
        losses.append(learner.meta_backward(tasks._replace(**images)).item())
        optimiser.step()
    print(f"{version:8}  seed {seed}  last meta-losses {sum(losses[-50:]) / len(losses[-50:]):.3f}", flush=True)
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in learner.state_dict().items()
    }


def main() -> None:
    """Train everything, then write ``glyph-batch-norm-VERSION.safetensors`` and its record for each version."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights; it must exist")
    parser.add_argument("--seeds", type=int, default=8, help="how many; default: %(default)s")
    parser.add_argument("--outer-steps", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parser.parse_args()
    if not options.out.is_dir():
        parser.error(f"expected --out to be an existing folder, got {options.out}")
    runs = list(itertools.product(VERSIONS, range(options.seeds)))
    arguments = (*zip(*runs, strict=True), itertools.repeat(options.outer_steps))
    glyphs()  # loaded once, before processes share them
    if options.processes == 1:
        found = list(map(train, *arguments))
    else:  # a run does not depend on which process makes it
        with ProcessPoolExecutor(options.processes) as pool:
            found = list(pool.map(train, *arguments))
    for version in VERSIONS:
        of_seeds = [state for (name, _), state in zip(runs, found, strict=True) if name == version]
        weights = {name: torch.stack([state[name] for state in of_seeds]) for name in of_seeds[0]}  # (seeds, ...)
        record = {
            "command": f"python -m mamlkit.recipes.batch_norm {shlex.join(sys.argv[1:])}",
            "seeds": options.seeds,
            "version": version,
            "outer_steps": options.outer_steps,
            "ways": WAYS,
            "shots": SHOTS,
            "queries": QUERIES,
            "filters": FILTERS,
            "inner_steps": INNER_STEPS,
            "inner_lr": INNER_LR,
            "meta_batch": META_BATCH,
            "outer_lr": OUTER_LR,
            "versions": versions(),
        }
        save_weights(options.out, f"glyph-batch-norm-{version}", weights, record)


if __name__ == "__main__":
    main()
