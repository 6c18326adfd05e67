"""Train MAML and its relatives on one budget: the table of chapter 13.

    python -m mamlkit.recipes.relatives --out mamlkit/records --work runs/relatives.pt

Glyphs, 5-way 1-shot, with a strided conv4 of 16 filters. For each seed all learners share the initial weights and the stream of
tasks, 4 per meta-batch with 5 query images per class, and have 300 outer steps whose rate falls along half a cosine. Inner loops
have one step of 0.4, and Adam takes the outer steps. But for Reptile, of which one inner step would make ordinary training: it
has 3; it splits no task, so that its inner loop sees all images; and its outer steps are plain ones, as in its paper. Their rate
is chosen on validation tasks, and so are the inner rates of ANIL, whose head alone has to make all of the difference, and of
``ProtoMAML``, which begins near its goal. All are judged on the same test tasks, where batch norm uses the statistics of each set
(transductive). ``ProtoMAML`` starts each task from the head that a prototypical network is (Triantafillou et al., 2020,
arXiv:1903.03096). Costs are those of one task in the plain loop, for every learner.

A run stops and goes on with the same command; ``--work`` names the file that it goes on from.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mamlkit._version import versions
from mamlkit.algorithms import anil, fomaml, maml, meta_sgd, reptile
from mamlkit.checking._memory import memory_of
from mamlkit.data.glyphs import glyphs
from mamlkit.evaluation import evaluate, interval
from mamlkit.functional import parameters_of
from mamlkit.inner_loop import adapt
from mamlkit.learners import Learner
from mamlkit.models import conv4
from mamlkit.neighbours import nearest_neighbour
from mamlkit.prototypes import ProtoNet, class_means
from mamlkit.recipes.frame import command, outer_loop, parse, parser_for
from mamlkit.recipes.shipping import save_record
from mamlkit.tasks import TaskBatch, TaskStream

WAYS, SHOTS, QUERIES, FILTERS, INNER_STEPS, INNER_LR, META_BATCH, OUTER_LR = 5, 1, 5, 16, 1, 0.4, 4, 3e-3
REPTILE_STEPS = 3
RATES = {"Reptile": (0.3, 1.0, 3.0), "ANIL": (0.4, 2.0, 10.0), "ProtoMAML": (0.01, 0.1, 0.4)}  # outer; inner
CHOICE_SEED = 100  # a rate is chosen with a seed of its own, in half the time
VALIDATION_TASKS, TEST_TASKS, TEST_QUERIES, HELD_OUT_SEED = 200, 600, 5, 99


class ProtoMAML(nn.Module):
    """MAML whose tasks begin with the prototypes as their head: weights 2 c_n, biases -|c_n|^2."""

    def __init__(self, model: nn.Sequential, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.model, self.body, self.head = model, model[:-1], list(model._modules)[-1]

    def answers(self, support_x: Tensor, support_y: Tensor, query_x: Tensor, order: int) -> Tensor:
        """Outputs for the query points of one task ``(query, ways)``."""
        theta = parameters_of(self.model)
        centres = class_means(functional_call(self.body, parameters_of(self.body), support_x), support_y, WAYS)
        head = {f"{self.head}.weight": 2 * centres, f"{self.head}.bias": -centres.square().sum(1)}
        path = adapt(
            self.model,
            support_x,
            support_y,
            loss=F.cross_entropy,
            steps=INNER_STEPS,
            step_sizes=self.rate,
            parameters={**theta, **head},
            order=order,  # type: ignore[arg-type]
        )
        return functional_call(self.model, dict(path[-1]), query_x)

    def meta_backward(self, tasks: TaskBatch) -> Tensor:
        """As ``Learner.meta_backward``."""
        total = torch.zeros(())
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            loss = F.cross_entropy(self.answers(support_x, support_y, query_x, 2), query_y) / tasks.num_tasks
            loss.backward()
            total += loss.detach()
        return total

    def accuracies(self, tasks: TaskBatch) -> Tensor:
        """Of each task ``(tasks,)``."""
        found = []
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            with torch.no_grad():
                outputs = self.answers(support_x, support_y, query_x, 0)
            found.append((outputs.argmax(1) == query_y).double().mean())
        return torch.stack(found)


def network(seed: int) -> nn.Sequential:
    """The network that all learners of a seed begin with."""
    return conv4(WAYS, filters=FILTERS, downsample="stride", seed=seed)


def made(name: str, seed: int, rate: float, engine: str = "auto") -> Learner | ProtoMAML:
    """A learner by its name in the table; ``rate`` is the one of ``RATES`` that was chosen."""
    if name == "ProtoNet":
        return ProtoNet(network(seed)[:-1])
    if name == "ProtoMAML":
        return ProtoMAML(network(seed), rate)
    steps = REPTILE_STEPS if name == "Reptile" else INNER_STEPS
    inner_lr = rate if name == "ANIL" else INNER_LR
    return LEARNERS[name](network(seed), inner_steps=steps, inner_lr=inner_lr, engine=engine)


LEARNERS: dict[str, Callable[..., Learner]] = {
    "MAML": maml,
    "FOMAML": fomaml,
    "ANIL": anil,
    "Meta-SGD": meta_sgd,
    "Reptile": reptile,
}
NAMES = (*LEARNERS, "ProtoNet", "ProtoMAML")


def without_split(tasks: TaskBatch) -> TaskBatch:
    """All images of a task in its support set, for Reptile; the query set is there for the loss that is shown."""
    x, y = torch.cat([tasks.support_x, tasks.query_x], 1), torch.cat([tasks.support_y, tasks.query_y], 1)
    return TaskBatch(x, y, tasks.query_x, tasks.query_y)


def train(name: str, seed: int, outer_steps: int, rate: float) -> Learner | ProtoMAML:
    """One run; ``rate`` is the one of ``RATES`` that was chosen, where there is a choice."""
    learner = made(name, seed, rate)
    own = list(learner.parameters())
    optimiser = torch.optim.SGD(own, lr=rate) if name == "Reptile" else torch.optim.Adam(own, lr=OUTER_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, outer_steps)

    def backward(tasks: TaskBatch) -> Tensor:
        return learner.meta_backward(without_split(tasks) if name == "Reptile" else tasks)

    stream = TaskStream(glyphs(ways=WAYS, shots=SHOTS, queries=QUERIES), META_BATCH, seed=seed)
    for _ in outer_loop(backward, optimiser, stream, outer_steps):
        schedule.step()
    return learner


def held_out(split: str, tasks: int) -> TaskBatch:
    """Tasks to be judged on, the same for all."""
    source = glyphs(split, ways=WAYS, shots=SHOTS, queries=TEST_QUERIES)
    return source.sample(tasks, torch.Generator().manual_seed(HELD_OUT_SEED))


def accuracies(learner: Learner | ProtoMAML, tasks: TaskBatch) -> Tensor:
    """After the last inner step, of each task ``(tasks,)``."""
    if isinstance(learner, ProtoMAML):
        return learner.accuracies(tasks)
    found = evaluate(learner, tasks).accuracies
    assert found is not None
    return found[-1]


def cost(name: str, rate: float, rounds: int = 30) -> dict[str, float]:
    """Of one meta-step with one task in the plain loop: processor milliseconds, the median; megabytes alive at once."""
    learner = made(name, 0, rate, engine="task_by_task")
    tasks = glyphs(ways=WAYS, shots=SHOTS, queries=QUERIES).sample(1, torch.Generator().manual_seed(0))
    tasks = without_split(tasks) if name == "Reptile" else tasks
    seconds = []
    for _ in range(rounds):
        learner.zero_grad()
        started = time.process_time()
        learner.meta_backward(tasks)
        seconds.append(time.process_time() - started)
    learner.zero_grad()
    memory = memory_of(lambda: learner.meta_backward(tasks))
    assert memory is not None
    return {"ms": round(1e3 * statistics.median(seconds), 1), "mb": round(4 * memory.peak / 2**20, 2)}


def judged(name: str, seed: int, values: Tensor) -> dict[str, Any]:
    """A row of the record."""
    found = interval(values)
    return {
        "learner": name,
        "seed": seed,
        "accuracy": round(found.mean, 4),
        "interval_over_tasks": round(found.half_width, 4),
    }


def main() -> None:
    """Run everything that is not there yet, then write ``relatives.json``."""
    parser = parser_for(__doc__, "record")
    parser.add_argument("--work", type=Path, required=True, help="file to go on from; made where it is missing")
    parser.add_argument("--seeds", type=int, default=5, help="how many; default: %(default)s")
    parser.add_argument("--outer-steps", type=int, default=300, help="default: %(default)s")
    options = parse(parser)
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    done: dict[Any, Any] = torch.load(options.work) if options.work.exists() else {}

    def once(key: object, compute: Callable[..., Any], *arguments: object) -> Any:
        if key not in done:
            done[key] = compute(*arguments)
            torch.save(done, options.work)
            print(*(key if isinstance(key, tuple) else [key]), done[key], flush=True)
        return done[key]

    def choose(name: str, rate: float) -> dict[str, Any]:
        learner = train(name, CHOICE_SEED, options.outer_steps // 2, rate)
        return {"rate": rate, "accuracy": accuracies(learner, held_out("validation", VALIDATION_TASKS)).mean().item()}

    def run(name: str, seed: int) -> dict[str, Any]:
        learner = train(name, seed, options.outer_steps, chosen.get(name, 0.0))
        return judged(name, seed, accuracies(learner, held_out("test", TEST_TASKS)))

    choices = {
        name: [once((name, "rate", rate), choose, name, rate) for rate in rates] for name, rates in RATES.items()
    }
    chosen = {name: max(tried, key=lambda one: one["accuracy"])["rate"] for name, tried in choices.items()}
    test = held_out("test", TEST_TASKS)
    pixels = judged("pixels", 0, (nearest_neighbour(test) == test.query_y).double().mean(1))
    runs = [once((name, seed), run, name, seed) for seed in range(options.seeds) for name in NAMES]
    costs = {name: once(("cost", name), cost, name, chosen.get(name, 0.0)) for name in NAMES}
    record = {
        "command": command("relatives"),
        "seeds": options.seeds,
        "outer_steps": options.outer_steps,
        "ways": WAYS,
        "shots": SHOTS,
        "queries": QUERIES,
        "filters": FILTERS,
        "inner_steps": INNER_STEPS,
        "inner_lr": INNER_LR,
        "reptile_inner_steps": REPTILE_STEPS,
        "meta_batch": META_BATCH,
        "outer_lr": OUTER_LR,
        "reptile_outer_lr": chosen["Reptile"],
        "anil_inner_lr": chosen["ANIL"],
        "proto_maml_inner_lr": chosen["ProtoMAML"],
        "validation": {
            name: [[one["rate"], round(one["accuracy"], 3)] for one in tried] for name, tried in choices.items()
        },
        "test_tasks": TEST_TASKS,
        "test_queries": TEST_QUERIES,
        "query_statistics": "batch",
        "pixels": pixels["accuracy"],
        "pixels_interval_over_tasks": pixels["interval_over_tasks"],
        "costs": costs,
        "versions": versions(),
    }
    save_record(options.out / "relatives.json", record, runs)


if __name__ == "__main__":
    main()
