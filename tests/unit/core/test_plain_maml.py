"""MAML in plain PyTorch, as the docstring of ``maml`` has it, is what ``maml`` computes."""

from __future__ import annotations

import oracles
import pytest
import torch
from docstrings import example
from torch.func import functional_call
from torch.nn import functional as F

import mamlkit


@pytest.mark.parametrize("engine", ["auto", "task_by_task"])
def test_the_docstring_of_maml_is_maml(engine):
    tasks = mamlkit.Sinusoids().sample(3, torch.Generator().manual_seed(0))
    tasks = mamlkit.TaskBatch(*(part.double() for part in tasks))
    model, same = (mamlkit.mlp(seed=0).double() for _ in range(2))
    before = [value.detach().clone() for value in model.parameters()]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    names = {"torch": torch, "functional_call": functional_call, "optimiser": optimiser}
    exec(compile(example(mamlkit.maml), "maml", "exec"), names | {"model": model, "loss": F.mse_loss, "tasks": tasks})
    mamlkit.maml(same, loss=F.mse_loss, engine=engine).meta_backward(tasks)
    assert oracles.relative_error(oracles.gradients_of(model), oracles.gradients_of(same)) < 1e-12
    for start, value in zip(before, model.parameters(), strict=True):
        assert torch.allclose(value, start - 0.1 * value.grad, rtol=0, atol=1e-14)
