"""Models with several inputs and outputs, in tuples and dicts: against a loop that calls them as their authors do."""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils import _pytree

import mamlkit
from mamlkit import trees

K, RATE = 2, 0.1


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- models as one meets them, each with (support_x, support_y, query_x, query_y) and a loss


class Output(OrderedDict):
    """What transformers return: a dict whose keys are attributes too."""

    def __getattr__(self, name):
        return self[name]


_pytree.register_pytree_node(
    Output, lambda o: (list(o.values()), list(o)), lambda values, keys: Output(zip(keys, values, strict=True))
)


class Encoder(nn.Module):
    """A small text classifier called by name; it also returns a cache, and a loss that nobody asks for."""

    def __init__(self):
        super().__init__()
        self.words, self.mix, self.classifier = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, input_ids, attention_mask=None, labels=None):
        weight = attention_mask.to(self.mix.weight.dtype)[..., None]
        states = torch.tanh(self.mix(self.words(input_ids))) * weight
        logits = self.classifier(states.sum(1) / weight.sum(1))
        return Output(logits=logits, states=states, cache=object(), loss=None)


def encoded(seed):
    g = torch.Generator().manual_seed(seed)
    length = torch.randint(1, 8, (3, 5, 1), generator=g)
    ids = torch.randint(11, (3, 5, 7), generator=g)
    return {"input_ids": ids, "attention_mask": (torch.arange(7) < length).long()}


def text():
    labels = [torch.randint(3, (3, 5), generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)]
    loss = lambda outputs, y: F.cross_entropy(outputs.logits, y)  # noqa: E731
    return Encoder(), mamlkit.TaskBatch(encoded(1), labels[0], encoded(2), labels[1]), loss


class Pair(nn.Module):
    """Two inputs by position, two outputs in a tuple."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.both, self.scale = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2), nn.Linear(4, 1)

    def forward(self, left, right):
        hidden = torch.tanh(self.a(left) * self.b(right))
        return self.both(hidden), self.scale(hidden)


def pair():
    x = [(normal(3, 5, 3, seed=s), normal(3, 5, 2, seed=s + 1)) for s in (1, 3)]
    y = [{"both": normal(3, 5, 2, seed=s), "scale": normal(3, 5, 1, seed=s + 1)} for s in (5, 7)]
    loss = lambda o, y: F.mse_loss(o[0], y["both"]) + F.l1_loss(o[1], y["scale"])  # noqa: E731
    return Pair(), mamlkit.TaskBatch(x[0], y[0], x[1], y[1]), loss


def recurrent():
    """torch's own, which returns a tuple with a tuple."""
    x, y = [normal(3, 5, 4, 2, seed=s) for s in (1, 2)], [normal(3, 5, 3, seed=s) for s in (3, 4)]
    loss = lambda o, y: F.mse_loss(o[0][:, -1], y) + o[1][1].square().mean()  # noqa: E731
    return nn.LSTM(2, 3, batch_first=True), mamlkit.TaskBatch(x[0], y[0], x[1], y[1]), loss


@dataclasses.dataclass
class Mixture:
    mean: torch.Tensor
    spread: torch.Tensor


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # torch 2.6 calls something of its own that it has deprecated
    torch.export.register_dataclass(Mixture)


class Gaussian(nn.Module):
    """One input, an object as output."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, x):
        mean, spread = self.net(x).unbind(-1)
        return Mixture(mean, F.softplus(spread))


def gaussian():
    x, y = [normal(3, 5, 2, seed=s) for s in (1, 2)], [normal(3, 5, seed=s) for s in (3, 4)]
    loss = lambda o, y: ((o.mean - y) ** 2 / o.spread + o.spread.log()).mean()  # noqa: E731
    return Gaussian(), mamlkit.TaskBatch(x[0], y[0], x[1], y[1]), loss


class Point(NamedTuple):
    where: torch.Tensor
    options: dict


class Nested(nn.Module):
    """A named tuple with a dict within."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 2)

    def forward(self, where, options):
        return {"moved": torch.tanh(self.net(where)) + options["shift"]}


def nested():
    x = [Point(normal(3, 5, 2, seed=s), {"shift": normal(3, 5, 2, seed=s + 1)}) for s in (1, 3)]
    y = [normal(3, 5, 2, seed=s) for s in (5, 6)]
    return Nested(), mamlkit.TaskBatch(x[0], y[0], x[1], y[1]), lambda o, y: F.mse_loss(o["moved"], y)


CASES = {"text": text, "pair": pair, "recurrent": recurrent, "gaussian": gaussian, "nested": nested}
UNDER_VMAP = ("pair", "gaussian", "nested")
RUNS = [(case, engine) for case in CASES for engine in ("auto", "task_by_task", "recomputed")] + [
    (case, "all_at_once") for case in UNDER_VMAP
]


def made(case):
    model, tasks, loss = CASES[case]()
    return model.double(), tasks, loss


def call(model, parameters, x):
    """As the author of the model calls it."""
    if isinstance(x, dict):
        return functional_call(model, parameters, (), x)
    return functional_call(model, parameters, tuple(x) if isinstance(x, tuple) else (x,))


def one(tree, number):
    return _pytree.tree_map(lambda value: value[number], tree)


def plain_paths(model, tasks, loss, order=2):
    """For each task its parameters after 0, 1, ..., K steps, and its query set."""
    theta = dict(model.named_parameters())
    for number in range(3):
        support_x, support_y, query_x, query_y = (one(part, number) for part in tasks)
        path = [theta]
        for _ in range(K):
            value = loss(call(model, path[-1], support_x), support_y)
            slopes = torch.autograd.grad(value, list(path[-1].values()), create_graph=order == 2)
            path.append({n: w - RATE * s for (n, w), s in zip(path[-1].items(), slopes, strict=True)})
        yield path, query_x, query_y


def learner_of(model, loss, algorithm=mamlkit.maml, **keywords):
    return algorithm(model, **{"loss": loss, "inner_steps": K, "inner_lr": RATE, **keywords})


def close(model, expected):
    pairs = zip((p.grad for p in model.parameters()), expected, strict=True)
    return all(torch.allclose(found, true, rtol=1e-8, atol=1e-12) for found, true in pairs)


@pytest.mark.parametrize(("case", "engine"), RUNS)
def test_meta_gradient_against_a_plain_loop(case, engine):
    model, tasks, loss = made(case)
    total = sum(loss(call(model, path[-1], x), y) for path, x, y in plain_paths(model, tasks, loss)) / 3
    expected = torch.autograd.grad(total, list(model.parameters()))
    learner = learner_of(model, loss, engine=engine)
    assert learner.meta_backward(tasks).item() == pytest.approx(total.item(), rel=1e-10)
    assert close(model, expected)


@pytest.mark.parametrize("case", CASES)
def test_reptile_against_a_plain_loop(case):
    model, tasks, loss = made(case)
    ends = [path[-1] for path, _, _ in plain_paths(model, tasks, loss)]
    learner_of(model, loss, mamlkit.reptile).meta_backward(tasks)
    assert close(model, [p.detach() - sum(end[n].detach() for end in ends) / 3 for n, p in model.named_parameters()])


@pytest.mark.parametrize(("case", "engine"), RUNS)
def test_evaluation_against_a_plain_loop(case, engine):
    model, tasks, loss = made(case)
    learner = learner_of(model, loss, engine=engine)
    truth = [[loss(call(model, here, x), y).item() for here in path] for path, x, y in plain_paths(model, tasks, loss)]
    result = mamlkit.evaluate(learner, tasks, chunk=2, metric=lambda o, y: -2 * loss(o, y))
    assert torch.allclose(result.losses.T, torch.tensor(truth, dtype=torch.float64), rtol=1e-8)
    assert torch.allclose(result.scores, -2 * result.losses) and result.accuracies is None
    for number, (path, x, _) in enumerate(plain_paths(model, tasks, loss)):
        adapted = learner.adapt(one(tasks.support_x, number), one(tasks.support_y, number))
        found, true = trees.leaves(learner.predict(x, adapted[-1])), trees.leaves(call(model, path[-1], x))
        assert found and all(torch.allclose(a, b, rtol=1e-8) for a, b in zip(found, true, strict=True))
    by_function = mamlkit.adapt(
        model, one(tasks.support_x, 2), one(tasks.support_y, 2), loss=loss, steps=K, step_sizes=RATE
    )
    assert all(torch.allclose(by_function[-1][name], adapted[-1][name]) for name in adapted[-1])


@pytest.mark.parametrize("case", CASES)
def test_an_ensemble_takes_the_mean_of_each_output(case):
    model, tasks, loss = made(case)
    learner = learner_of(model, loss)
    twice, once = mamlkit.evaluate_ensemble([learner, learner], tasks), mamlkit.evaluate(learner, tasks)
    assert torch.allclose(twice.losses, once.losses)


@pytest.mark.parametrize("case", CASES)
def test_training_from_a_distribution(case, tmp_path):
    model, tasks, loss = made(case)
    before = [p.detach().clone() for p in model.parameters()]

    class Source:
        def sample(self, num_tasks, generator):
            return tasks.select(slice(0, num_tasks))

    learner = learner_of(model, loss)
    options = mamlkit.TrainingOptions(epochs=2, steps_per_epoch=2, meta_batch=2, validation_tasks=2)
    history = mamlkit.fit(learner, Source(), options=options, validation=Source(), folder=tmp_path / "run")
    assert len(history.rows) == 2 and history.rows[-1]["validation_loss"] is not None
    assert not any(torch.equal(p, w) for p, w in zip(model.parameters(), before, strict=True))
    system = mamlkit.ModelAgnosticMetaLearning(model, loss=loss, inner_steps=K, inner_lr=RATE)
    system.meta_train_step(*([one(part, n) for n in range(3)] for part in tasks))  # one a task
    if isinstance(tasks.support_x, dict):
        system.meta_train_step(*tasks)
    assert (
        system.inner_update(one(tasks.support_x, 0), one(tasks.support_y, 0)).keys()
        == dict(model.named_parameters()).keys()
    )


@pytest.mark.parametrize("case", CASES)
def test_tasks_of_unequal_sizes(case):
    model, tasks, loss = made(case)
    parts = [[one(part, number) for number in range(3)] for part in tasks]
    parts[0][1], parts[1][1] = (trees.mapped(lambda v: v[:3], part[1]) for part in parts[:2])
    alone = []
    for number in range(3):
        batch = mamlkit.TaskBatch(*(trees.mapped(lambda v: v[None], part[number]) for part in parts))
        alone.append(learner_of(model, loss).meta_backward(batch).item())
    system = mamlkit.ModelAgnosticMetaLearning(model, loss=loss, inner_steps=K, inner_lr=RATE)
    assert system.meta_train_step(*parts) == pytest.approx(sum(alone) / 3, rel=1e-10)


def test_lower_precision_goes_in_and_comes_back():
    for case in ("pair", "text", "gaussian"):
        model, tasks, loss = made(case)
        tasks = mamlkit.TaskBatch(
            *(trees.mapped(lambda v: v.float() if v.is_floating_point() else v, t) for t in tasks)
        )
        learner = learner_of(model.float(), loss, autocast=torch.bfloat16)
        outputs = trees.leaves(learner.predict(one(tasks.query_x, 0)))
        assert outputs and all(value.dtype == torch.float32 for value in outputs)
        assert learner.meta_backward(tasks).isfinite()


def test_a_batch_is_cut_and_moved_whole():
    _, tasks, _ = made("nested")
    part = tasks.select(slice(1, 3)).to("cpu")
    assert part.num_tasks == 2 and tasks.num_tasks == 3 and type(part.support_x) is Point
    assert torch.equal(part.support_x.options["shift"], tasks.support_x.options["shift"][1:])
    assert part.device == torch.device("cpu")


def test_parameters_that_lose_their_gradient_are_found_in_every_output():
    class Loses(Pair):
        def forward(self, left, right):
            hidden = torch.tanh(self.a(left.detach()) * self.b(right).detach())
            return self.both(hidden), self.scale(hidden)

    _, tasks, loss = made("pair")
    with pytest.raises(ValueError, match=r"^expected a gradient for every parameter .* got none for 'b\."):
        learner_of(Loses().double(), loss).meta_backward(tasks)


def test_trees():
    tree = {"a": torch.zeros(2, 3), "b": (torch.ones(2), None, 5)}
    assert [place for place, _ in trees.named_leaves("x", tree)] == ["x['a']", "x['b'][0]", "x['b'][1]", "x['b'][2]"]
    rows = list(trees.each(tree))
    assert len(rows) == 2 and rows[0]["a"].shape == (3,) and rows[0]["b"][1:] == (None, 5)
    whole = trees.joined(torch.stack, rows)
    assert torch.equal(whole["a"], tree["a"]) and whole["b"][1:] == (None, 5)
    assert trees.joined(torch.stack, [(tree["a"], 1), (tree["a"], 2)])[1] is None
    assert trees.joined(torch.stack, [(tree["a"], object())])[1] is None
    assert trees.called_with(tree) == ((), tree) and trees.called_with((1, 2)) == ((1, 2), {})
    assert trees.same_form({"a": 1, "b": 2}, {"b": 1, "a": 2}) and not trees.same_form({"a": 1}, {"b": 1})
    assert not trees.same_form((1,), torch.ones(1)) and not trees.same_form((1, 2), {"a": 1, "b": 2})
