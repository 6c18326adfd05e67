"""Mixed precision: products really are in bfloat16, everything around them is not, and training still works."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import mamlkit

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution"}


class Recorder(TorchDispatchMode):
    """The types of what goes into each matrix product and convolution, forwards and backwards."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in PRODUCTS:
            self.seen |= {arg.dtype for arg in args if isinstance(arg, torch.Tensor)}
        return function(*args, **(kwargs or {}))


def classifier():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(4),
                             nn.Flatten(), nn.Linear(16, 3))  # fmt: skip


def batch():
    generator = torch.Generator().manual_seed(0)
    return mamlkit.TaskBatch(
        torch.rand((2, 6, 1, 8, 8), generator=generator), torch.arange(3).repeat(2, 2),
        torch.rand((2, 6, 1, 8, 8), generator=generator), torch.arange(3).repeat(2, 2),
    )  # fmt: skip


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("plus_plus", [True, False])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_products_are_in_the_precision_asked_for(network, plus_plus, mixed):
    tasks, model, loss = batch(), classifier(), F.cross_entropy
    if network == "mlp":
        tasks = mamlkit.Sinusoids(3, 3).sample(2, torch.Generator().manual_seed(0))
        model, loss = mamlkit.mlp((1, 8, 8, 1), seed=0), F.mse_loss
    system = mamlkit.ModelAgnosticMetaLearning(
        model, inner_lr=0.05, inner_steps=2, plus_plus=plus_plus, loss=loss, mixed_precision=mixed
    )
    with Recorder() as recorder:
        system.meta_train_step(*tasks)
        weights = system.inner_update(tasks.support_x[0], tasks.support_y[0])
        outputs = system.forward_with_weights(tasks.query_x[0], weights)
        result = mamlkit.evaluate_maml(system, tasks)
    assert recorder.seen == {torch.bfloat16 if mixed else torch.float32}
    everything = [outputs, result.losses, *weights.values(), *system.learner.state_dict().values()]
    everything += [parameter.grad for parameter in system.learner.meta_parameters().values()]
    assert {value.dtype for value in everything if value.is_floating_point()} == {torch.float32}


def test_the_switch_changes_the_result_a_little():
    results = []
    for mixed in (False, True):
        system = mamlkit.ModelAgnosticMetaLearning(classifier(), inner_lr=0.05, inner_steps=2, mixed_precision=mixed)
        results.append(system.meta_train_step(*batch()))
    assert results[0] != results[1] and results[0] == pytest.approx(results[1], rel=0.05)


def test_the_meta_gradient_points_the_same_way():
    """Second order included: a gradient that autocast had cut off would differ by much more than rounding."""
    gradients = []
    for precision, order in ((None, 2), (torch.bfloat16, 2), (None, 1)):
        algorithm = mamlkit.maml if order == 2 else mamlkit.fomaml
        model = mamlkit.mlp((1, 16, 16, 1), seed=1)
        learner = algorithm(model, loss=F.mse_loss, inner_steps=3, inner_lr=0.1, autocast=precision)
        learner.meta_backward(mamlkit.Sinusoids(10, 10).sample(8, torch.Generator().manual_seed(1)))
        gradients.append(oracles.gradients_of(model))
    assert oracles.relative_error(gradients[1], gradients[0]) < 0.1
    assert oracles.relative_error(gradients[2], gradients[0]) > 0.2


def test_training_in_bfloat16_learns():
    learner = mamlkit.maml(mamlkit.mlp((1, 20, 20, 1), seed=0), loss=F.mse_loss, inner_steps=1, autocast=torch.bfloat16)
    test_tasks = mamlkit.Sinusoids().sample(50, torch.Generator().manual_seed(10_000))
    before = mamlkit.evaluate(learner, test_tasks).loss().mean
    optimiser = torch.optim.Adam(learner.parameters(), lr=1e-2)
    for _, tasks in zip(range(60), mamlkit.TaskStream(mamlkit.Sinusoids(), 10, seed=1), strict=False):
        optimiser.zero_grad()
        learner.meta_backward(tasks)
        optimiser.step()
    assert mamlkit.evaluate(learner, test_tasks).loss().mean < 0.9 * before
