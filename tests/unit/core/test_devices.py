"""One meta-step where tensors have no data: proof, on a machine without a GPU, that nothing is made on the wrong device.

On ``device="meta"`` an ``.item()`` raises, and so does an operation that mixes in a tensor of the CPU.
"""

from __future__ import annotations

import pytest
import torch
from engine_names import ENGINES
from torch import nn
from torch.nn import functional as F

import mamlkit


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
    for engine in ENGINES
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


# Every learner, with every part of it switched on

ALL_SWITCHES = {"per_step_statistics": True, "first_order_epochs": 0, "multi_step_loss": "annealed"}
EVERY_LEARNER = {
    "maml": (mamlkit.maml, {}),
    "fomaml": (mamlkit.fomaml, {}),
    "anil": (mamlkit.anil, {}),
    "reptile": (mamlkit.reptile, {}),
    "meta-sgd": (mamlkit.meta_sgd, {}),
    **{
        f"maml++ {sizes}": (mamlkit.maml_plus_plus, ALL_SWITCHES | {"step_sizes": sizes})
        for sizes in ("fixed", *mamlkit.LearnedStepSizes.kinds)
    },
    "maml++ official": (mamlkit.maml_plus_plus, {}),
}


def every_learner(name, device):
    model, tasks, loss = conv_case()
    model.insert(4, nn.Dropout(0.3))
    algorithm, switches = EVERY_LEARNER[name]
    return algorithm(model.to(device), loss=loss, inner_steps=2, inner_lr=0.1, **switches), tasks


@pytest.mark.parametrize("name", EVERY_LEARNER)
def test_a_meta_step_of_every_learner_runs_without_data(name, same_rng):
    learner, tasks = every_learner(name, "meta")
    tasks = tasks.to("meta")
    optimiser = torch.optim.SGD(learner.meta_parameters().values(), lr=0.1)
    assert learner.meta_backward(tasks).device.type == "meta"
    optimiser.step()
    for value in [*learner.state_dict().values(), *(p.grad for p in learner.parameters() if p.grad is not None)]:
        assert value.device.type == "meta"
    assert mamlkit.evaluate(learner, tasks, steps=3).losses.device.type == "meta"


@pytest.mark.parametrize("part", mamlkit.TaskBatch._fields)
@pytest.mark.parametrize("name", EVERY_LEARNER)
def test_images_and_labels_on_another_device_are_noticed(name, part):
    learner, tasks = every_learner(name, "meta")
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        learner.meta_backward(tasks.to("meta")._replace(**{part: getattr(tasks, part)}))


@pytest.mark.parametrize(
    "name", [name for name in EVERY_LEARNER if name.endswith(("sgd", "tensor", "step", "parameter"))]
)
def test_rates_on_another_device_are_noticed(name):
    """Those of one number too, which torch takes from any device."""
    learner, tasks = every_learner(name, "meta")
    assert {rate.device.type for rate in learner.step_sizes.alpha.values()} == {"meta"}
    key = next(iter(learner.step_sizes._alpha))
    rate = learner.step_sizes._alpha[key]
    learner.step_sizes._alpha[key] = nn.Parameter(torch.full(rate.shape, 0.1))
    tasks = tasks.to("meta")
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        learner.meta_backward(tasks)
