"""Inputs of any type that the model takes, and targets that fit the loss."""

from __future__ import annotations

import plain_loop
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.o = nn.Embedding(2000, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.o(self.e(x.long()).mean(1))


def ids(kind=torch.int64, high=2000):
    x = torch.randint(high, (2, 5, 7), generator=torch.Generator().manual_seed(0)).to(kind)
    y = torch.randint(3, (2, 5), generator=torch.Generator().manual_seed(1))
    return mamlkit.TaskBatch(x, y, x, y)


@pytest.mark.parametrize("engine", ["task_by_task", "recomputed"])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_whole_numbers_go_through(kind, engine):
    model, tasks = Words().double(), ids(kind, 2)
    loss, gradient, _ = plain_loop.maml(model, tasks, F.cross_entropy)
    learner = mamlkit.maml(model, inner_steps=2, inner_lr=0.1, engine=engine)
    got = learner.meta_backward(tasks)
    assert got.dtype == torch.float64 and abs(got.item() - loss) < 1e-10
    assert plain_loop.off(gradient, model) < 1e-8
    assert mamlkit.evaluate(learner, tasks).accuracies.shape == (3, 2)
    assert abs(mamlkit.reptile(model, inner_steps=2).meta_backward(tasks).item()) > 0


def test_weights_of_a_multi_step_loss_are_not_rounded_to_whole_numbers():
    class Ids(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(7, 3, dtype=torch.float64))

        def forward(self, x):
            return torch.tanh(x.to(self.w.dtype) @ self.w)

    model, tasks = Ids(), ids(high=3)
    values = []
    for engine in ("task_by_task", "all_at_once", "recomputed"):
        learner = mamlkit.maml_plus_plus(model, inner_steps=2, multi_step_loss="uniform", engine=engine)
        values.append(learner.meta_backward(tasks).item())
    assert max(values) - min(values) < 1e-10


def test_ids_that_a_small_float_cannot_hold_are_refused():
    learner = mamlkit.maml(Words().bfloat16(), inner_steps=1)
    learner.meta_backward(ids())
    with pytest.raises(TypeError, match=r"^expected .* got torch\.float32; .*ids with \.long\(\)"):
        learner.meta_backward(ids(torch.float32))
    with pytest.raises(TypeError, match=r"^expected .* ids as torch\.int64, got torch\.bfloat16"):
        learner.meta_backward(ids(torch.bfloat16))
    with pytest.raises(TypeError, match=r"got torch\.float16"):
        mamlkit.maml(Words().half(), inner_steps=1).meta_backward(
            ids(torch.float16, 2000)._replace(query_x=ids(torch.float16).query_x + 100)
        )


class Complex(nn.Module):
    def __init__(self, real):
        super().__init__()
        self.w = nn.Parameter(torch.full((4, 3), 0.3 + 0.1j, dtype=torch.complex128))
        self.b = nn.Parameter(torch.ones(3, dtype=torch.float64)) if real else 0

    def forward(self, x):
        return (x.to(torch.complex128) @ self.w).abs() + self.b


@pytest.mark.parametrize("complex_inputs", [False, True])
@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("engine", ["task_by_task", "recomputed"])
def test_complex_parameters(engine, real, complex_inputs):
    model, tasks = Complex(real), mamlkit.TaskBatch(*plain_loop.tasks())
    if complex_inputs:
        tasks = tasks._replace(support_x=tasks.support_x * (1 + 1j), query_x=tasks.query_x * (1 - 2j))
    loss, gradient, _ = plain_loop.maml(model, tasks, F.mse_loss)
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, engine=engine)
    assert abs(learner.meta_backward(tasks).item() - loss) < 1e-10 and plain_loop.off(gradient, model) < 1e-8


class Mixed(nn.Module):
    def __init__(self, casts):
        super().__init__()
        self.casts, self.body, self.head = casts, nn.Linear(4, 4).bfloat16().requires_grad_(False), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.body(x.bfloat16() if self.casts else x).float())


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_type_of_what_is_learned_or_of_a_frozen_part(kind):
    tasks = mamlkit.TaskBatch(*(v.float() for v in plain_loop.tasks()))
    tasks = tasks._replace(support_x=tasks.support_x.to(kind), query_x=tasks.query_x.to(kind))
    model = Mixed(casts=kind == torch.float32)
    loss, _, _ = plain_loop.maml(model, tasks, F.mse_loss)
    got = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1).meta_backward(tasks)
    assert got.dtype == torch.float32 and abs(got.item() - loss) < 1e-5
    with pytest.raises(TypeError, match=r"^expected .* model's type torch\.float32, got torch\.float64"):
        mamlkit.maml(model, loss=F.mse_loss).meta_backward(mamlkit.TaskBatch(*plain_loop.tasks()))


def test_lazy_layers_are_refused():
    with pytest.raises(ValueError, match=r"^expected a model whose layers know their sizes, got Sequential with lazy"):
        mamlkit.maml(nn.Sequential(nn.LazyLinear(3)))


# --- losses that broadcast


def column(n=6):
    x = torch.randn(2, n, 1, generator=torch.Generator().manual_seed(0))
    return mamlkit.TaskBatch(x, x[..., 0] ** 2, x, x[..., 0] ** 2)


BROADCAST = {
    "by hand": lambda o, y: ((o - y) ** 2).mean(),
    "the other way": lambda o, y: (y.float() - o.clone()).abs().mean(),
    "after a function": lambda o, y: (torch.tanh(o) * y).mean(),
    "sub": lambda o, y: torch.sub(o, y).square().mean(),
    "where": lambda o, y: torch.where(y > 0, o, 0 * o).mean(),
    "torch's": lambda o, y: F.poisson_nll_loss(o, y),
    "a function": F.poisson_nll_loss,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", ["task_by_task", "all_at_once"])
@pytest.mark.parametrize("name", BROADCAST)
def test_outputs_in_a_column_against_flat_targets_are_refused(name, engine):
    learner = mamlkit.maml(mamlkit.mlp(seed=0), loss=BROADCAST[name], inner_steps=1, engine=engine)
    with pytest.raises(ValueError, match=r"^expected .* got "):
        learner.meta_backward(column())
    with pytest.raises(ValueError, match=r"^expected .* got "):
        learner.adapt(column().support_x[0], column().support_y[0])


SOUND = {
    "chosen": lambda o, y: F.mse_loss(o[:, 0], y),
    "squeezed": lambda o, y: ((o.squeeze(-1) - y) ** 2).mean(),
    "widened": lambda o, y: ((o - y[:, None]) ** 2).mean(),
    "flat": lambda o, y: (o.flatten() - y).abs().mean(),
    "pairs on purpose": lambda o, y: ((o - o[:, 0]) * (y[:, None] - y)).square().mean(),
    "product": lambda o, y: (y @ o).square().sum() / len(y),
}


@pytest.mark.parametrize("name", SOUND)
def test_losses_that_bring_both_to_one_shape_pass(name):
    model, tasks = mamlkit.mlp(seed=0), column()
    loss, _, _ = plain_loop.maml(model, tasks, SOUND[name])
    got = mamlkit.maml(model, loss=SOUND[name], inner_steps=2, inner_lr=0.1).meta_backward(tasks).item()
    assert abs(got - loss) < 1e-5 * abs(loss)


@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss()])
def test_cross_entropy_of_one_output_is_refused(loss):
    real = mamlkit.Sinusoids().sample(2, torch.Generator().manual_seed(0))
    labels = torch.zeros(2, 10, dtype=torch.int64)
    for tasks in (real, real._replace(support_y=labels, query_y=labels)):
        for call in (mamlkit.maml(mamlkit.mlp(seed=0), loss=loss).meta_backward,
                     lambda t: mamlkit.evaluate(mamlkit.maml(mamlkit.mlp(seed=0), loss=loss), t)):  # fmt: skip
            with pytest.raises(
                ValueError, match=r"^expected outputs \(points, classes\) .* got outputs .*, 1\); .*mse_loss"
            ):
                call(tasks)
