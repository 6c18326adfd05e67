"""Train the point that learns to reach a goal it cannot see, of chapter 16: the record, and the policies of its figures.

    python -m mamlkit.recipes.navigation --out mamlkit

The task is the 2-D navigation of Finn et al., 2017, section 5.3, with 15 steps in place of 100, a smaller policy, and Adam
outside. One inner step of REINFORCE; the versions differ only in what the outer gradient takes for the step's derivative:

* ``first_order``: nothing, the step is a constant;
* ``naive``: what automatic differentiation makes of log-probability times advantage;
* ``lvc`` (Rothfuss et al., 2019) and ``dice`` (Foerster et al., 2018): surrogates with the same first derivative and another
  second one;
* ``score``: naive, and the score of the trajectories before the step times the return after it (Stadie et al., 2018);
* ``simulator``: the exact derivative, back through the simulator itself, which no reinforcement learner can ask for.

``ordinary`` is trained on all goals together, without an inner step. For each seed all versions share the initial weights and
the rest of the settings. The inner rate was chosen after one run of each. ``naive`` and ``dice`` are trained a second time, with
four times the goals in each outer step: the same means, with less noise; and ``naive``, ``dice`` and ``simulator`` once more
without a bound on the norm of the meta-gradient. The record has the returns of each on the same goals,
and at one policy the mean and the spread of each version's meta-gradient. Float64; the weights are rounded to float32.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mamlkit._version import versions
from mamlkit.functional import Parameters
from mamlkit.models import seeded
from mamlkit.recipes.frame import command, parse, parser_for, run_all
from mamlkit.recipes.shipping import save_record, save_weights

VERSIONS = ("ordinary", "first_order", "naive", "lvc", "dice", "score", "simulator")
MORE_GOALS = {"naive_40": "naive", "dice_40": "dice"}
NO_CLIP = {"naive_free": "naive", "dice_free": "dice", "simulator_free": "simulator"}
HORIZON, SPEED, SPREAD, HIDDEN = 15, 0.1, 0.5, 16
TASKS, MORE_TASKS, TRAJECTORIES, OUTER_LR, CLIP, RATE = 10, 40, 20, 0.02, 1.0, 0.03
HELD_OUT_GOALS, HELD_OUT_SEED, STEPS_AFTER = 100, 9, 3
WARM_UP, BATCHES = 40, 100


class Paths(NamedTuple):
    """What the agent saw, did and was paid: ``(tasks, trajectories, HORIZON, 2 or nothing)``."""

    positions: Tensor
    actions: Tensor
    rewards: Tensor


def policy_for(seed: int) -> nn.Sequential:
    """From a position to the mean of an action."""
    with seeded(seed):
        return nn.Sequential(nn.Linear(2, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2)).double()


def goals_from(generator: torch.Generator, count: int) -> Tensor:
    """Goals ``(count, 2)`` in the square of side 1 around the start."""
    return torch.rand(count, 2, generator=generator, dtype=torch.float64) - 0.5


def repeated(weights: Parameters, tasks: int) -> dict[str, Tensor]:
    """Each tensor once for each task, along a new first axis."""
    return {name: value.expand(tasks, *value.shape) for name, value in weights.items()}


def means(weights: Parameters, positions: Tensor) -> Tensor:
    """Means of the actions of all tasks at once; weights and positions have the tasks along the first axis."""
    x = positions.flatten(1, -2)  # (tasks, points, 2)
    hidden = torch.tanh(x @ weights["0.weight"].mT + weights["0.bias"][:, None])
    return (hidden @ weights["2.weight"].mT + weights["2.bias"][:, None]).view(positions.shape)


def roll_out(weights: Parameters, goals: Tensor, generator: torch.Generator, *, through: bool = False) -> Paths:
    """Trajectories of each task. ``through`` keeps the graph, back to the weights."""
    shape = len(goals), TRAJECTORIES, 2
    noise = torch.randn(HORIZON, *shape, generator=generator, dtype=torch.float64)
    position, steps = torch.zeros(shape, dtype=torch.float64), []
    with torch.set_grad_enabled(through):
        for each in noise:
            action = means(weights, position) + SPREAD * each
            before, position = position, position + SPEED * action.clamp(-1, 1)
            steps.append((before, action, -((position - goals[:, None]) ** 2).sum(-1)))
        return Paths(*(torch.stack(part, 2) for part in zip(*steps, strict=True)))


def advantages(rewards: Tensor) -> Tensor:
    """Each reward minus what the other trajectories of its task had at the same time."""
    return (rewards - rewards.mean(1, keepdim=True)) * TRAJECTORIES / (TRAJECTORIES - 1)


def to_go(values: Tensor) -> Tensor:
    """Sums from each time to the end."""
    return values.flip(-1).cumsum(-1).flip(-1)


def log_probabilities(weights: Parameters, paths: Paths) -> Tensor:
    """Of each action, up to a constant: ``(tasks, trajectories, HORIZON)``."""
    return -((paths.actions - means(weights, paths.positions)) ** 2).sum(-1) / (2 * SPREAD**2)


def surrogate(version: str, weights: Parameters, paths: Paths) -> Tensor:
    """One number for each task, with the policy gradient as its first derivative in all versions."""
    chances, gains = log_probabilities(weights, paths), advantages(paths.rewards)
    if version == "dice":
        so_far = chances.cumsum(-1)
        terms = (so_far - so_far.detach()).exp() * gains
    elif version == "lvc":
        terms = (chances - chances.detach()).exp() * to_go(gains)
    else:
        terms = chances * to_go(gains)
    return terms.sum(-1).mean(-1)


def adapted(version: str, weights: Parameters, paths: Paths) -> dict[str, Tensor]:
    """Weights of each task after one step uphill."""
    here = {name: value.view_as(value) for name, value in weights.items()}
    total = surrogate(version, here, paths).sum()
    gradients = torch.autograd.grad(total, list(here.values()), create_graph=version != "first_order")
    return {name: value + RATE * gradient for (name, value), gradient in zip(here.items(), gradients, strict=True)}


def meta_loss(version: str, theta: Parameters, generator: torch.Generator, tasks: int = TASKS) -> tuple[Tensor, Tensor]:
    """What to differentiate, and the mean return after the inner step; version "ordinary" takes none."""
    goals, weights = goals_from(generator, tasks), repeated(theta, tasks)
    through = version == "simulator"
    before = roll_out(weights, goals, generator, through=through)
    after = weights if version == "ordinary" else adapted(version, weights, before)
    paths = roll_out(after, goals, generator, through=through)
    returns = paths.rewards.sum(-1).mean(-1)  # (tasks,)
    if through:
        return -returns.mean(), returns.mean()
    value = surrogate("naive", after, paths)
    if version == "score":
        others = (returns.sum() - returns) / (tasks - 1)
        scores = log_probabilities(weights, before).sum((1, 2))  # (tasks,)
        value = value + (returns - others) * scores
    return -value.mean(), returns.mean()


def returns_after(theta: Parameters) -> list[float]:
    """Mean returns on the held-out goals after 0, 1, ... updates, with fresh trajectories for each."""
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    goals = goals_from(generator, HELD_OUT_GOALS)
    weights: Parameters = repeated(theta, HELD_OUT_GOALS)
    found = []
    for _ in range(STEPS_AFTER + 1):
        paths = roll_out(weights, goals, generator)
        found.append(round(paths.rewards.sum(-1).mean().item(), 4))
        start = {name: value.detach().requires_grad_() for name, value in weights.items()}
        weights = adapted("first_order", start, paths)
    return found


def train(seed: int, version: str, outer_steps: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One run: its row, and its weights."""
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    theta = dict(policy_for(seed).named_parameters())
    row: dict[str, Any] = {"seed": seed, "version": version}
    if version == "untrained":
        outer_steps = 0
    optimiser = torch.optim.Adam(theta.values(), lr=OUTER_LR)
    generator = torch.Generator().manual_seed(1000 + seed)
    estimator, tasks = (MORE_GOALS | NO_CLIP).get(version, version), MORE_TASKS if version in MORE_GOALS else TASKS
    course = []
    for _ in range(outer_steps):
        optimiser.zero_grad()
        loss, gained = meta_loss(estimator, theta, generator, tasks)
        loss.backward()
        if version not in NO_CLIP:
            torch.nn.utils.clip_grad_norm_(theta.values(), CLIP)
        optimiser.step()
        course.append(gained.item())
    block = max(1, outer_steps // 20)
    row["returns"] = returns_after({name: value.detach() for name, value in theta.items()})
    row["course"] = [round(sum(course[i : i + block]) / block, 3) for i in range(0, len(course), block)]
    print(f"seed {seed}  {version:12} {row['returns']}", flush=True)
    return row, {name: value.detach().float() for name, value in theta.items()}


def gradients_at(version: str, theta: Parameters, batches: int) -> Tensor:
    """Meta-gradients of a version at one policy, ``(batches, weights)``."""
    start = {name: value.detach().clone().requires_grad_() for name, value in theta.items()}
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    found = []
    for _ in range(batches):
        loss, _ = meta_loss(version, start, generator)
        found.append(torch.cat([-part.flatten() for part in torch.autograd.grad(loss, list(start.values()))]))
    return torch.stack(found)


def compared(batches: int) -> list[dict[str, Any]]:
    """How each version's meta-gradient lies to the simulator's, at a policy that was trained a little."""
    torch.set_num_threads(1)
    _, weights = train(0, "first_order", WARM_UP)
    theta = {name: value.double() for name, value in weights.items()}
    exact = gradients_at("simulator", theta, 4 * batches).mean(0)  # (weights,)
    rows = []
    for version in VERSIONS[1:]:
        each = gradients_at(version, theta, batches)
        along = each @ exact / exact.norm() ** 2  # (batches,) 1 on average for an unbiased one
        cosines = torch.cosine_similarity(each, exact[None], dim=1)
        without = (each.sum(0) - each) / (batches - 1)  # the mean without each batch in turn: a jackknife
        left = torch.cosine_similarity(without, exact[None], dim=1)
        row = {"version": version, "along": along.mean(), "along_half": 1.96 * along.std() / batches**0.5}
        row |= {"cosine_of_mean": torch.cosine_similarity(each.mean(0), exact, dim=0), "cosine": cosines.mean()}
        row["cosine_half"] = 1.96 * left.std() * (batches - 1) / batches**0.5
        row |= {"norm": exact.norm(), "spread": each.std(0).norm()}
        row["clipped"] = (each.norm(dim=1) > CLIP).double().mean()
        rows.append(
            {name: value if isinstance(value, (str, float)) else round(value.item(), 4) for name, value in row.items()}
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Train everything, then write ``records/navigation.json``, and ``weights/navigation.safetensors`` with its record."""
    parser = parser_for(__doc__, "record and the weights, in folders records and weights")
    parser.add_argument("--seeds", type=int, default=4, help="how many; default: %(default)s")
    parser.add_argument("--outer-steps", type=int, default=100, help="default: %(default)s")
    parser.add_argument(
        "--batches", type=int, default=BATCHES, help="meta-gradients of each version; default: %(default)s"
    )
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; default: %(default)s")
    options = parse(parser)
    runs = list(itertools.product(range(options.seeds), ("untrained", *VERSIONS, *MORE_GOALS, *NO_CLIP)))
    found = run_all(train, runs, options.processes, options.outer_steps)
    record = {
        "command": command("navigation"),
        "seeds": options.seeds,
        "outer_steps": options.outer_steps,
        "horizon": HORIZON,
        "speed": SPEED,
        "spread": SPREAD,
        "hidden": HIDDEN,
        "tasks": TASKS,
        "more_tasks": MORE_TASKS,
        "trajectories": TRAJECTORIES,
        "outer_lr": OUTER_LR,
        "clip_norm": CLIP,
        "rate": RATE,
        "held_out_goals": HELD_OUT_GOALS,
        "versions": versions(),
    }
    gradients = compared(options.batches)
    weights = {
        f"{version}.{name}": torch.stack(
            [state[name] for (_, each), (_, state) in zip(runs, found, strict=True) if each == version]
        )
        for version in VERSIONS
        for name in found[0][1]
    }
    save_weights(options.out / "weights", "navigation", weights, record)
    rows = [row for row, _ in found]
    save_record(options.out / "records" / "navigation.json", record | {"gradients": gradients}, rows)


if __name__ == "__main__":
    main()
