"""Learners: what they may change, and what they give back."""

from __future__ import annotations

import copy

import oracles
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit

LEARNERS = {"maml": mamlkit.maml, "fomaml": mamlkit.fomaml}


def learner_for(problem, name="maml", steps=2, **keywords):
    return LEARNERS[name](problem.module, loss=problem.loss, inner_steps=steps, inner_lr=problem.alpha, **keywords)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("algorithm", LEARNERS)
@pytest.mark.parametrize("name", oracles.PROBLEMS)
def test_nothing_of_the_model_changes_but_grad(name, algorithm, training, same_rng):
    problem = oracles.problem(name)
    problem.module.train(training)
    problem.module[0].bias.requires_grad_(False)  # a frozen parameter stays frozen, and its .grad as it was
    kept = problem.module[0].bias.grad = torch.full_like(problem.module[0].bias, 3.0)
    tasks = mamlkit.TaskBatch(*problem.tasks)
    learner = learner_for(problem, algorithm)
    with oracles.unchanged(problem.module, gradients=False):
        learner.meta_backward(tasks)
    assert problem.module[0].bias.grad is kept and torch.equal(kept, torch.full_like(kept, 3.0))
    with oracles.unchanged(problem.module):
        path = learner.adapt(tasks.support_x[0], tasks.support_y[0], steps=4)
        learner.predict(tasks.query_x[0], path[-1])
        mamlkit.evaluate(learner, tasks, steps=4)


def test_the_tasks_do_not_change():
    problem = oracles.problem("conv-batchnorm")
    tasks = mamlkit.TaskBatch(*problem.tasks)
    before = [part.clone() for part in tasks]
    learner = learner_for(problem)
    learner.meta_backward(tasks)
    mamlkit.evaluate(learner, tasks)
    assert all(torch.equal(part, original) for part, original in zip(tasks, before, strict=True))


@pytest.mark.parametrize("name", oracles.PROBLEMS)
def test_adapt_is_the_plain_inner_loop_and_takes_more_steps_than_training(name):
    problem = oracles.problem(name)
    x, y, query_x, _ = (part[0] for part in problem.tasks)
    learner = learner_for(problem, steps=1)
    path = learner.adapt(x, y, steps=6)
    theta = [parameter.detach().clone().requires_grad_() for parameter in problem.module.parameters()]
    truth = oracles.plain_inner_loop(problem.forward, problem.plain_loss, theta, x, y, problem.alpha, 6, False)
    assert len(path) == 7 and len(learner.adapt(x, y)) == 2
    for found, true in zip(path, truth, strict=True):
        assert oracles.relative_error(found.values(), true) < 1e-10
    assert all(not value.requires_grad for value in path[-1].values())
    outputs = learner.predict(query_x, path[-1])
    assert oracles.relative_error([outputs], [problem.forward(truth[-1], query_x)]) < 1e-10
    outputs = learner.predict(query_x)
    assert oracles.relative_error([outputs], [problem.forward(theta, query_x)]) < 1e-10


def test_meta_parameters_are_those_of_the_model():
    problem = oracles.problem("mlp-mse")
    assert [id(p) for p in learner_for(problem).parameters()] == [id(p) for p in problem.module.parameters()]


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_a_copy_learns_on_its_own(algorithm):
    problem = oracles.problem("mlp-mse")
    learner = learner_for(problem, algorithm)
    twin = copy.deepcopy(learner)
    with oracles.unchanged(problem.module):
        twin.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    assert oracles.relative_error(oracles.gradients_of(twin), oracles.gradients_of(learner)) == 0


def test_state_survives_a_round_trip():
    problem, other = oracles.problem("conv-batchnorm", seed=0), oracles.problem("conv-batchnorm", seed=1)
    learner, target = learner_for(problem), learner_for(other)
    target.load_state_dict(learner.state_dict())
    tasks = mamlkit.TaskBatch(*problem.tasks)
    assert torch.equal(learner.meta_backward(tasks), target.meta_backward(tasks))


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_learns_to_learn(algorithm):
    """After some outer steps one inner step helps on new tasks more than it did before."""
    learner = LEARNERS[algorithm](mamlkit.mlp((1, 20, 20, 1), seed=0), loss=F.mse_loss, inner_steps=1, inner_lr=0.01)
    test_tasks = mamlkit.Sinusoids().sample(100, torch.Generator().manual_seed(10_000))

    def gain():
        losses = mamlkit.evaluate(learner, test_tasks).losses.mean(1)
        return (losses[0] - losses[1]).item(), losses[1].item()

    before = gain()
    optimiser = torch.optim.Adam(learner.parameters(), lr=1e-2)
    for _, tasks in zip(range(80), mamlkit.TaskStream(mamlkit.Sinusoids(), 10, seed=1), strict=False):
        optimiser.zero_grad()
        learner.meta_backward(tasks)
        optimiser.step()
    after = gain()
    assert after[0] > before[0] and after[1] < 0.9 * before[1]


def test_an_optimiser_may_be_any_of_torch():
    problem = oracles.problem("mlp-mse")
    learner = learner_for(problem)
    optimiser = torch.optim.SGD(learner.parameters(), lr=0.05, momentum=0.5)
    losses = []
    for _ in range(5):
        optimiser.zero_grad()
        losses.append(learner.meta_backward(mamlkit.TaskBatch(*problem.tasks)).item())
        optimiser.step()
    assert losses[-1] < losses[0]


class ReadsMode(nn.Module):
    """Has dropout as a layer: it must not touch support, query or prediction at evaluation."""

    def __init__(self):
        super().__init__()
        self.body, self.drop, self.head = nn.Linear(1, 32), nn.Dropout(0.5), nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.body(x))))


def test_dropout_layers_are_silent_at_evaluation(same_rng):
    with torch.random.fork_rng(devices=[]):
        learner = mamlkit.maml(ReadsMode(), loss=F.mse_loss, inner_steps=2)
    x = torch.linspace(-1, 1, 6)[:, None]
    assert torch.equal(learner.predict(x), learner.predict(x))
    first, second = learner.adapt(x, x)[-1], learner.adapt(x, x)[-1]
    assert all(torch.equal(first[name], second[name]) for name in first)


class Counts(nn.Module):
    """Writes into a buffer of its own in every forward pass, and uses it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.register_buffer("calls", torch.ones(1))

    def forward(self, x):
        self.calls.add_(1)
        return self.layer(x) * self.calls


def test_only_meta_training_keeps_what_a_model_writes_into_its_buffers():
    """Every pass of a meta-step begins with the same buffers, so that engines agree, and what the last one wrote stays."""
    with torch.random.fork_rng(devices=[]):
        model = Counts()
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2)
    tasks = mamlkit.Sinusoids(3, 3).sample(2, torch.Generator().manual_seed(0))
    with oracles.unchanged(model):
        mamlkit.evaluate(learner, tasks)
        learner.adapt(tasks.support_x[0], tasks.support_y[0])
    learner.meta_backward(tasks)
    assert model.calls.item() == 2


def test_the_engine_can_be_chosen_by_name():
    for engine in ("auto", "task_by_task", "all_at_once"):
        assert mamlkit.maml(mamlkit.mlp(seed=0), engine=engine).inner_steps == 5


class FunctionalDropout(nn.Module):
    """Dropout as a function that reads ``self.training``, as much public code has it."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(1, 32), nn.Linear(32, 1)

    def forward(self, x):
        return self.head(F.dropout(torch.relu(self.body(x)), 0.5, training=self.training))


def test_functional_dropout_is_silent_at_evaluation(same_rng):
    with torch.random.fork_rng(devices=[]):
        learner = mamlkit.maml(FunctionalDropout(), loss=F.mse_loss, inner_steps=2)
    x = torch.linspace(-1, 1, 6)[:, None]
    assert torch.equal(learner.predict(x), learner.predict(x))


class OwnForward(nn.Sequential):
    """A Sequential in name: its forward normalises over the batch, which is wrong under vmap in torch 2.13."""

    def forward(self, x):
        return self[1](F.batch_norm(self[0](x), None, None, training=True))


def test_auto_does_not_trust_a_subclass():
    generator = torch.Generator().manual_seed(0)
    tasks = mamlkit.TaskBatch(*(torch.randn((3, 5, 4), generator=generator) for _ in range(4)))
    with torch.random.fork_rng(devices=[]):
        model = OwnForward(nn.Linear(4, 6), nn.Linear(6, 4))
    gradients = []
    for engine in ("auto", "task_by_task"):
        model.zero_grad()
        mamlkit.maml(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.1, engine=engine).meta_backward(tasks)
        gradients.append(oracles.gradients_of(model))
    assert oracles.relative_error(*gradients) < 1e-5


def test_a_layer_can_be_frozen_after_the_learner_was_made():
    problem = oracles.problem("mlp-mse")
    learner = learner_for(problem)
    problem.module[0].requires_grad_(False)
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    assert problem.module[0].weight.grad is None and problem.module[2].weight.grad is not None


def test_print_says_which_engine_was_taken():
    assert "engine='linear_all_at_once'" in str(mamlkit.maml(mamlkit.mlp(seed=0), loss=F.mse_loss))
    assert "engine='task_by_task'" in str(mamlkit.maml(nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2))))
    assert "engine='recomputed'" in str(mamlkit.maml(mamlkit.mlp(seed=0), loss=F.mse_loss, engine="recomputed"))
    network = mamlkit.conv4(2, image_size=16, filters=4, seed=0)
    assert "engine='conv4_all_at_once'" in str(mamlkit.maml(network))
    assert "engine='conv4_recomputed'" in str(mamlkit.maml(network, engine="recomputed"))
    assert "engine='task_by_task'" in str(mamlkit.maml(network, engine="task_by_task"))
