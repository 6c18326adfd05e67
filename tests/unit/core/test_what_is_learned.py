"""What is adapted and meta-learned is what was asked for, or is refused by name."""

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


TASKS = mamlkit.TaskBatch(*plain_loop.tasks())


def sequence():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64))

    def forward(self, outputs, targets):
        return ((outputs - targets).square() * torch.exp(-self.s) + self.s).mean()


@pytest.mark.parametrize("engine", ["task_by_task", "all_at_once", "recomputed"])
def test_parameters_of_the_loss_are_meta_learned(engine):
    model, loss = sequence(), Weighted()
    value, gradient, (of_loss,) = plain_loop.maml(model, TASKS, loss, others=[loss.s])
    learner = mamlkit.maml(model, loss=loss, inner_steps=2, inner_lr=0.1, engine=engine)
    assert "loss.s" in learner.meta_parameters()
    keys = list(learner.state_dict())
    assert abs(learner.meta_backward(TASKS).item() - value) < 1e-10
    assert list(learner.state_dict()) == keys
    assert torch.allclose(loss.s.grad, of_loss, rtol=1e-8) and plain_loop.off(gradient, model) < 1e-8


def test_fit_moves_the_parameters_of_the_loss():
    loss = nn.Module()
    loss.scale = nn.Parameter(torch.ones(()))
    loss.forward = lambda outputs, targets: F.mse_loss(outputs * loss.scale, targets)
    learner = mamlkit.maml(mamlkit.mlp(seed=0), loss=loss, inner_steps=1)
    mamlkit.fit(
        learner, mamlkit.Sinusoids(), options=mamlkit.TrainingOptions(epochs=1, steps_per_epoch=2, meta_batch=2)
    )
    assert loss.scale.item() != 1


def test_where_the_loss_cannot_be_learned_it_is_refused():
    for make in (lambda: mamlkit.reptile(sequence(), loss=Weighted()),
                 lambda: mamlkit.maml(sequence(), loss=Weighted(), engine="compiled")):  # fmt: skip
        with pytest.raises(ValueError, match=r"^expected a loss without parameters .* got 'loss\.s'"):
            make()


def test_frozen_batch_norm_has_no_rows():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3))
    model[1].requires_grad_(False)
    model[3].bias.requires_grad_(False)
    learner = mamlkit.maml_plus_plus(model, loss=F.mse_loss, inner_steps=2, per_step_statistics=True)
    assert learner.batch_norm.weight_names == {"3.weight"} and len(dict(learner.batch_norm.named_buffers())) == 4
    model[3].requires_grad_(False)
    assert mamlkit.maml_plus_plus(model, loss=F.mse_loss, inner_steps=2).batch_norm is None


def test_layers_unfrozen_later_are_adapted():
    model = sequence()
    model[0].requires_grad_(False)
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1)
    learner.meta_backward(TASKS)
    assert model[0].weight.grad is None
    model.zero_grad()
    model[0].requires_grad_(True)
    loss, gradient, _ = plain_loop.maml(model, TASKS, F.mse_loss)
    assert abs(learner.meta_backward(TASKS).item() - loss) < 1e-10 and plain_loop.off(gradient, model) < 1e-8
    assert not torch.equal(learner.adapt(TASKS.support_x[0], TASKS.support_y[0])[-1]["0.weight"], model[0].weight)


def test_layers_unfrozen_later_without_a_learned_rate_are_refused_by_name():
    for make in (mamlkit.meta_sgd, mamlkit.maml_plus_plus):
        model = sequence()
        model[0].requires_grad_(False)
        learner = make(model, loss=F.mse_loss, inner_steps=2)
        model[0].requires_grad_(True)
        with pytest.raises(
            ValueError, match=r"^expected the parameters that had a step size .* got '0\.weight' unfrozen"
        ):
            learner.meta_backward(TASKS)


def test_what_anil_does_not_adapt_stays_so_when_unfrozen():
    model = sequence()
    model[0].requires_grad_(False)
    learner = mamlkit.anil(model, adapted=["2.bias"], loss=F.mse_loss, inner_steps=2, inner_lr=0.1)
    model[0].requires_grad_(True)
    loss, gradient, _ = plain_loop.maml(model, TASKS, F.mse_loss, adapted=["2.bias"])
    assert abs(learner.meta_backward(TASKS).item() - loss) < 1e-10 and plain_loop.off(gradient, model) < 1e-8


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(5, 3), nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.body(x))


def test_anil_does_not_guess_the_last_layer():
    with pytest.raises(ValueError, match=r"^expected adapted=\[\.\.\.\] for a HeadFirst, .* got None"):
        mamlkit.anil(HeadFirst(), loss=F.mse_loss)
    learner = mamlkit.anil(HeadFirst().double(), adapted=["head.weight", "head.bias"], loss=F.mse_loss, inner_lr=0.1)
    end = learner.adapt(TASKS.support_x[0], TASKS.support_y[0])[-1]
    assert torch.equal(end["body.weight"], learner.model.body.weight)
    nested = nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 3)))
    assert set(mamlkit.anil(nested, loss=F.mse_loss).step_sizes(0)) == {"1.1.weight", "1.1.bias"}


def named(name):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_parameter(name, nn.Parameter(torch.ones(4, 5, dtype=torch.float64)))
            self.out = nn.Linear(5, 3).double()

        def forward(self, x):
            return self.out(torch.tanh(x @ self._parameters[name]))

    return Net()


@pytest.mark.parametrize("name", ["keys", "values", "items", "pop", "get", "update", "clear", "copy", "extend", "a_b"])
def test_any_name_of_a_parameter(name):
    loss, gradient, _ = plain_loop.maml(model := named(name), TASKS, F.mse_loss)
    for make in (mamlkit.meta_sgd, mamlkit.maml_plus_plus):
        model.zero_grad()
        learner = make(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, **({} if make is mamlkit.meta_sgd else
                       {"multi_step_loss": None}))  # fmt: skip
        assert abs(learner.meta_backward(TASKS).item() - loss) < 1e-10 and plain_loop.off(gradient, model) < 1e-8
        assert all(key in str(list(learner.state_dict())) for key in (name, "out"))
        learner.load_state_dict(learner.state_dict())
