"""Momentum, weight decay, clipping and Adam in the inner loop: against loops written out, and against torch's optimisers."""

from __future__ import annotations

import oracles
import plain_learners
import pytest
import torch
from engine_names import ENGINES
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import mamlkit
from mamlkit.directions import Adam, ClipNorm, Direction, Momentum, Proximal, WeightDecay

K = 4


# --- the same by hand: (gradients, weights, what is kept, k) -> what is followed; lists in the order of the parameters


def momentum(g, w, kept, k, mu=0.8):
    kept["m"] = [mu * m + x for m, x in zip(kept.get("m", [0] * len(g)), g, strict=True)]
    return kept["m"]


def nesterov(g, w, kept, k, mu=0.8):
    return [x + mu * m for x, m in zip(g, momentum(g, w, kept, k, mu), strict=True)]


def decay(g, w, kept, k):
    return [x + 0.3 * p for x, p in zip(g, w, strict=True)]


def pull(g, w, kept, k):
    start = kept.setdefault("start", w)
    return [x + 0.7 * (p - s) for x, p, s in zip(g, w, start, strict=True)]


def clip(g, w, kept, k, norm=0.3):
    length = torch.sqrt(sum((x * x).sum() for x in g))
    return [x * norm / length for x in g] if length > norm else g


def adam(g, w, kept, k, b1=0.8, b2=0.95, eps=1e-3):
    kept["v"] = [b2 * v + (1 - b2) * x**2 for v, x in zip(kept.get("v", [0] * len(g)), g, strict=True)]
    kept["n"] = [b1 * n + (1 - b1) * x for n, x in zip(kept.get("n", [0] * len(g)), g, strict=True)]
    down = [(v / (1 - b2 ** (k + 1))) for v in kept["v"]]
    up = [n / (1 - b1 ** (k + 1)) for n in kept["n"]]
    return [n / (torch.sqrt(v) + eps) for n, v in zip(up, down, strict=True)]


ADAM = Adam((0.8, 0.95), eps=1e-3)
CASES = {
    "momentum": (Momentum(0.8), [momentum]),
    "nesterov": (Momentum(0.8, nesterov=True), [nesterov]),
    "decay": (WeightDecay(0.3), [decay]),
    "pulled back": (Proximal(0.7), [pull]),
    "clipped": (ClipNorm(0.3), [clip]),
    "adam": (ADAM, [adam]),
    "adamw": ([ADAM, WeightDecay(0.3)], [adam, decay]),
    "adam with a penalty": ([WeightDecay(0.3), ADAM], [decay, adam]),
    "all": ([WeightDecay(0.3), ClipNorm(0.3), Momentum(0.8), ADAM], [decay, clip, momentum, adam]),
}


def plain(problem, values, parts, weights, *, per_step=False, order=2):
    """The meta-loss of ``plain_learners.meta_loss``, whose steps follow these parts in turn."""
    names, total = [name for name, _ in problem.module.named_parameters()], 0.0
    for support_x, support_y, query_x, query_y in zip(*problem.tasks, strict=True):
        now, kept = dict(values.theta), {}
        for k, weight in enumerate(weights):
            loss = problem.plain_loss(problem.forward([now[n] for n in names], support_x), support_y)
            adapted = list(values.rates)
            way = torch.autograd.grad(loss, [now[n] for n in adapted], create_graph=order == 2)
            here = [now[n] if order == 2 else now[n].detach() for n in adapted]
            for part in parts:
                way = part(way, here, kept, k)
            for name, step in zip(adapted, way, strict=True):
                now[name] = now[name] - (values.rates[name][k] if per_step else values.rates[name]) * step
            total = total + weight * problem.plain_loss(problem.forward([now[n] for n in names], query_x), query_y)
    return total / len(problem.tasks[0])


def learner_of(algorithm, direction, engine="auto", **keywords):
    problem = oracles.problem("tanh-mse")  # smooth, for the slopes below
    keywords = {"inner_steps": K, "inner_lr": 0.1, "loss": problem.loss, "engine": engine} | keywords
    return problem, algorithm(problem.module, direction=direction, **keywords)


def check(problem, learner, parts, rates, *, slopes=True, **keywords):
    """The meta-gradient of all that is learned: the loop's, and that of differences of the loop's loss."""
    values, _ = plain_learners.values_of(learner, rates)
    weights, leaves = learner.outer_loss.weights(K, 0).tolist(), values.leaves()
    loss = plain(problem, leaves, parts, weights, **keywords)
    expected = torch.autograd.grad(loss, leaves.tensors())
    assert learner.meta_backward(mamlkit.TaskBatch(*problem.tasks)).item() == pytest.approx(loss.item(), rel=1e-10)
    found = plain_learners.values_of(learner)[1].tensors()
    assert oracles.relative_error(found, expected) < 1e-8
    if slopes:
        generator = torch.Generator().manual_seed(2)
        along = [torch.randn(w.shape, generator=generator, dtype=torch.float64) / 10 for w in expected]
        ends = []
        for sign in (1, -1):
            moved = values.leaves()
            with torch.no_grad():
                for tensor, d in zip(moved.tensors(), along, strict=True):
                    tensor += sign * 1e-6 * d
            ends.append(plain(problem, moved, parts, weights, **keywords).item())
        slope = sum((g * d).sum().item() for g, d in zip(found, along, strict=True))
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES)
def test_maml_through_a_direction(case, engine):
    direction, parts = CASES[case]
    problem, learner = learner_of(mamlkit.maml, direction, engine)
    check(problem, learner, parts, dict.fromkeys(learner.initialisation(), 0.1))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("algorithm", [mamlkit.meta_sgd, mamlkit.maml_plus_plus])
def test_with_learned_step_sizes(algorithm, case):
    direction, parts = CASES[case]
    problem, learner = learner_of(algorithm, direction, adapted=lambda name: name != "0.weight")
    plain_learners.scatter(learner)
    check(problem, learner, parts, None, per_step=algorithm is mamlkit.maml_plus_plus)


@pytest.mark.parametrize("engine", ["task_by_task", "all_at_once"])
@pytest.mark.parametrize("case", CASES)
def test_first_order_takes_it_for_a_constant(case, engine):
    direction, parts = CASES[case]
    problem, learner = learner_of(mamlkit.fomaml, direction, engine)
    check(problem, learner, parts, dict.fromkeys(learner.initialisation(), 0.1), slopes=False, order=1)


TORCH = {
    "momentum": (Momentum(0.8), lambda p: torch.optim.SGD(p, 0.1, momentum=0.8)),
    "nesterov": (Momentum(0.8, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True)),
    "decay": (WeightDecay(0.3), lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.3)),
    "both": ([WeightDecay(0.3), Momentum(0.8)], lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=0.3)),
    "adam": (Adam(), lambda p: torch.optim.Adam(p, 0.1)),
    "adam with a penalty": ([WeightDecay(0.3), Adam()], lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.3)),
    "adamw": ([Adam(), WeightDecay(0.3)], lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.3)),
}


@pytest.mark.parametrize("case", TORCH)
def test_the_path_is_that_of_torch(case):
    direction, optimiser = TORCH[case]
    problem = oracles.problem("mlp-cross-entropy")  # with weights whose gradients all are zero
    x, y = problem.tasks[0][0], problem.tasks[1][0]
    learner = mamlkit.reptile(problem.module, direction=direction, inner_lr=0.1, inner_steps=2, loss=problem.loss)
    paths = [learner.adapt(x, y, 6)]
    for order in (0, 1, 2):
        paths.append(
            mamlkit.adapt(
                problem.module, x, y, loss=problem.loss, steps=6, step_sizes=0.1, direction=direction, order=order
            )
        )
    optimiser = optimiser(problem.module.parameters())
    for step in range(1, 7):
        optimiser.zero_grad()
        problem.loss(problem.module(x), y).backward()
        optimiser.step()
        for path in paths:
            assert oracles.relative_error(path[step].values(), list(problem.module.parameters())) < 1e-7


def test_clipping_is_that_of_torch_task_by_task():
    problem = oracles.problem("mlp-mse")
    x, y = problem.tasks[0][1], problem.tasks[1][1]
    parameters = list(problem.module.parameters())
    slopes = torch.autograd.grad(problem.loss(problem.module(x), y), parameters)
    norm, named = torch.nn.utils.get_total_norm(slopes).item(), {str(i): slope for i, slope in enumerate(slopes)}
    for limit in (norm / 3, norm * 3):
        found, _ = ClipNorm(limit)(named, {}, {}, 0)
        scaled = [slope * min(1.0, limit / norm) for slope in slopes]
        assert oracles.relative_error(found.values(), scaled) < 1e-12
    still = {"w": torch.zeros(3, requires_grad=True)}
    (clipped,) = ClipNorm(1.0)(still, still, {}, 0)[0].values()
    assert torch.autograd.grad(clipped.sum(), still["w"])[0].tolist() == [1, 1, 1]
    pair = torch.tensor([3 + 4j])
    assert torch.allclose(ClipNorm(1.0)({"w": pair}, {}, {}, 0)[0]["w"], pair / 5)


@pytest.mark.parametrize("case", CASES)
def test_dead_weights_have_finite_meta_gradients(case):
    """A unit that no point reaches has gradients of exactly zero, where roots and norms have no derivative."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].bias[1] = -1e3
    g = torch.Generator().manual_seed(0)
    tasks = mamlkit.TaskBatch(*(torch.randn(2, 5, n, generator=g, dtype=torch.float64) for n in (3, 2, 3, 2)))
    for engine in ("task_by_task", "all_at_once"):
        learner = mamlkit.maml(
            model, direction=CASES[case][0], loss=F.mse_loss, inner_steps=3, inner_lr=0.01, engine=engine
        )
        model.zero_grad()
        learner.meta_backward(tasks)
        assert all(p.grad.isfinite().all() for p in model.parameters())


class LearnedMomentum(Direction):
    def __init__(self):
        super().__init__()
        self.mu = nn.Parameter(torch.tensor(0.8, dtype=torch.float64))

    def forward(self, gradients, parameters, memory, step):
        sums = {name: self.mu * memory.get(name, 0.0) + gradient for name, gradient in gradients.items()}
        return sums, sums


@pytest.mark.parametrize("engine", ["task_by_task", "all_at_once"])
def test_a_direction_of_ones_own_is_meta_learned(engine):
    problem, learner = learner_of(mamlkit.maml, [ClipNorm(0.3), LearnedMomentum()], engine)
    (key,) = (name for name in learner.meta_parameters() if name.startswith("direction."))
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    found = learner.meta_parameters()[key].grad
    theta = {name: p.detach() for name, p in problem.module.named_parameters()}
    mu = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    values = plain_learners.Values(theta, dict.fromkeys(theta, 0.1), {}).leaves()
    parts = [clip, lambda g, w, kept, k: momentum(g, w, kept, k, mu)]
    (expected,) = torch.autograd.grad(plain(problem, values, parts, [0.0] * (K - 1) + [1.0]), mu)
    assert found.item() == pytest.approx(expected.item(), rel=1e-8) and abs(expected.item()) > 1e-6


def test_engines_that_know_plain_descent_only_give_way_and_say_so():
    made = mamlkit.conv4(5, channels=1, image_size=16, filters=4, seed=0)
    for model, asked, taken, why in [
        (made, "auto", "task_by_task", "(as 'conv4_all_at_once' knows plain descent only)"),
        (made, "recomputed", "task_by_task", "(as 'conv4_recomputed' knows plain descent only)"),
        (mamlkit.mlp(seed=0), "recomputed", "linear_all_at_once", "(as 'recomputed' knows plain descent only)"),
        (mamlkit.mlp(seed=0), "compiled", "linear_all_at_once", "(as 'compiled' knows plain descent only)"),
        (mamlkit.mlp(seed=0), "auto", "linear_all_at_once", ""),
        (mamlkit.mlp(seed=0), "task_by_task", "task_by_task", ""),
    ]:
        learner = mamlkit.maml(model, direction=Momentum(), engine=asked)
        assert learner.engine_name == taken and f"engine={taken!r}{' ' if why else ''}{why}" in repr(learner)
        assert "Momentum(mu=0.9" in repr(learner)
    assert mamlkit.maml(made).engine_name == "conv4_all_at_once"
    assert mamlkit.maml(made, direction=[]).direction is None


def test_batch_norm_and_a_direction():
    problem = oracles.problem("conv-batchnorm")
    learner = mamlkit.maml(problem.module, direction=CASES["all"][0], inner_steps=K, inner_lr=0.1, loss=problem.loss)
    check(problem, learner, CASES["all"][1], dict.fromkeys(learner.initialisation(), 0.1), slopes=False)


def test_a_resumed_run_must_have_the_same_direction():
    model = mamlkit.mlp(seed=0)
    facts = [
        mamlkit.maml(model, direction=direction).describe()["direction"]
        for direction in (
            None,
            Momentum(),
            Momentum(0.5),
            [Momentum(), WeightDecay(0.1)],
            [WeightDecay(0.1), Momentum()],
        )
    ]
    assert all(facts.count(each) == 1 for each in facts)
    assert mamlkit.maml(model, direction=[Momentum()]).describe()["direction"] == facts[1]


def test_given_parameters_may_start_anywhere():
    problem = oracles.problem("mlp-mse")
    x, y, query_x, query_y = (part[0] for part in problem.tasks)
    path = mamlkit.adapt(problem.module, x, y, loss=problem.loss, steps=2, step_sizes=0.1, direction=[Adam(eps=0.1)])
    loss = problem.loss(functional_call(problem.module, path[-1], (query_x,)), query_y)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(problem.module.parameters())))


@pytest.mark.parametrize("engine", ["task_by_task", "all_at_once"])
@pytest.mark.parametrize("case", CASES)
def test_a_meta_step_runs_without_data(case, engine):
    """No direction looks at numbers, or makes tensors on a device of its own."""
    tasks = mamlkit.Sinusoids(3, 3).sample(2, torch.Generator().manual_seed(0)).to("meta")
    model = mamlkit.mlp(seed=0).to("meta")
    learner = mamlkit.maml(model, direction=CASES[case][0], loss=F.mse_loss, inner_steps=2, engine=engine)
    assert learner.meta_backward(tasks).device.type == "meta"
    assert all(p.grad.device.type == "meta" and p.grad.shape == p.shape for p in model.parameters())
