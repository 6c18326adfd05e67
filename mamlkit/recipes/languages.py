"""Train the tiny transformers of chapter 15, which learn invented languages from three words.

    python -m mamlkit.recipes.languages --out mamlkit/weights

A language is two steps on a circle of ten letters, one from even letters, one from odd ones; one letter in ten slips. A quarter
of the hundred languages is kept for the test. Three versions for each seed, from the same initial weights: MAML that adapts the
prefix alone, MAML that adapts everything, and ordinary training on all training languages together, without adapting. Float64;
a file holds one version, with a leading axis for the seed, rounded to float32. No rate was tuned.
"""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit._version import versions
from mamlkit.algorithms import maml
from mamlkit.learners import Learner
from mamlkit.models import seeded
from mamlkit.recipes.frame import command, outer_loop, parse, parser_for, run_all
from mamlkit.recipes.shipping import save_weights
from mamlkit.tasks import TaskBatch, TaskStream

VERSIONS = ("prefix", "everything", "ordinary")
LETTERS, LENGTH, SLIPS, WIDTH, PREFIX = 10, 6, 0.1, 16, 2
SUPPORT, QUERY, INNER_STEPS, INNER_LR, META_BATCH, OUTER_LR = 3, 6, 2, {"prefix": 1.0, "everything": 0.1}, 8, 0.01


class Languages:
    """Tasks of words of one language each: letters in, the letters after them out.

    Args:
        split: ``"train"`` or ``"test"``: other languages.
        support: words to adapt on.
        query: words to be judged on.
    """

    def __init__(self, split: str, support: int = SUPPORT, query: int = QUERY) -> None:
        steps = torch.cartesian_prod(torch.arange(LETTERS), torch.arange(LETTERS))  # (languages, 2)
        held_out = steps.sum(1) % 4 == 0
        self.steps = steps[held_out if split == "test" else ~held_out]
        self.support, self.query = support, query

    def sample(self, num_tasks: int, generator: torch.Generator) -> TaskBatch:
        """A language for each task, and words of it."""
        languages = torch.randint(len(self.steps), (num_tasks,), generator=generator)
        words = self.words(self.steps[languages], self.support + self.query, generator)
        support, query = words[:, : self.support], words[:, self.support :]
        return TaskBatch(support[..., :-1], support[..., 1:], query[..., :-1], query[..., 1:])

    def words(self, steps: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Words ``(tasks, count, LENGTH)`` of the languages with these steps ``(tasks, 2)``."""
        shape = len(steps), count
        word = [torch.randint(LETTERS, shape, generator=generator)]
        for _ in range(LENGTH - 1):
            following = (word[-1] + steps.gather(1, word[-1] % 2)) % LETTERS
            slips = torch.rand(shape, generator=generator) < SLIPS
            word.append(torch.where(slips, torch.randint(LETTERS, shape, generator=generator), following))
        return torch.stack(word, -1)


class Transformer(nn.Module):
    """One block with one head, and a prefix of vectors before the letters. The chapter prints it."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = nn.Parameter(0.1 * torch.randn(PREFIX, WIDTH))
        self.letter = nn.Embedding(LETTERS, WIDTH)
        self.place = nn.Parameter(0.1 * torch.randn(PREFIX + LENGTH - 1, WIDTH))
        self.q, self.k, self.v, self.mix = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, LETTERS)

    def forward(self, words: Tensor) -> Tensor:
        """Scores of the letter after each letter: ``(words, LETTERS, length)``, as cross-entropy takes them."""
        prefix = self.prefix.expand(len(words), -1, -1)
        h = torch.cat([prefix, self.letter(words)], 1) + self.place  # (words, places, WIDTH)
        scores = self.q(h) @ self.k(h).transpose(1, 2) / WIDTH**0.5
        later = torch.ones_like(scores).triu(1) > 0
        h = h + self.mix(scores.masked_fill(later, -1e9).softmax(-1) @ self.v(h))
        h = h + self.down(F.gelu(self.up(h)))
        return self.out(h[:, PREFIX:]).transpose(1, 2)


def learner_for(version: str, seed: int) -> Learner:
    """MAML around the transformer; what the ordinary version adapts does not matter, since it is not adapted."""
    with seeded(seed):
        model = Transformer().double()
    adapted = None if version == "everything" else ["prefix"]
    rate = INNER_LR.get(version, 1.0)
    return maml(model, inner_steps=INNER_STEPS, inner_lr=rate, adapted=adapted, engine="all_at_once")


def ordinary_loss(model: nn.Module, tasks: TaskBatch) -> Tensor:
    """All words of all tasks as one batch; fills ``.grad``."""
    x = torch.cat([tasks.support_x, tasks.query_x], 1).flatten(0, 1)  # (words, length)
    y = torch.cat([tasks.support_y, tasks.query_y], 1).flatten(0, 1)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss.detach()


def train(version: str, seed: int, outer_steps: int) -> dict[str, Tensor]:
    """One run: what ``learner.load_state_dict`` takes, in float32."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    learner = learner_for(version, seed)
    backward = partial(ordinary_loss, learner.model) if version == "ordinary" else learner.meta_backward
    optimiser = torch.optim.Adam(learner.parameters(), lr=OUTER_LR)
    stream = TaskStream(Languages("train"), META_BATCH, seed=seed)
    losses = [loss for _, loss in outer_loop(backward, optimiser, stream, outer_steps)]
    print(f"{version:10}  seed {seed}  last 50 losses {sum(losses[-50:]) / 50:.3f}", flush=True)
    return {name: tensor.float() for name, tensor in learner.state_dict().items()}


def main() -> None:
    """Train everything, then write ``language-VERSION.safetensors`` and its record for each version."""
    parser = parser_for(__doc__, "weights")
    parser.add_argument("--seeds", type=int, default=4, help="how many; default: %(default)s")
    parser.add_argument("--outer-steps", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parse(parser)
    runs = list(itertools.product(VERSIONS, range(options.seeds)))
    found = run_all(train, runs, options.processes, options.outer_steps)
    for version in VERSIONS:
        of_seeds = [state for (name, _), state in zip(runs, found, strict=True) if name == version]
        weights = {name: torch.stack([state[name] for state in of_seeds]) for name in of_seeds[0]}  # (seeds, ...)
        record = {
            "command": command("languages"),
            "seeds": options.seeds,
            "version": version,
            "outer_steps": options.outer_steps,
            "support": SUPPORT,
            "query": QUERY,
            "inner_steps": INNER_STEPS,
            "inner_lr": INNER_LR.get(version),
            "meta_batch": META_BATCH,
            "outer_lr": OUTER_LR,
            "versions": versions(),
        }
        save_weights(options.out, f"language-{version}", weights, record)


if __name__ == "__main__":
    main()
