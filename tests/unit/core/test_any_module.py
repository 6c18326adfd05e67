"""Modules that do more than call their layers: each has the value of the plain loop, or one line that says why not."""

from __future__ import annotations

import copy
import functools
import warnings

import plain_loop
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import orthogonal, spectral_norm
from torch.utils.checkpoint import checkpoint

import mamlkit


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def sequence():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


class Lambda(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)
        self.act = lambda x: torch.tanh(self.a(x)) + self.b.bias.sum()

    def forward(self, x):
        return self.b(self.act(x))


def pre_hooked():
    model = sequence()
    model[2].register_forward_pre_hook(lambda _, inputs: (inputs[0] * model[0].bias.exp(),))
    return model


def replaced():
    model = sequence()
    old = model[0].forward
    model[0].forward = lambda x: 2 * old(x) + model[2].weight.mean()
    return model


def shared():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3)).double()
    model[2].weight = model[0].weight
    return model


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)).double()


class Keeps(nn.Module):
    """Keeps an activation, and the loss reads it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        self.kept = torch.tanh(self.a(x))
        return self.b(self.kept)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.r, self.o = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.o(self.r(x[:, None].expand(-1, 3, -1))[0][:, -1])


MODELS = {
    "lambda": lambda: Lambda().double(),
    "forward pre-hook": pre_hooked,
    "replaced forward of a layer": replaced,
    "shared weight": shared,
    "weight_norm of old": old_weight_norm,
    "a kept activation": lambda: Keeps().double(),
    "LSTM": lambda: Recurrent().double(),
    "orthogonal": lambda: nn.Sequential(orthogonal(nn.Linear(4, 4)), nn.Linear(4, 3)).double(),
}


@pytest.mark.parametrize("engine", ["task_by_task", "recomputed", "auto"])
@pytest.mark.parametrize("name", MODELS)
def test_the_value_is_that_of_the_plain_loop(name, engine):
    model, tasks = MODELS[name](), plain_loop.tasks()
    loss, gradient, _ = plain_loop.maml(model, tasks, F.mse_loss)
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, engine=engine)
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*tasks)).item() - loss) < 1e-10
    assert plain_loop.off(gradient, model) < 1e-8


@pytest.mark.parametrize("engine", ["task_by_task", "recomputed", "auto", "all_at_once"])
def test_a_layer_under_two_names_counts_twice_and_stays_the_models_own(engine):
    layer = nn.Linear(4, 4)
    model, tasks = nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(4, 3)).double(), plain_loop.tasks()
    before = [(parameter, parameter.clone()) for parameter in model.parameters()]
    loss, gradient, _ = plain_loop.maml(copy.deepcopy(model), tasks, F.mse_loss)  # torch 2.13 damages such a model
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, engine=engine)
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*tasks)).item() - loss) < 1e-10
    assert plain_loop.off(gradient, model) < 1e-8
    assert all(
        now is own and torch.equal(now, then) for now, (own, then) in zip(model.parameters(), before, strict=True)
    )


def test_weights_tied_after_the_learner_was_made_are_named():
    model, tasks = mamlkit.mlp((4, 4, 4, 3), seed=0).double(), mamlkit.TaskBatch(*plain_loop.tasks())
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1)
    learner.meta_backward(tasks)
    model[2].weight = model[0].weight
    with pytest.raises(ValueError, match=r"expected parameter names out of 0.weight.* got '2.weight'"):
        learner.meta_backward(tasks)


def test_a_loss_that_reads_what_the_model_kept():
    model, tasks = Keeps().double(), plain_loop.tasks()

    def loss(outputs, targets):
        return F.mse_loss(outputs, targets) + model.kept.square().mean()

    value, gradient, _ = plain_loop.maml(model, tasks, loss)
    got = mamlkit.maml(model, loss=loss, inner_steps=2, inner_lr=0.1).meta_backward(mamlkit.TaskBatch(*tasks))
    assert abs(got.item() - value) < 1e-10 and plain_loop.off(gradient, model) < 1e-8


@pytest.mark.parametrize("change", ["hook", "layer", "attribute"])
def test_what_changes_after_the_learner_was_made_counts(change):
    model, tasks = sequence(), plain_loop.tasks()
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1)
    assert learner.engine_name == "linear_all_at_once"
    learner.meta_backward(mamlkit.TaskBatch(*tasks))
    model.zero_grad()
    if change == "hook":
        model[0].register_forward_hook(lambda _, __, y: y * model[2].bias.sum())
    elif change == "layer":
        model[1] = nn.Sequential(nn.BatchNorm1d(5, affine=False).double(), nn.Softplus())
    else:
        model[1] = nn.LeakyReLU()
        model[1].negative_slope = 0.7
    normalises = change == "layer"
    if normalises:
        norm = model[1][0]
        norm.track_running_stats, statistics = False, norm.running_mean.clone()
    loss, gradient, _ = plain_loop.maml(model, tasks, F.mse_loss)
    if normalises:
        norm.track_running_stats = True
    got = learner.meta_backward(mamlkit.TaskBatch(*tasks)).item()
    assert abs(got - loss) < 1e-10 and plain_loop.off(gradient, model) < 1e-8
    if normalises:
        assert torch.equal(norm.running_mean, statistics) and norm.track_running_stats


def test_conv4_with_a_hook_added_later():
    model = mamlkit.conv4(3, image_size=16, filters=4, seed=0).double()
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 6, 1, 16, 16, generator=g).double(), torch.arange(3).repeat(2, 2)
    learner = mamlkit.maml(model, inner_steps=2, inner_lr=0.1)
    model[-1].register_forward_hook(lambda _, __, out: 2 * out)
    got = learner.meta_backward(mamlkit.TaskBatch(x, y, x, y)).item()
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    loss, gradient, _ = plain_loop.maml(model, (x, y, x, y), F.cross_entropy)
    assert abs(got - loss) < 1e-8 and plain_loop.off(gradient, model) < 1e-6


class Held(nn.Module):
    """Holds a weight where functional_call cannot swap it."""

    def __init__(self, where):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5).double(), nn.Linear(5, 3).double()
        weight = self.a.weight
        alias, optimiser = weight.detach(), torch.optim.SGD([weight], 0.1)
        self.call = {
            "list": lambda x, held=[weight]: x @ held[0].mT,
            "dict": lambda x, held={"w": weight}: x @ held["w"].mT,
            "partial": functools.partial(F.linear, weight=weight),
            "closure": lambda x: x @ weight.mT,
            "data": lambda x: x @ weight.data.mT,
            "detached once": lambda x: x @ alias.mT,
            "an optimiser": lambda x: x @ optimiser.param_groups[0]["params"][0].mT,
        }[where]

    def forward(self, x):
        return self.b(torch.tanh(self.call(x)))


@pytest.mark.parametrize("engine", ["task_by_task", "recomputed", "all_at_once"])
@pytest.mark.parametrize("where", ["list", "dict", "partial", "closure", "data", "detached once", "an optimiser"])
def test_a_parameter_held_elsewhere_is_refused_by_name(where, engine):
    learner = mamlkit.maml(Held(where).double(), loss=F.mse_loss, inner_steps=2, engine=engine)
    tasks = mamlkit.TaskBatch(*plain_loop.tasks())
    for call in (learner.meta_backward, lambda t: mamlkit.evaluate(learner, t)):
        with pytest.raises(ValueError, match=r"^expected .*'a\.weight' read from elsewhere") as raised:
            call(tasks)
        assert len(str(raised.value)) < 250


def test_a_frozen_parameter_may_be_held_anywhere():
    model, tasks = Held("list").double(), plain_loop.tasks()
    model.a.requires_grad_(False)
    loss, gradient, _ = plain_loop.maml(model, tasks, F.mse_loss)
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1)
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*tasks)).item() - loss) < 1e-10
    assert plain_loop.off(gradient, model) < 1e-8


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.b(checkpoint(lambda x: torch.tanh(self.a(x)), x, use_reentrant=False))


def test_checkpointing_is_refused_by_name():
    """On the way back it would call the layers with theta, where the adapted parameters were: a wrong gradient."""
    learner = mamlkit.maml(Checkpointed().double(), loss=F.mse_loss, inner_steps=2)
    with pytest.raises(ValueError, match=r"^expected a model without torch\.utils\.checkpoint, got "):
        learner.meta_backward(mamlkit.TaskBatch(*plain_loop.tasks()))


@pytest.mark.parametrize("engine", ["task_by_task", "recomputed", "auto"])
def test_a_loss_that_reads_parameters_is_refused_by_name(engine):
    """It would see theta where the adapted parameters are meant, and engines would differ."""
    model = sequence()

    def loss(outputs, targets):
        return F.mse_loss(outputs, targets) + sum(p.square().sum() for p in model.parameters())

    learner = mamlkit.maml(model, loss=loss, inner_steps=2, engine=engine)
    tasks = mamlkit.TaskBatch(*plain_loop.tasks())
    for call in (learner.meta_backward, lambda t: mamlkit.evaluate(learner, t)):
        with pytest.raises(
            ValueError, match=r"^expected a loss of outputs and targets, got one that reads '0\.weight'"
        ):
            call(tasks)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modules_that_functional_call_does_not_take():
    for model in (nn.DataParallel(sequence()), torch.jit.script(sequence())):
        with pytest.raises(TypeError, match=r"^expected a module that torch\.func\.functional_call can call, got "):
            mamlkit.maml(model, loss=F.mse_loss)


def test_modes_come_back_after_a_failure():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.drop, self.l = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)

        def forward(self, x):
            self.drop(self.norm(x))
            raise KeyboardInterrupt

    model = Fails().double()
    model.drop.eval()
    learner = mamlkit.maml(model, loss=F.mse_loss)
    before = [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
    parameters = list(model.parameters())
    with pytest.raises(KeyboardInterrupt):
        learner.meta_backward(mamlkit.TaskBatch(*plain_loop.tasks()))
    assert [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()] == before
    assert all(p is q for p, q in zip(parameters, model.parameters(), strict=True))
    assert torch.equal(model.norm.running_mean, torch.zeros(4).double())


# --- modes and buffers


class Drops(nn.Module):
    """The ways to drop without an ``nn.Dropout``."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.a, self.b = kind, nn.Linear(4, 4), nn.Linear(4, 3)
        self.lstm = nn.LSTM(4, 4, 2, dropout=0.5, batch_first=True) if kind == "lstm" else None
        self.mha = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True) if kind == "attention" else None

    def forward(self, x):
        h = torch.tanh(self.a(x))
        if self.kind == "functional":
            h = F.dropout(h, 0.5, self.training)
        elif self.kind == "depth" and self.training:
            h = h + h.square() * (torch.rand(len(h), 1, dtype=h.dtype) > 0.5)
        elif self.lstm is not None:
            h = self.lstm(h[:, None].expand(-1, 3, -1))[0][:, -1]
        elif self.mha is not None:
            h = self.mha(h[:, None].expand(-1, 3, -1), h[:, None], h[:, None])[0].mean(1)
        return self.b(h)


@pytest.mark.parametrize("kind", ["functional", "depth", "lstm", "attention"])
def test_what_drops_drops_in_train_mode_and_not_otherwise(kind):
    tasks, values = mamlkit.TaskBatch(*plain_loop.tasks()), {}
    for mode, switch in ((True, True), (True, False), (False, True)):
        torch.manual_seed(0)
        model = Drops(kind).double().train(mode)
        learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, dropout=switch)
        values[mode, switch] = learner.meta_backward(tasks).item()
        assert torch.equal(learner.predict(tasks.query_x[0]), learner.predict(tasks.query_x[0]))
        assert model.training == mode
    assert values[True, True] != values[True, False] == values[False, True]


def test_a_layer_in_eval_mode_does_not_drop():
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 3)).double()
    model[1].eval()
    tasks = plain_loop.tasks()
    loss, _, _ = plain_loop.maml(model, tasks, F.mse_loss)
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1)
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*tasks)).item() - loss) < 1e-10


class Moves(nn.Module):
    """Statistics of its own, in place or by assignment."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place, self.l = in_place, nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        if self.training:
            mean = x.detach().mean(0)
            if self.in_place:
                self.mean.lerp_(mean, 0.1)
            else:
                self.mean = 0.9 * self.mean + 0.1 * mean
        return self.l(x - self.mean)


@pytest.mark.parametrize("engine", ["task_by_task", "recomputed"])
@pytest.mark.parametrize("in_place", [True, False])
def test_the_statistics_of_a_module_of_ones_own_move_once_a_meta_step(in_place, engine):
    model, tasks = Moves(in_place).double(), mamlkit.TaskBatch(*plain_loop.tasks())
    own = model.mean
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=3, engine=engine)
    learner.meta_backward(tasks)
    assert torch.allclose(model.mean, 0.1 * tasks.support_x[-1].mean(0)) and model.mean is own
    before = model.mean.clone()
    mamlkit.evaluate(learner, tasks)
    learner.adapt(tasks.support_x[0], tasks.support_y[0])
    assert torch.equal(model.mean, before)


def test_a_refused_batch_leaves_no_writes():
    model = Moves(True).double()
    system = mamlkit.ModelAgnosticMetaLearning(model, loss=F.mse_loss, inner_steps=1)
    with pytest.raises(ValueError, match="expected a finite meta-loss"):
        system.meta_train_step(*(v * float("inf") for v in plain_loop.tasks()))
    assert torch.equal(model.mean, torch.zeros(4).double())


def test_spectral_norm_follows_its_weight():
    model = nn.Sequential(spectral_norm(nn.Linear(4, 16)), nn.Tanh(), nn.Linear(16, 3)).double()
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=1, inner_lr=0.05)
    optimiser = torch.optim.Adam(learner.parameters(), 0.05)
    for seed in range(60):
        optimiser.zero_grad()
        learner.meta_backward(mamlkit.TaskBatch(*plain_loop.tasks(seed=seed)))
        optimiser.step()
    assert abs(torch.linalg.matrix_norm(model.eval()[0].weight, 2).item() - 1) < 0.01


# --- attention


class Attention(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.q, self.o = kind, nn.Linear(4, 4), nn.Linear(4, 3)
        self.mha = nn.MultiheadAttention(4, 2, batch_first=True) if kind == "mha" else None
        if kind == "encoder":
            self.mha = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x):
        h = self.q(x[..., None] * torch.ones(4, dtype=x.dtype))
        if self.kind == "sdpa":
            h = F.scaled_dot_product_attention(h, h, h)
        elif self.kind == "mha":
            h = self.mha(h, h, h, need_weights=False)[0]
        else:
            h = self.mha(h)
        return self.o(h.mean(1))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("engine", ["task_by_task", "recomputed", "all_at_once"])
@pytest.mark.parametrize("kind", ["sdpa", "mha", "encoder"])
def test_derivatives_go_through_attention(kind, engine, order):
    model, tasks = Attention(kind).double(), plain_loop.tasks()
    with sdpa_kernel(SDPBackend.MATH):
        loss, gradient, _ = plain_loop.maml(model, tasks, F.mse_loss)
    make = mamlkit.maml if order == 2 else mamlkit.fomaml
    learner = make(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, engine=engine, dropout=False)
    fast = torch.backends.mha.get_fastpath_enabled()
    assert abs(learner.meta_backward(mamlkit.TaskBatch(*tasks)).item() - loss) < 1e-10
    assert order == 1 or plain_loop.off(gradient, model) < 1e-8
    assert torch.backends.mha.get_fastpath_enabled() == fast
