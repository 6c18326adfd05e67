"""Train a right meta-learner and six wrong ones on sinusoids, over seeds: the record behind chapter 12.

    python -m mamlkit.recipes.find_the_bug --out mamlkit/records

Each wrong learner differs from the right one in one place, and none raises an error. For each seed all share the initial weights
and the stream of tasks, and all are judged on the same held-out tasks. The chapter shows four of them as plain loops over tasks;
here the tasks of a meta-batch are adapted beside each other, which gives the same numbers in less time. Everything is float64.

Three symptoms are recorded: the meta-loss that the learner reports while it trains, what its own evaluation says after 0 to 2 K
inner steps, and the numbers that autograd keeps for the way back, by K.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import torch
from torch import Tensor

from mamlkit._version import versions
from mamlkit.data.sinusoids import Sinusoids
from mamlkit.recipes.frame import InFloat64, command, outer_loop, parse, parser_for, run_all
from mamlkit.recipes.shipping import save_record
from mamlkit.tasks import TaskBatch, TaskStream

__all__ = ["LEARNERS", "initial_weights", "kept", "meta_loss", "train"]

#: What is wrong with each.
LEARNERS = {
    "right": "nothing",
    "no graph": "the inner gradients are constants: create_graph=True is missing",
    "two losses": "at a tenth of the rate, the inner loop of training takes the sum of squares, that of the evaluation the mean",
    "copy": "theta is copied and detached, so that the gradient goes to the copy",
    "chain": "a task starts where the task before it has ended",
    "sum": "the losses of the tasks are added up, and should be averaged",
    "leak": "the query set of training is the support set",
}  # fmt: skip
WIDTH, SHOTS, META_BATCH, INNER_STEPS, INNER_LR, OUTER_LR, OUTER_STEPS = 40, 10, 5, 5, 0.02, 5e-3, 600
HELD_OUT_TASKS, HELD_OUT_QUERIES, HELD_OUT_SEED = 200, 100, 99
#: The meta-loss is recorded for so many first outer steps one by one, and for all as means over so many.
FIRST, BLOCK = 10, 20
MEMORY_STEPS = (1, 2, 5, 10, 20)
Weights = list[Tensor]


def initial_weights(seed: int) -> Weights:
    """Weights and biases of a network 1-40-40-1, uniform within one over the root of the inputs."""
    generator, theta = torch.Generator().manual_seed(seed), list[Tensor]()
    for inputs, outputs in itertools.pairwise((1, WIDTH, WIDTH, 1)):
        for shape in ((outputs, inputs), (outputs,)):
            u = torch.rand(shape, generator=generator, dtype=torch.float64)
            theta.append((inputs**-0.5 * (2 * u - 1)).requires_grad_())
    return theta


def network(theta: Weights, x: Tensor) -> Tensor:
    """Answers ``(*tasks, points, 1)`` of one network, or of one network a task."""
    for w, b in zip(theta[:-2:2], theta[1:-2:2], strict=True):
        x = torch.tanh(x @ w.mT + b[..., None, :])  # (*tasks, points, 40)
    return x @ theta[-2].mT + theta[-1][..., None, :]


def adapt(name: str, theta: Weights, x: Tensor, y: Tensor, steps: int, evaluation: bool = False) -> Weights:
    """So many inner steps; with tasks in front, each task's network takes its own."""
    for _ in range(steps):
        squares = (network(theta, x) - y).square()  # (*tasks, points, 1)
        added_up = name == "two losses" and not evaluation
        loss = squares.sum((-2, -1)) if added_up else squares.mean((-2, -1))  # (*tasks)
        slopes = torch.autograd.grad(loss.sum(), theta, create_graph=name != "no graph")
        rate = INNER_LR / SHOTS if name == "two losses" else INNER_LR
        theta = [w - rate * slope for w, slope in zip(theta, slopes, strict=True)]
    return theta


def meta_loss(name: str, theta: Weights, tasks: TaskBatch, steps: int = INNER_STEPS) -> Tensor:
    """What the learner of that name minimises, with its mistake."""
    support_x, support_y, query_x, query_y = tasks
    if name == "leak":
        query_x, query_y = support_x, support_y
    if name == "copy":
        theta = [w.detach().clone().requires_grad_() for w in theta]
    if name == "chain":
        answers = []
        for x, y, q in zip(support_x, support_y, query_x, strict=True):
            theta = adapt(name, theta, x, y, steps)
            answers.append(network(theta, q))
        answer = torch.stack(answers)
    else:
        own = [w.expand(len(support_x), *w.shape) for w in theta]  # (tasks, ...): each task starts from theta
        answer = network(adapt(name, own, support_x, support_y, steps), query_x)
    losses = (answer - query_y).square().mean((-2, -1))  # (tasks,)
    return losses.sum() if name == "sum" else losses.mean()


def evaluate(name: str, theta: Weights, tasks: TaskBatch) -> list[float]:
    """Mean query loss after 0, 1, ..., 2 K steps of the learner's own evaluation; every task starts from theta."""
    own = [w.detach().expand(tasks.num_tasks, *w.shape).clone().requires_grad_() for w in theta]
    losses = []
    for step in range(2 * INNER_STEPS + 1):
        if step:
            moved = adapt(name, own, tasks.support_x, tasks.support_y, 1, evaluation=True)
            own = [w.detach().requires_grad_() for w in moved]
        with torch.no_grad():
            losses.append((network(own, tasks.query_x) - tasks.query_y).square().mean().item())
    return losses


class _Waiting:
    """A tensor that waits for the way back."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def kept(name: str, steps: int) -> int:
    """How many numbers autograd keeps for the way back of one task, once its meta-loss is there."""
    waiting: weakref.WeakSet[_Waiting] = weakref.WeakSet()

    def pack(tensor: Tensor) -> _Waiting:
        waiting.add(packed := _Waiting(tensor))
        return packed

    theta, tasks = initial_weights(0), InFloat64(Sinusoids(SHOTS, SHOTS)).sample(1, torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed.tensor):
        loss = meta_loss(name, theta, tasks, steps)
    storages = {held.tensor.untyped_storage()._cdata: held.tensor.untyped_storage().nbytes() for held in waiting}
    del loss  # until here it kept its graph
    return sum(storages.values()) // 8


def train(seed: int, name: str) -> dict[str, Any]:
    """One run: the meta-loss on the way, and what the evaluation says at the end."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    judge = InFloat64(Sinusoids(SHOTS, HELD_OUT_QUERIES))
    held_out = judge.sample(HELD_OUT_TASKS, torch.Generator().manual_seed(HELD_OUT_SEED))
    theta = initial_weights(seed)
    optimiser = torch.optim.Adam(theta, lr=OUTER_LR)

    def backward(tasks: TaskBatch) -> Tensor:
        loss = meta_loss(name, theta, tasks)
        loss.backward()
        return loss.detach()

    stream = TaskStream(InFloat64(Sinusoids(SHOTS, SHOTS)), META_BATCH, seed=seed)
    losses = [loss for _, loss in outer_loop(backward, optimiser, stream, OUTER_STEPS)]
    training = [sum(losses[i : i + BLOCK]) / BLOCK for i in range(0, OUTER_STEPS, BLOCK)]
    steps = evaluate(name, theta, held_out)
    print(f"seed {seed}  {name:10} {training[-1]:.3f} {steps[INNER_STEPS]:.3f}", flush=True)
    row: dict[str, Any] = {"seed": seed, "learner": name}
    row |= {"first": losses[:FIRST], "training": training, "steps": steps}
    return {key: [round(x, 6) for x in value] if isinstance(value, list) else value for key, value in row.items()}


def main() -> None:
    """Run everything, then write ``find-the-bug.json``."""
    parser = parser_for(__doc__, "record")
    parser.add_argument("--seeds", type=int, default=8, help="how many; default: %(default)s")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parse(parser)
    runs = [(seed, name) for name in LEARNERS for seed in range(options.seeds)]
    # Other seeds of the right learner: a reader is to tell them from a wrong one.
    runs += [(seed, "right") for seed in range(options.seeds, 2 * options.seeds)]
    rows = run_all(train, runs, options.processes)
    zero = InFloat64(Sinusoids(SHOTS, HELD_OUT_QUERIES)).sample(
        HELD_OUT_TASKS, torch.Generator().manual_seed(HELD_OUT_SEED)
    )
    record = {
        "command": command("find_the_bug"),
        "seeds": options.seeds,
        "learners": LEARNERS,
        "meta_batch": META_BATCH,
        "shots": SHOTS,
        "inner_steps": INNER_STEPS,
        "inner_lr": INNER_LR,
        "outer_lr": OUTER_LR,
        "outer_steps": OUTER_STEPS,
        "block": BLOCK,
        "held_out_tasks": HELD_OUT_TASKS,
        "held_out_queries": HELD_OUT_QUERIES,
        "answering_zero": round(zero.query_y.square().mean().item(), 6),
        "memory_steps": MEMORY_STEPS,
        "memory": {name: [kept(name, steps) for steps in MEMORY_STEPS] for name in LEARNERS},
        "versions": versions(),
    }
    save_record(options.out / "find-the-bug.json", record, rows)


if __name__ == "__main__":
    main()
