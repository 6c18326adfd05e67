"""One meta-step where tensors have no data: proof, on a machine without a GPU, that nothing is made on the wrong device.

On ``device="meta"`` an ``.item()`` raises, and so does an operation that mixes in a tensor of the CPU.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit
from mamlkit.meta_gradient import ENGINES


def mlp_case():
    model = mamlkit.mlp(seed=0)
    return model, mamlkit.Sinusoids(5, 6).sample(3, torch.Generator().manual_seed(0)), F.mse_loss


def conv_case():
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(4 * 4 * 4, 5),
        )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((3, 5, 1, 8, 8), generator=generator)
    y = torch.arange(5).expand(3, 5)
    return model, mamlkit.TaskBatch(x, y, x, y), F.cross_entropy


CASES = {
    f"{name}-{algorithm.__name__}-{engine}": (case, algorithm, engine)
    for name, case in (("mlp", mlp_case), ("conv", conv_case))
    for algorithm in (mamlkit.maml, mamlkit.fomaml)
    for engine in sorted(ENGINES)
    if not (name == "conv" and engine == "all_at_once")
}


def make(name, device):
    case, algorithm, engine = CASES[name]
    model, tasks, loss = case()
    learner = algorithm(model.to(device), loss=loss, inner_steps=2, inner_lr=0.1, engine=engine)
    return learner, tasks


@pytest.mark.parametrize("name", CASES)
def test_a_meta_step_runs_without_data(name):
    learner, tasks = make(name, "meta")
    loss = learner.meta_backward(tasks.to("meta"))
    assert loss.device.type == "meta" and loss.shape == ()
    assert all(parameter.grad.device.type == "meta" for parameter in learner.parameters())
    assert all(parameter.grad.shape == parameter.shape for parameter in learner.parameters())


@pytest.mark.parametrize("name", CASES)
def test_evaluation_and_prediction_run_without_data(name):
    learner, tasks = make(name, "meta")
    tasks = tasks.to("meta")
    found = mamlkit.evaluate(learner, tasks, steps=3)
    assert found.losses.shape == (4, 3) and found.losses.device.type == "meta"
    path = learner.adapt(tasks.support_x[0], tasks.support_y[0])
    assert learner.predict(tasks.query_x[0], path[-1]).device.type == "meta"


@pytest.mark.parametrize("part", mamlkit.TaskBatch._fields)
@pytest.mark.parametrize("name", CASES)
def test_a_tensor_on_another_device_is_noticed(name, part):
    learner, tasks = make(name, "meta")
    mixed = tasks.to("meta")._replace(**{part: getattr(tasks, part)})
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        learner.meta_backward(mixed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_gives_the_numbers_of_the_cpu(name):
    gradients = {}
    for device in ("cpu", "cuda"):
        learner, tasks = make(name, device)
        learner.double()
        batch = mamlkit.TaskBatch(*(t.double() if t.is_floating_point() else t for t in tasks)).to(device)
        learner.meta_backward(batch)
        gradients[device] = torch.cat([parameter.grad.flatten().cpu() for parameter in learner.parameters()])
    assert torch.allclose(gradients["cuda"], gradients["cpu"], rtol=1e-8, atol=1e-10)
