"""Engines and what they cannot carry: the value of the plain loop, or one line that says why not."""

from __future__ import annotations

import plain_loop
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import mamlkit


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


REAL = plain_loop.tasks()


def labelled():
    x, _, query_x, _ = REAL
    g = torch.Generator().manual_seed(0)
    return x, torch.randint(3, x.shape[:2], generator=g), query_x, torch.randint(3, query_x.shape[:2], generator=g)


def sequence():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


# --- auto looks at the loss


def branch(outputs, targets):
    value = F.mse_loss(outputs, targets)
    return value if value > 1 else value.sqrt()


def unique(outputs, targets):
    return sum(F.cross_entropy(outputs[targets == c], targets[targets == c]) for c in targets.unique())


LOSSES = {
    "branch": (branch, REAL),
    "unique": (unique, labelled()),
    "gaussian": (lambda o, y: F.gaussian_nll_loss(o[:, :1], y[:, :1], F.softplus(o[:, 1:2])), REAL),
    "item": (lambda o, y: F.mse_loss(o, y) * float(o.detach().mean()), REAL),
    "mask": (lambda o, y: F.l1_loss(o[y > 0], y[y > 0]), REAL),
    "noise": (lambda o, y: F.mse_loss(o + torch.rand_like(o), y), REAL),
    "weights": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3]).double(), label_smoothing=0.1), labelled()),
    "smoothing": (nn.CrossEntropyLoss(label_smoothing=0.2, ignore_index=1), labelled()),
    "dropout": (lambda o, y: F.mse_loss(F.dropout(o, 0.3), y), REAL),
}


@pytest.mark.parametrize("name", LOSSES)
def test_auto_falls_back_and_says_so(name):
    loss, tasks = LOSSES[name]
    model = sequence()
    torch.manual_seed(1)
    value, gradient, _ = plain_loop.maml(model, tasks, loss)
    learner = mamlkit.maml(model, loss=loss, inner_steps=2, inner_lr=0.1)
    torch.manual_seed(1)
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*tasks)).item() - value) < 1e-10
    assert plain_loop.off(gradient, model) < 1e-8
    if learner.engine_name != "linear_all_at_once":
        assert "engine='task_by_task' (as the loss" in repr(learner)
    else:
        assert name in ("smoothing", "weights")


@pytest.mark.parametrize("first", ["evaluate", "reptile"])
def test_evaluation_and_reptile_fall_back_as_well(first):
    tasks = mamlkit.TaskBatch(*REAL)
    make = mamlkit.reptile if first == "reptile" else mamlkit.maml
    results = []
    for engine in ("auto", "task_by_task"):
        learner = make(sequence().requires_grad_(), loss=branch, inner_steps=2, engine=engine)
        with torch.no_grad():
            [p.fill_(0.1 * n) for n, p in enumerate(learner.model.parameters())]
        results.append(mamlkit.evaluate(learner, tasks).losses if first == "evaluate" else learner.meta_backward(tasks))
    assert torch.allclose(*results)


def test_an_engine_that_was_asked_for_is_not_changed_but_named():
    for call in (lambda learner, tasks: learner.meta_backward(tasks), mamlkit.evaluate):
        learner = mamlkit.maml(sequence(), loss=branch, inner_steps=2, engine="all_at_once")
        with pytest.raises(
            ValueError, match=r"^expected .* under vmap for engine 'linear_all_at_once', got .*use 'task_by_task'"
        ):
            call(learner, mamlkit.TaskBatch(*REAL))
        assert learner.engine_name == "linear_all_at_once"


def test_a_bad_batch_does_not_change_the_engine():
    learner = mamlkit.maml(sequence(), inner_steps=2)
    x, y, query_x, query_y = labelled()
    with pytest.raises(ValueError, match="class numbers from 0 to 2"):
        learner.meta_backward(mamlkit.TaskBatch(x, y + 7, query_x, query_y))
    with pytest.raises(ValueError, match="class numbers from 0 to 2"):
        mamlkit.evaluate(learner, mamlkit.TaskBatch(x, y, query_x, query_y + 7))
    assert learner.engine_name == "linear_all_at_once"


# --- random numbers


class Noisy(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.a, self.b = kind, nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        if self.kind == "noise":
            h = h + 0.5 * torch.randn_like(h)
        elif self.kind == "order":
            h = h[torch.randperm(len(h))] + h
        else:
            h = F.dropout(h, 0.5)
        return self.b(h)


@pytest.mark.parametrize("where", ["model", "loss"])
@pytest.mark.parametrize("kind", ["noise", "order", "dropout"])
@pytest.mark.parametrize("steps", [1, 4])
def test_recomputed_draws_the_same_numbers_again(kind, steps, where):
    tasks = tuple(value[:1] for value in REAL)
    noisy = Noisy(kind).double()
    model, loss = (
        (noisy, F.mse_loss) if where == "model" else (sequence(), lambda o, y: F.mse_loss(F.dropout(o, 0.3), y))
    )
    torch.manual_seed(7)
    value, gradient, _ = plain_loop.maml(model, tasks, loss, steps)
    after = torch.rand(())
    torch.manual_seed(7)
    learner = mamlkit.maml(model, loss=loss, inner_steps=steps, inner_lr=0.1, engine="recomputed")
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*tasks)).item() - value) < 1e-10
    assert plain_loop.off(gradient, model) < 1e-8
    assert torch.equal(torch.rand(()), after)


def test_recomputed_is_task_by_task_for_many_tasks_of_unadapted_noise():
    losses = []
    for engine in ("task_by_task", "recomputed"):
        torch.manual_seed(3)
        learner = mamlkit.maml(Noisy("noise").double(), loss=F.mse_loss, inner_steps=1, engine=engine)
        torch.manual_seed(4)
        losses.append(learner.meta_backward(mamlkit.TaskBatch(*REAL)).item())
    assert losses[0] == losses[1]


# --- gradients that get lost


class Loses(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.a, self.b, self.unused = how, nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(2, 2)

    def forward(self, x):
        if self.how == "reentrant":
            h = checkpoint(self.a, x, use_reentrant=True)
        elif self.how == "no_grad":
            with torch.no_grad():
                h = self.a(x)
        elif self.how == "numpy":
            h = torch.from_numpy(self.a(x).detach().numpy())
        else:
            h = self.a(x).detach()
        return self.b(torch.tanh(h))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("make", [mamlkit.maml, mamlkit.fomaml])
@pytest.mark.parametrize("engine", ["task_by_task", "recomputed"])
@pytest.mark.parametrize("how", ["reentrant", "no_grad", "detach", "numpy"])
def test_a_parameter_that_is_read_without_a_way_back_is_refused_by_name(how, engine, make):
    learner = make(Loses(how).double(), loss=F.mse_loss, inner_steps=2, engine=engine)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"^expected a gradient for every parameter .* got none for 'a\."
        ) as raised:
            learner.meta_backward(mamlkit.TaskBatch(*REAL))
        assert len(str(raised.value)) < 250
    assert all(p.grad is None for p in learner.model.parameters())
    learner.model.a.requires_grad_(False)
    learner.meta_backward(mamlkit.TaskBatch(*REAL))


class Sometimes(nn.Module):
    """A layer that is not called in every step, and one that never is."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.unused, self.calls = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(2, 2), 0

    def forward(self, x):
        self.calls += 1
        return self.a(x) + (self.b(x) if self.calls % 2 else 0)


def test_layers_without_a_path_in_a_step_have_gradient_zero():
    model = Sometimes().double()
    loss, gradient, _ = plain_loop.maml(model, REAL, F.mse_loss, 3)
    model.calls = 0
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=3, inner_lr=0.1)
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*REAL)).item() - loss) < 1e-10
    assert plain_loop.off(gradient, model) < 1e-8 and model.unused.weight.grad.abs().sum() == 0


def test_a_loss_that_is_cut_off_is_refused():
    learner = mamlkit.maml(sequence(), loss=lambda o, y: F.mse_loss(o.detach(), y), inner_steps=1)
    with pytest.raises(ValueError, match=r"^expected a loss that depends on what is adapted, .* got one without"):
        learner.meta_backward(mamlkit.TaskBatch(*REAL))
