"""Batch norm with the statistics that a pretrained model came with: used everywhere, never changed."""

from __future__ import annotations

from types import SimpleNamespace

import oracles
import plain_learners
import plain_loop
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit

TASKS = mamlkit.TaskBatch(*plain_loop.tasks())
MEAN, VARIANCE = torch.linspace(-1, 1, 6, dtype=torch.float64), torch.linspace(0.5, 2, 6, dtype=torch.float64)


def pretrained():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for tensor, value in zip(model[1].buffers(), (MEAN, VARIANCE, 7), strict=True):
            tensor.copy_(torch.as_tensor(value))
        for weight in model[1].parameters():
            weight += 0.3 * torch.linspace(-1, 1, 6)
    return model


def forward(weights, x):
    """The same network, written out."""
    w, b, gamma, beta, v, c = weights
    h = ((x @ w.T + b) - MEAN) / torch.sqrt(VARIANCE + 1e-5) * gamma + beta
    return torch.tanh(h) @ v.T + c


def problem_of(model):
    return SimpleNamespace(module=model, forward=forward, plain_loss=lambda o, y: ((o - y) ** 2).mean(), tasks=TASKS)


CASES = {
    "maml": (mamlkit.maml, {}, {}),
    "head": (mamlkit.maml, {"adapted": ["3.weight", "3.bias"]}, {}),
    "fomaml": (mamlkit.fomaml, {}, {"order": 1}),
    "meta-sgd": (mamlkit.meta_sgd, {}, {}),
    "maml++": (mamlkit.maml_plus_plus, {}, {"per_step": True}),
    "maml++ without rows": (mamlkit.maml_plus_plus, {"per_step_weights": False}, {"per_step": True}),
}


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("engine", ["auto", "task_by_task", "recomputed"])
@pytest.mark.parametrize("case", CASES)
def test_meta_gradient_against_the_network_written_out(case, engine, mode):
    algorithm, switches, keywords = CASES[case]
    model = pretrained().train(mode)
    learner = algorithm(
        model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, keep_statistics=True, engine=engine, **switches
    )
    assert (learner.batch_norm is not None) == (case == "maml++")
    plain_learners.scatter(learner)
    learned = isinstance(learner.step_sizes, mamlkit.LearnedStepSizes)
    values, _ = plain_learners.values_of(learner, None if learned else dict(learner.step_sizes(0)))
    leaves = values.leaves()
    weights = learner.outer_loss.weights(2, 0).tolist()
    loss = plain_learners.meta_loss(problem_of(model), leaves, weights, **keywords)
    expected = torch.autograd.grad(loss, leaves.tensors())
    with oracles.unchanged(model):  # but for .grad
        value = learner.meta_backward(TASKS)
        found = [gradient.clone() for gradient in plain_learners.values_of(learner)[1].tensors()]
        model.zero_grad()
    assert value.item() == pytest.approx(loss.item(), rel=1e-10)
    assert oracles.relative_error(found, expected) < 1e-8
    assert [b.tolist() for b in model[1].buffers()] == [MEAN.tolist(), VARIANCE.tolist(), 7]


def test_evaluation_and_training_leave_them():
    model = pretrained()
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, keep_statistics=True)
    together = mamlkit.evaluate(learner, TASKS).losses
    one = TASKS._replace(query_x=TASKS.query_x[:, :1], query_y=TASKS.query_y[:, :1])
    alone = mamlkit.evaluate(learner, one).losses
    end = learner.adapt(TASKS.support_x[0], TASKS.support_y[0])[-1]
    answers = forward(list(end.values()), TASKS.query_x[0])
    assert torch.allclose(learner.predict(TASKS.query_x[0], end), answers)
    assert together[-1, 0].item() == pytest.approx(F.mse_loss(answers, TASKS.query_y[0]).item(), rel=1e-10)
    assert alone[-1, 0].item() == pytest.approx(F.mse_loss(answers[:1], TASKS.query_y[0, :1]).item(), rel=1e-10)
    assert not learner.is_transductive and mamlkit.maml(model).is_transductive
    optimiser = torch.optim.SGD(learner.parameters(), lr=0.1)
    for _ in range(3):
        learner.meta_backward(TASKS)
        optimiser.step()
    assert [b.tolist() for b in model[1].buffers()] == [MEAN.tolist(), VARIANCE.tolist(), 7]


def test_conv4_takes_an_engine_that_knows_them():
    model = mamlkit.conv4(3, channels=1, image_size=16, filters=4, seed=0).double()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.copy_(torch.linspace(0.5, 1.5, 4))
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 1, 16, 16, generator=g, dtype=torch.float64)
    y = torch.arange(6).remainder(3).repeat(2, 1)
    learner = mamlkit.maml(model, inner_steps=2, inner_lr=0.1, keep_statistics=True)
    value = learner.meta_backward(mamlkit.TaskBatch(x, y, x.flip(1), y.flip(1)))
    loss, gradient, _ = plain_loop.maml(model.eval(), (x, y, x.flip(1), y.flip(1)), F.cross_entropy)
    assert value.item() == pytest.approx(loss, rel=1e-10) and plain_loop.off(gradient, model) < 1e-8
