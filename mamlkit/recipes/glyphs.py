"""Train the network that answers in the live figure of chapter 5: MAML on glyphs, 5-way 1-shot.

    python -m mamlkit.recipes.glyphs --out mamlkit/weights

Strided conv4 with 32 filters, one inner step of 0.4 (as Finn et al., 2017, on 5-way Omniglot), 4 tasks per meta-batch with 5
query images per class, 3,000 outer steps of Adam from 3e-3 down half a cosine to 1e-4.
"""

from __future__ import annotations

import torch
from torch import nn

from mamlkit._version import versions
from mamlkit.algorithms import maml
from mamlkit.data.glyphs import glyphs
from mamlkit.models import conv4
from mamlkit.recipes.frame import command, parse, parser_for
from mamlkit.recipes.shipping import save_weights
from mamlkit.training import TrainingOptions, fit

NAME = "glyph-maml"
WAYS, SHOTS, QUERIES, FILTERS = 5, 1, 5, 32
INNER_STEPS, INNER_LR, META_BATCH, OUTER_LR, FINAL_OUTER_LR = 1, 0.4, 4, 3e-3, 1e-4


def train(outer_steps: int, seed: int) -> nn.Module:
    """The initialisation that one inner step of MAML adapts."""
    model = conv4(WAYS, filters=FILTERS, downsample="stride", seed=seed)
    learner = maml(model, inner_steps=INNER_STEPS, inner_lr=INNER_LR)
    options = TrainingOptions(
        epochs=1,
        steps_per_epoch=outer_steps,
        meta_batch=META_BATCH,
        outer_lr=OUTER_LR,
        cosine=True,
        final_outer_lr=FINAL_OUTER_LR,
        seed=seed,
    )
    fit(learner, glyphs("train", ways=WAYS, shots=SHOTS, queries=QUERIES), options=options, progress=True)
    return model


def main() -> None:
    """Train, then write ``glyph-maml.safetensors`` and ``glyph-maml.json``."""
    parser = parser_for(__doc__, "weights")
    parser.add_argument("--outer-steps", type=int, default=3000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parse(parser)
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    model = train(options.outer_steps, options.seed)
    record = {
        "command": command("glyphs"),
        "seed": options.seed,
        "outer_steps": options.outer_steps,
        "ways": WAYS,
        "shots": SHOTS,
        "queries": QUERIES,
        "filters": FILTERS,
        "inner_steps": INNER_STEPS,
        "inner_lr": INNER_LR,
        "meta_batch": META_BATCH,
        "outer_lr": OUTER_LR,
        "final_outer_lr": FINAL_OUTER_LR,
        "versions": versions(),
    }
    save_weights(options.out, NAME, model.state_dict(), record)


if __name__ == "__main__":
    main()
