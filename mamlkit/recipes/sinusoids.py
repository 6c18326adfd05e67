"""Train the sinusoid models of chapters 1 and 2, as in Finn et al., 2017, section 5.1.

    python -m mamlkit.recipes.sinusoids --out mamlkit/weights

MAML: 10 support and 10 query points, one inner step of 0.01, Adam at 1e-3, 25 tasks per meta-batch, 70,000 outer steps.
Pretrained: the same network, optimiser and data, trained on the points of all tasks together, no adaptation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit._version import versions
from mamlkit.algorithms import maml
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.models import mlp
from mamlkit.recipes.frame import command, outer_loop, parse, parser_for
from mamlkit.recipes.shipping import save_weights
from mamlkit.tasks import TaskBatch, TaskStream

META_BATCH, SHOTS, INNER_STEPS, INNER_LR, OUTER_LR = 25, 10, 1, 0.01, 1e-3


def train_maml(outer_steps: int, seed: int) -> nn.Module:
    """The initialisation that one inner step of MAML adapts."""
    model = mlp(seed=seed)
    learner = maml(model, loss=F.mse_loss, inner_steps=INNER_STEPS, inner_lr=INNER_LR)
    _train(model, learner.meta_backward, outer_steps, seed)
    return model


def train_pretrained(outer_steps: int, seed: int) -> nn.Module:
    """The network that fits all tasks at once: it can only learn their mean."""
    model = mlp(seed=seed)

    def backward(tasks: TaskBatch) -> Tensor:
        x, y = torch.cat([tasks.support_x, tasks.query_x], 1), torch.cat([tasks.support_y, tasks.query_y], 1)
        loss = F.mse_loss(model(x), y)  # over (tasks, support + query, 1)
        loss.backward()
        return loss.detach()

    _train(model, backward, outer_steps, seed)
    return model


def _train(model: nn.Module, backward: Callable[[TaskBatch], Tensor], outer_steps: int, seed: int) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=OUTER_LR)
    stream = TaskStream(Sinusoids(shots=SHOTS, queries=SHOTS), META_BATCH, seed=seed)
    running = 0.0
    for step, loss in outer_loop(backward, optimiser, stream, outer_steps):
        running += loss
        if step % 1000 == 0:
            print(f"outer step {step:6d}  mean meta-loss of the last 1000: {running / 1000:.4f}", flush=True)
            running = 0.0


RECIPES = {"sinusoid-maml": train_maml, "sinusoid-pretrained": train_pretrained}


def main() -> None:
    """Train, then write ``NAME.safetensors`` and ``NAME.json`` for each model."""
    parser = parser_for(__doc__, "weights")
    parser.add_argument("--only", choices=sorted(RECIPES), help="train only this model")
    parser.add_argument("--outer-steps", type=int, default=70_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parse(parser)
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    for name in [options.only] if options.only else sorted(RECIPES):
        print(name, flush=True)
        model = RECIPES[name](options.outer_steps, options.seed)
        record = {
            "command": command("sinusoids"),
            "seed": options.seed,
            "outer_steps": options.outer_steps,
            "meta_batch": META_BATCH,
            "shots": SHOTS,
            **({"inner_steps": INNER_STEPS, "inner_lr": INNER_LR} if name == "sinusoid-maml" else {}),
            "outer_lr": OUTER_LR,
            "versions": versions(),
        }
        save_weights(options.out, name, model.state_dict(), record)


if __name__ == "__main__":
    main()
