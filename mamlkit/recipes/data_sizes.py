"""How many classes, and how many pictures of each? MAML on parts of an invented reef, for chapter 15.

    python -m mamlkit.recipes.data_sizes --out mamlkit/records

The creatures are those that the chapter draws. A run trains on some kinds, and on the first pictures of each. Then it is
judged on tasks of these very pictures and on tasks of kinds that no run trains on, the same for all. The seed chooses the kinds,
the initial weights and the tasks. All runs have 5-way 1-shot tasks with one query image per class, since with two pictures
of a class there are no more, and the same number of tasks: only what these are drawn from differs.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mamlkit._version import versions
from mamlkit.algorithms import maml
from mamlkit.data.episodes import ImageClasses, ImageTasks
from mamlkit.evaluation import evaluate
from mamlkit.models import conv4
from mamlkit.recipes.frame import command, parse, parser_for, run_all
from mamlkit.recipes.shipping import save_record
from mamlkit.tasks import TaskBatch
from mamlkit.training import TrainingOptions, fit

#: Classes and pictures of each. 20 x 20, 80 x 5 and 200 x 2 have 400 pictures each.
SIZES = ((20, 20), (80, 5), (200, 2), (10, 20), (320, 20))
WAYS, SHOTS, QUERIES, FILTERS, INNER_STEPS, INNER_LR, META_BATCH, OUTER_LR = 5, 1, 1, 12, 1, 0.4, 4, 5e-3
HELD_OUT_TASKS, HELD_OUT_QUERIES, HELD_OUT_SEED = 120, 5, 99
KINDS, PICTURES, TEST_KINDS, TEST_PICTURES, SIDE = 1000, 20, 60, 10, 28  # test kinds: from number 1000 on


def creature(generator: torch.Generator) -> dict[str, float]:
    """What is the same in all pictures of a kind."""
    ranges = {
        "arms": (2.0, 8.0), "depth": (0.08, 0.35), "hue": (0.0, 1.0), "hue2": (0.0, 1.0), "bands": (3.0, 9.0), "eyes": (1.0, 4.0),
        "tall": (0.75, 1.25),
    }  # fmt: skip
    return {name: _uniform(generator, *ends) for name, ends in ranges.items()}


def picture(kind: dict[str, float], generator: torch.Generator) -> Tensor:
    """One picture of a kind, uint8 ``(3, SIDE, SIDE)``: turned, moved, nearer or farther, in other light, on other ground."""
    side = torch.linspace(-1, 1, SIDE, dtype=torch.float64)
    y, x = torch.meshgrid(side, side, indexing="ij")  # (SIDE, SIDE) each
    turn, size = _uniform(generator, -0.7, 0.7), _uniform(generator, 0.5, 0.75)
    x = (x - _uniform(generator, -0.2, 0.2)) / size
    y = (y - _uniform(generator, -0.2, 0.2)) / size
    c, s = math.cos(turn), math.sin(turn)
    x, y = c * x + s * y, (c * y - s * x) / kind["tall"]
    radius, angle = (x**2 + y**2).sqrt(), torch.atan2(y, x)
    body = _soft(1 - kind["depth"] * (1 + torch.cos(int(kind["arms"]) * angle)) - radius)
    bands = _soft(torch.sin(kind["bands"] * y) - 0.2)
    drift = _uniform(generator, -0.08, 0.08)
    skin = _colour(kind["hue"] + drift, 0.85) * (1 - bands) + _colour(kind["hue2"] + drift, 1.0) * bands
    ground = torch.tensor([_uniform(generator, 0.6, 1.0) for _ in range(3)], dtype=torch.float64)
    image = ground[:, None, None] * (1 - body) + skin * body
    for eye in range(int(kind["eyes"])):
        across = 0.42 * (eye - (int(kind["eyes"]) - 1) / 2)
        distance = ((x - across) ** 2 + (y + 0.15) ** 2).sqrt()
        white, pupil = _soft(0.2 - distance), _soft(0.1 - distance)
        image = (image * (1 - white) + white) * (1 - pupil)
    noise = 0.1 * (torch.rand(3, SIDE, SIDE, generator=generator, dtype=torch.float64) - 0.5)
    image = (image * _uniform(generator, 0.6, 1.0) + noise).clamp(0, 1)
    return (255 * image).round().byte()


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def _colour(hue: float, value: float) -> Tensor:
    thirds = torch.arange(3, dtype=torch.float64) / 3
    return (value * (0.5 + 0.45 * torch.cos(2 * math.pi * (hue + thirds))))[:, None, None]  # (3, 1, 1)


def _soft(distance: Tensor) -> Tensor:
    """1 inside, 0 outside, with a soft edge."""
    return torch.sigmoid(18 * distance)


@cache
def pictures_of(number: int, pictures: int) -> Tensor:
    """The first pictures of the kind of that number: ``(pictures, 3, SIDE, SIDE)``."""
    generator = torch.Generator().manual_seed(number)
    kind = creature(generator)
    return torch.stack([picture(kind, generator) for _ in range(pictures)])


def part_of(seed: int, classes: int, pictures: int) -> ImageTasks:
    """Tasks on so many kinds, drawn by the seed, and the first pictures of each."""
    order = torch.randperm(KINDS, generator=torch.Generator().manual_seed(seed)).tolist()
    images = ImageClasses.of([pictures_of(number, PICTURES)[:pictures] for number in order[:classes]])
    return ImageTasks(images, ways=WAYS, shots=SHOTS, queries=QUERIES)


@cache
def held_out() -> TaskBatch:
    """The same tasks for every run, of kinds that none trains on."""
    images = [pictures_of(KINDS + number, TEST_PICTURES) for number in range(TEST_KINDS)]
    source = ImageTasks(images, ways=WAYS, shots=SHOTS, queries=HELD_OUT_QUERIES)
    return source.sample(HELD_OUT_TASKS, torch.Generator().manual_seed(HELD_OUT_SEED))


def train(seed: int, size: tuple[int, int], outer_steps: int) -> dict[str, Any]:
    """One run: loss and accuracy after adaptation, on tasks of the training kinds and on the test tasks."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    source = part_of(seed, *size)
    model = conv4(WAYS, channels=3, image_size=SIDE, filters=FILTERS, downsample="stride", seed=seed)
    learner = maml(model, inner_steps=INNER_STEPS, inner_lr=INNER_LR)
    options = TrainingOptions(
        epochs=1, steps_per_epoch=outer_steps, meta_batch=META_BATCH, outer_lr=OUTER_LR, cosine=False, seed=seed
    )
    fit(learner, source, options=options)
    own = source.sample(HELD_OUT_TASKS, torch.Generator().manual_seed(HELD_OUT_SEED))
    row: dict[str, Any] = {"seed": seed, "classes": size[0], "pictures": size[1]}
    for kind, tasks in (("train", own), ("test", held_out())):
        result = evaluate(learner, tasks)
        row[f"{kind}_loss"] = round(result.loss().mean, 4)
        row[f"{kind}_accuracy"] = round(result.accuracy().mean, 4)
    print(row, flush=True)
    return row


def main() -> None:
    """Run everything, then write ``data-sizes.json``."""
    parser = parser_for(__doc__, "record")
    parser.add_argument("--seeds", type=int, default=6, help="how many; default: %(default)s")
    parser.add_argument("--outer-steps", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parse(parser)
    results = run_all(
        train, list(itertools.product(range(options.seeds), SIZES)), options.processes, options.outer_steps
    )
    record = {
        "command": command("data_sizes"),
        "seeds": options.seeds,
        "outer_steps": options.outer_steps,
        "ways": WAYS,
        "shots": SHOTS,
        "queries": QUERIES,
        "filters": FILTERS,
        "inner_steps": INNER_STEPS,
        "inner_lr": INNER_LR,
        "meta_batch": META_BATCH,
        "outer_lr": OUTER_LR,
        "held_out_tasks": HELD_OUT_TASKS,
        "held_out_queries": HELD_OUT_QUERIES,
        "versions": versions(),
    }
    save_record(options.out / "data-sizes.json", record, results)


if __name__ == "__main__":
    main()
