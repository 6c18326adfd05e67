"""Evaluation against slow loops and plain Python."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from engine_names import ENGINES
from hypothesis import given
from hypothesis import strategies as st

import mamlkit


@given(values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=30))
def test_interval_against_plain_python(values):
    found = mamlkit.interval(torch.tensor(values))
    mean, half_width = oracles.interval_by_hand(values)
    assert found.mean == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert found.half_width == pytest.approx(half_width, rel=1e-6, abs=1e-6)
    assert found.tasks == len(values)


def test_interval_against_numpy_in_float32_far_from_zero():
    """The spread of values that are large against it: float32 sums would lose it."""
    values = torch.tensor([10_000.0, 10_000.5, 10_001.0, 10_000.25])
    found = mamlkit.interval(values)
    assert found.half_width == pytest.approx(1.96 * values.double().numpy().std(ddof=1) / math.sqrt(4), rel=1e-9)
    assert str(mamlkit.interval(torch.tensor([1.0, 2.0, 3.0]))) == "2.000 ± 1.132"


def test_interval_covers_the_truth_19_times_out_of_20():
    draws = np.random.default_rng(0).exponential(size=(2000, 100))
    hits = [abs(found.mean - 1) <= found.half_width for found in map(mamlkit.interval, torch.from_numpy(draws))]
    assert 0.91 < np.mean(hits) < 0.97


def slow_evaluation(problem, steps):
    """Losses and accuracies ``(steps + 1, tasks)``, point by point."""
    losses, accuracies = [], []
    for support_x, support_y, query_x, query_y in zip(*problem.tasks, strict=True):
        theta = [parameter.detach().clone().requires_grad_() for parameter in problem.module.parameters()]
        path = oracles.plain_inner_loop(
            problem.forward, problem.plain_loss, theta, support_x, support_y, problem.alpha, steps, False
        )
        outputs = [problem.forward(w, query_x).detach() for w in path]
        losses.append([problem.plain_loss(out, query_y).item() for out in outputs])
        if not query_y.is_floating_point():
            accuracies.append(
                [
                    sum(
                        max(range(len(row)), key=row.__getitem__) == label
                        for row, label in zip(out, labels, strict=True)
                    )
                    / len(labels)
                    for out, labels in ((out.tolist(), query_y.tolist()) for out in outputs)
                ]
            )
    return np.array(losses).T, np.array(accuracies).T if accuracies else None


CASES = [
    (name, engine)
    for name in oracles.PROBLEMS
    for engine in ("auto", *ENGINES)
    if not (name == "conv-batchnorm" and engine == "all_at_once")
]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_losses_and_accuracies_against_a_slow_loop(name, engine):
    problem = oracles.problem(name, num_tasks=6)
    learner = mamlkit.maml(problem.module, loss=problem.loss, inner_steps=2, inner_lr=problem.alpha, engine=engine)
    found = mamlkit.evaluate(learner, mamlkit.TaskBatch(*problem.tasks), steps=4)
    losses, accuracies = slow_evaluation(problem, 4)
    assert found.losses.shape == (5, 6) and not found.losses.requires_grad
    assert np.allclose(found.losses.numpy(), losses, rtol=1e-10)
    for step in range(5):
        mean, half_width = oracles.interval_by_hand(losses[step])
        assert found.loss(step).mean == pytest.approx(mean)
        assert found.loss(step).half_width == pytest.approx(half_width)
    assert found.loss() == found.loss(4) == found.loss(-1)
    if accuracies is None:
        assert found.accuracies is None
        return
    assert np.allclose(found.accuracies.numpy(), accuracies, atol=1e-12)
    mean, half_width = oracles.interval_by_hand(accuracies[-1])
    assert found.accuracy().mean == pytest.approx(mean) and found.accuracy().half_width == pytest.approx(half_width)
    mean, half_width = oracles.interval_by_hand(accuracies[-1] - accuracies[0])  # of differences, task by task
    assert found.gain.mean == pytest.approx(mean) and found.gain.half_width == pytest.approx(half_width)
    for threshold in (0.0, 0.2, 0.5, 0.8):
        assert found.share_above(threshold) == pytest.approx(np.mean(accuracies[-1] > threshold))


def test_share_above_is_strictly_above():
    found = mamlkit.Evaluation(torch.zeros(2, 4), torch.tensor([[0.9, 0.9, 0.9, 0.9], [0.2, 0.5, 0.6, 1.0]]))
    assert found.share_above(0.5) == 0.5  # one task has exactly 0.5 and does not count
    assert found.share_above(1.0) == 0.0


def test_the_steps_of_training_are_the_default():
    problem = oracles.problem("mlp-mse")
    learner = mamlkit.maml(problem.module, loss=problem.loss, inner_steps=3, inner_lr=problem.alpha)
    assert mamlkit.evaluate(learner, mamlkit.TaskBatch(*problem.tasks)).losses.shape == (4, 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_size_of_a_chunk_makes_no_difference(engine):
    problem = oracles.problem("mlp-cross-entropy", num_tasks=7)
    learner = mamlkit.maml(problem.module, loss=problem.loss, inner_steps=2, inner_lr=problem.alpha, engine=engine)
    tasks = mamlkit.TaskBatch(*problem.tasks)
    whole = mamlkit.evaluate(learner, tasks, chunk=7)
    for chunk in (1, 3, 100):
        part = mamlkit.evaluate(learner, tasks, chunk=chunk)
        assert torch.allclose(part.losses, whole.losses, rtol=1e-12)
        assert torch.equal(part.accuracies, whole.accuracies)


def test_works_where_gradients_are_switched_off(same_rng):
    problem = oracles.problem("conv-batchnorm")
    learner = mamlkit.maml(problem.module, loss=problem.loss, inner_steps=2, inner_lr=problem.alpha)
    tasks = mamlkit.TaskBatch(*problem.tasks)
    outside = mamlkit.evaluate(learner, tasks)
    with torch.no_grad():
        inside = mamlkit.evaluate(learner, tasks)
    assert torch.equal(inside.losses, outside.losses)


def test_running_statistics_judge_query_points_one_by_one():
    """Inductive: an answer must not depend on the other query points. Transductive (the default): it does, and says so."""
    problem = oracles.problem("conv-batchnorm")
    names = [name for name, _ in problem.module.named_parameters()]
    tasks = mamlkit.TaskBatch(*problem.tasks)
    alone = tasks._replace(query_x=tasks.query_x[:, :2], query_y=tasks.query_y[:, :2])
    for statistics, transductive in (("batch", True), ("running", False)):
        learner = mamlkit.Learner(
            problem.module,
            loss=problem.loss,
            inner_steps=2,
            step_sizes=mamlkit.FixedStepSize(names, problem.alpha),
            query_statistics=statistics,
        )
        assert learner.is_transductive == transductive
        path = learner.adapt(tasks.support_x[0], tasks.support_y[0])
        whole, part = (learner.predict(batch.query_x[0], path[-1]) for batch in (tasks, alone))
        assert torch.allclose(whole[:2], part, rtol=1e-9) != transductive


def test_a_bar_counts_tasks_when_asked(capsys):
    learner = mamlkit.maml(mamlkit.mlp(seed=0), loss=torch.nn.functional.mse_loss, inner_steps=1)
    tasks = mamlkit.Sinusoids().sample(7, torch.Generator().manual_seed(0))
    quiet = mamlkit.evaluate(learner, tasks, chunk=3)
    assert capsys.readouterr().err == ""
    shown = mamlkit.evaluate(learner, tasks, chunk=3, progress=True)
    assert "7/7" in capsys.readouterr().err
    assert torch.equal(shown.losses, quiet.losses)
