"""Train the small networks that chapter 9 measures: two ways to treat batch norm's weights in the inner loop, over seeds.

    python -m mamlkit.recipes.batch_norm --out mamlkit/weights

MAML on glyphs, 5-way 1-shot, with a strided conv4 of 8 filters: the weights of batch norm are adapted like all others, or
there is a row of them for each inner step (BNWB, Antoniou et al., 2019). For each seed the two share the initial weights and
the stream of tasks. Everything else is as plain as possible: one fixed inner rate, the loss after the last step, second order,
float64, and Adam at one constant rate. A file holds one version, with a leading axis for the seed, rounded to float32.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from mamlkit._version import versions
from mamlkit.algorithms import maml, maml_plus_plus
from mamlkit.data.glyphs import glyphs
from mamlkit.learners import Learner
from mamlkit.models import conv4
from mamlkit.recipes.frame import InFloat64, command, parse, parser_for, run_all
from mamlkit.recipes.shipping import save_weights
from mamlkit.training import TrainingOptions, fit

VERSIONS = ("adapted", "per-step")
WAYS, SHOTS, QUERIES, FILTERS, INNER_STEPS, INNER_LR, META_BATCH, OUTER_LR = 5, 1, 3, 8, 3, 0.4, 4, 0.01


def learner_with(version: str, seed: int) -> Learner:
    """MAML with one of the two versions of batch norm's weights, and nothing else of MAML++."""
    model = conv4(WAYS, filters=FILTERS, downsample="stride", seed=seed).double()
    if version == "adapted":
        return maml(model, inner_steps=INNER_STEPS, inner_lr=INNER_LR)
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
    options = TrainingOptions(
        epochs=1,
        steps_per_epoch=outer_steps,
        meta_batch=META_BATCH,
        outer_lr=OUTER_LR,
        cosine=False,
        log_every=50,
        seed=seed,
    )
    history = fit(learner, InFloat64(glyphs(ways=WAYS, shots=SHOTS, queries=QUERIES)), options=options)
    print(f"{version:8}  seed {seed}  last meta-losses {history.rows[-1]['meta_loss']:.3f}", flush=True)
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in learner.state_dict().items()
    }


def main() -> None:
    """Train everything, then write ``glyph-batch-norm-VERSION.safetensors`` and its record for each version."""
    parser = parser_for(__doc__, "weights")
    parser.add_argument("--seeds", type=int, default=8, help="how many; default: %(default)s")
    parser.add_argument("--outer-steps", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parse(parser)
    runs = list(itertools.product(VERSIONS, range(options.seeds)))
    glyphs()  # loaded once, before processes share them
    found = run_all(train, runs, options.processes, options.outer_steps)
    for version in VERSIONS:
        of_seeds = [state for (name, _), state in zip(runs, found, strict=True) if name == version]
        weights = {name: torch.stack([state[name] for state in of_seeds]) for name in of_seeds[0]}  # (seeds, ...)
        record = {
            "command": command("batch_norm"),
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
