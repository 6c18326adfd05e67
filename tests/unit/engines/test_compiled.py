"""The compiled meta-step gives the numbers of the unrolled one, with a compiler and without."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

import mamlkit
from mamlkit import Sinusoids, TaskBatch

LEARNERS = {
    "maml": lambda model, **switches: mamlkit.maml(model, inner_steps=3, **switches),
    "fomaml": lambda model, **switches: mamlkit.fomaml(model, inner_steps=3, **switches),
    "anil": lambda model, **switches: mamlkit.anil(model, inner_steps=3, **switches),
    "meta-sgd": lambda model, **switches: mamlkit.meta_sgd(model, inner_steps=2, **switches),
    "maml++": lambda model, **switches: mamlkit.maml_plus_plus(model, inner_steps=3, inner_lr=0.01, **switches),
    "maml++, first order": lambda model, **switches: mamlkit.maml_plus_plus(
        model, inner_steps=3, inner_lr=0.01, first_order_epochs=1, **switches
    ),
}


def network():
    return mamlkit.mlp((1, 7, 5, 1), seed=0).double()


def sinusoids(tasks=4, shots=5):
    batch = Sinusoids(shots=shots, queries=6).sample(tasks, torch.Generator().manual_seed(0))
    return TaskBatch(*(tensor.double() for tensor in batch))


def assert_same(learner, truth, tasks):
    losses = [each.meta_backward(tasks) for each in (learner, truth)]
    torch.testing.assert_close(*losses, rtol=1e-10, atol=0.0)
    expected = truth.meta_parameters()
    for name, value in learner.meta_parameters().items():
        torch.testing.assert_close(value.grad, expected[name].grad, rtol=1e-8, atol=1e-12, msg=name)


@pytest.fixture
def uncompiled(monkeypatch):
    """The program as it is recorded, without the minute that compiling takes."""
    monkeypatch.setattr(torch, "compile", lambda program, **options: program)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_program_computes_the_meta_gradient(name, uncompiled):
    learner = LEARNERS[name](network(), loss=F.mse_loss, engine="compiled")
    truth = LEARNERS[name](network(), loss=F.mse_loss, engine="task_by_task")
    for epoch, tasks in itertools.product(
        (0, 5, 20), (sinusoids(), sinusoids(3, shots=2))
    ):  # weights and shapes change
        learner.epoch = truth.epoch = epoch
        for each in (learner, truth):
            each.zero_grad()
        assert_same(learner, truth, tasks)


def test_learned_rates_are_read_anew_in_every_step(uncompiled):
    learner, truth = (
        LEARNERS["maml++"](network(), loss=F.mse_loss, engine=engine) for engine in ("compiled", "task_by_task")
    )
    learner.meta_backward(sinusoids())
    for each in (learner, truth):
        each.zero_grad()
        for rate in each.step_sizes.parameters():
            rate.data.mul_(3.0)
    assert_same(learner, truth, sinusoids())


FOR_REAL = """
import warnings, torch, mamlkit
warnings.filterwarnings("error", message="engine 'compiled'")
gradients = []
for engine in ("compiled", "task_by_task"):
    learner = mamlkit.maml(mamlkit.mlp((1, 5, 1), seed=0), inner_steps=1, loss=torch.nn.functional.mse_loss, engine=engine)
    learner.meta_backward(mamlkit.Sinusoids(5, 5).sample(2, torch.Generator().manual_seed(0)))
    gradients.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
    print(engine, getattr(learner.engine, "compile_seconds", 0.0) > 0)
torch.testing.assert_close(*gradients)
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_for_real():
    """In a process of its own: torch.compile does not look into the checks of shapes that these tests add."""
    result = subprocess.run([sys.executable, "-c", FOR_REAL], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["compiled", "True", "task_by_task", "False"]


def test_without_a_compiler_it_says_so_and_computes_all_the_same(monkeypatch):
    def broken(program, **options):
        def call(*arguments):
            raise RuntimeError("no working C++ compiler found\nand much more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    learner = mamlkit.maml(network(), inner_steps=2, loss=F.mse_loss, engine="compiled")
    truth = mamlkit.maml(network(), inner_steps=2, loss=F.mse_loss, engine="task_by_task")
    with pytest.warns(RuntimeWarning, match="uncompiled: RuntimeError: no working C\\+\\+ compiler found$"):
        assert_same(learner, truth, sinusoids())
    for each in (learner, truth):
        each.zero_grad()
    assert_same(learner, truth, sinusoids(2))  # and not a second time


def test_batch_norm_is_refused():
    with pytest.raises(ValueError, match="for engine 'compiled'"):
        mamlkit.maml(torch.nn.Sequential(torch.nn.Linear(1, 3), torch.nn.BatchNorm1d(3)), engine="compiled")
