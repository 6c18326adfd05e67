"""Per-step batch norm: what is collected, when it is used, and what an answer depends on."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit

K, ALPHA = 3, 0.1


def learner_for(problem, **switches):
    return mamlkit.maml_plus_plus(problem.module, loss=problem.loss, inner_steps=K, inner_lr=ALPHA, **switches)


def plain_path(problem, task, steps=K):
    theta = [parameter.detach().clone().requires_grad_() for parameter in problem.module.parameters()]
    frozen = {2, 3, 6, 7}  # batch-norm weights are not adapted
    x, y = problem.tasks[0][task], problem.tasks[1][task]
    path = [theta]
    for _ in range(steps):
        gradients = torch.autograd.grad(problem.plain_loss(problem.forward(path[-1], x), y), path[-1])
        path.append(
            [
                w if i in frozen else (w - ALPHA * g).detach().requires_grad_()
                for i, (w, g) in enumerate(zip(path[-1], gradients, strict=True))
            ]
        )
    return path


def features(w, x):
    """What the first batch norm sees: ``(channels, points * height * width)``."""
    return F.conv2d(x, w[0], w[1], padding=1).transpose(0, 1).flatten(1).detach()


@pytest.mark.parametrize("multi_step_loss", ["uniform", None])
def test_each_step_collects_the_statistics_of_its_query_pass(multi_step_loss):
    """By hand, for one task: 0.9 of what was there and 0.1 of the batch, the variance without bias. Every step collects,
    also where its loss has no weight."""
    problem = oracles.problem("conv-batchnorm", num_tasks=1)
    learner = learner_for(problem, per_step_statistics=True, multi_step_loss=multi_step_loss)
    path = plain_path(problem, 0)
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    assert (
        not problem.module[1].running_mean.any() and (problem.module[1].running_var == 1).all()
    )  # not the model's own
    for step in range(K):
        seen = features(path[step + 1], problem.tasks[2][0])
        found = learner.batch_norm.statistics(step)
        assert torch.allclose(found["1.running_mean"], 0.1 * seen.mean(1), rtol=1e-9)
        assert torch.allclose(found["1.running_var"], 0.9 + 0.1 * seen.var(1, correction=1), rtol=1e-9)


def test_support_passes_and_evaluation_collect_nothing():
    problem = oracles.problem("conv-batchnorm")
    learner = learner_for(problem, per_step_statistics=True)
    with oracles.unchanged(learner):
        path = learner.adapt(problem.tasks[0][0], problem.tasks[1][0])
        learner.predict(problem.tasks[2][0], path[-1])
        mamlkit.evaluate(learner, mamlkit.TaskBatch(*problem.tasks))


def by_hand(w, x, statistics):
    """The network with given statistics in both batch norms."""
    for (kernel, bias, gamma, beta), name in ((w[0:4], "1"), (w[4:8], "5")):
        x = F.conv2d(x, kernel, bias, padding=1)
        mean, variance = statistics[f"{name}.running_mean"], statistics[f"{name}.running_var"]
        x = (x - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]
        x = torch.clamp(x * gamma[:, None, None] + beta[:, None, None], min=0)
        n, c, height, width = x.shape
        x = x.reshape(n, c, height // 2, 2, width // 2, 2).amax((3, 5))
    return x.flatten(1) @ w[8].T + w[9]


def trained(**switches):
    problem = oracles.problem("conv-batchnorm")
    learner = learner_for(problem, **switches)
    for _ in range(4):
        learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    return problem, learner


@pytest.mark.parametrize("steps", [K, K + 2])
def test_evaluation_normalises_with_the_statistics_of_the_step(steps):
    """Row k-1 after k steps, row 0 before adaptation, row K-1 beyond K; support sets keep the statistics of their batch."""
    problem, learner = trained(per_step_statistics=True)
    found = mamlkit.evaluate(learner, mamlkit.TaskBatch(*problem.tasks), steps=steps).losses
    for task in range(3):
        for step, w in enumerate(plain_path(problem, task, steps)):
            rows = learner.batch_norm.statistics(min(max(step - 1, 0), K - 1))
            outputs = by_hand(w, problem.tasks[2][task], rows)
            truth = problem.plain_loss(outputs, problem.tasks[3][task])
            assert found[step, task].item() == pytest.approx(truth.item(), rel=1e-9)


@pytest.mark.parametrize("row", range(K))
def test_changing_a_row_changes_the_steps_that_use_it_and_no_other(row):
    problem, learner = trained(per_step_statistics=True)
    tasks = mamlkit.TaskBatch(*problem.tasks)
    before = mamlkit.evaluate(learner, tasks, steps=K + 1).losses
    learner.batch_norm.statistics(row)["5.running_mean"].add_(1.0)
    changed = (mamlkit.evaluate(learner, tasks, steps=K + 1).losses != before).all(1)
    users = [[0, 1], [2], [3, 4]][row]
    assert changed.tolist() == [step in users for step in range(K + 2)]


@pytest.mark.parametrize("inductive", [True, False])
def test_a_learner_says_whether_query_points_see_each_other(inductive):
    problem, learner = trained(per_step_statistics=inductive)
    assert learner.is_transductive is not inductive
    x, y, query, _ = (part[0] for part in problem.tasks)
    path = learner.adapt(x, y)
    alone = torch.cat([learner.predict(point[None], path[-1]) for point in query])
    together = learner.predict(query, path[-1])
    assert torch.allclose(alone, together, rtol=1e-9) is inductive
    tasks = mamlkit.TaskBatch(*problem.tasks)
    halves = [
        mamlkit.evaluate(learner, tasks._replace(query_x=tasks.query_x[:, part], query_y=tasks.query_y[:, part])).losses
        for part in (slice(0, 3), slice(3, 7))
    ]
    whole = mamlkit.evaluate(learner, tasks).losses
    assert torch.allclose((3 * halves[0] + 4 * halves[1]) / 7, whole, rtol=1e-9) is inductive


def test_the_official_behaviour_collects_and_uses_no_statistics():
    problem, learner = trained(per_step_statistics=False)
    assert not learner.batch_norm.has_statistics and learner.batch_norm.statistics(0) == {}
    assert torch.equal(problem.module[1].running_mean, torch.zeros(3, dtype=torch.float64))
    tasks = mamlkit.TaskBatch(*problem.tasks)
    before = mamlkit.evaluate(learner, tasks).losses
    problem.module[1].running_mean += 3.0
    problem.module[1].running_var *= 3.0
    assert torch.equal(mamlkit.evaluate(learner, tasks).losses, before)


def test_a_model_without_batch_norm_is_not_transductive():
    for switches in ({}, {"per_step_statistics": True}):
        learner = mamlkit.maml_plus_plus(mamlkit.mlp(seed=0), loss=F.mse_loss, **switches)
        assert not learner.is_transductive and learner.batch_norm is None


def test_rows_start_from_the_model_and_beyond_k_the_last_goes_on():
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
    model[1].weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    model[1].running_mean += 5.0
    rows = mamlkit.PerStepBatchNorm(model, 2, weights=True, statistics=True)
    assert rows.weight_names == {"1.weight", "1.bias"}
    for step in range(2):
        assert torch.equal(rows.weights(step)["1.weight"], model[1].weight)
        assert torch.equal(rows.statistics(step)["1.running_mean"], model[1].running_mean)
    rows._rows["1/weight"].data[1] = 7.0
    assert rows.weights(5)["1.weight"].tolist() == [7.0] * 4 and rows.weights(0)["1.weight"].tolist() == [1, 2, 3, 4]
    assert model[1].weight.tolist() == [1, 2, 3, 4]  # a copy
    rows.statistics(1)["1.running_var"].mul_(2.0)  # a view: batch norm writes into the row
    assert rows.statistics(9)["1.running_var"].tolist() == [2.0] * 4 != rows.statistics(0)["1.running_var"].tolist()
