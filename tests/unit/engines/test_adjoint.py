"""The adjoint recursion gives the numbers of the unrolled inner loop, and without kept graphs memory hardly grows with K."""

from __future__ import annotations

import pytest
import torch

import mamlkit
from mamlkit import TaskBatch


def images(tasks: int = 2) -> TaskBatch:
    generator = torch.Generator().manual_seed(0)

    def draw(points: int) -> torch.Tensor:
        return torch.randn(tasks, points, 1, 16, 16, generator=generator, dtype=torch.float64)

    labels = torch.arange(3).expand(tasks, -1)
    return TaskBatch(draw(3), labels, draw(6), labels.repeat(1, 2))


def network(dropout: float = 0.0) -> torch.nn.Module:
    return mamlkit.conv4(3, image_size=16, filters=4, downsample="stride", dropout=dropout, seed=0).double()


LEARNERS = {
    "maml": lambda **switches: mamlkit.maml(network(), **switches),
    "fomaml": lambda **switches: mamlkit.fomaml(network(), **switches),
    "anil": lambda **switches: mamlkit.anil(network(), **switches),
    "meta-sgd": lambda **switches: mamlkit.meta_sgd(network(), inner_steps=3, **switches),
    "maml++": lambda **switches: mamlkit.maml_plus_plus(network(dropout=0.2), **switches),
    "maml++, first order": lambda **switches: mamlkit.maml_plus_plus(network(), first_order_epochs=1, **switches),
    "maml++, rates of entries": lambda **switches: mamlkit.maml_plus_plus(
        network(), step_sizes="parameter", **switches
    ),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_agrees_with_the_unrolled_engine(name):
    results = []
    for engine in ("task_by_task", "recomputed"):
        learner = LEARNERS[name](engine=engine)
        loss = learner.meta_backward(images())
        results.append((loss, {key: value.grad for key, value in learner.meta_parameters().items()}))
    (loss, expected), (recomputed_loss, got) = results
    torch.testing.assert_close(recomputed_loss, loss, rtol=1e-12, atol=0.0)
    assert expected.keys() == got.keys()
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], rtol=1e-8, atol=1e-12, msg=key)


class Saved:
    """A tensor that autograd keeps; ``live`` counts the bytes of all that are still kept, ``peak`` their maximum."""

    live = peak = 0

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.bytes = tensor, tensor.numel() * tensor.element_size()
        Saved.live += self.bytes
        Saved.peak = max(Saved.peak, Saved.live)

    def __del__(self) -> None:
        Saved.live -= self.bytes


def peak_bytes(engine: str, steps: int) -> int:
    learner = mamlkit.maml(network(), inner_steps=steps, engine=engine)
    Saved.live = Saved.peak = 0
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        learner.meta_backward(images(tasks=1))
    return Saved.peak


def test_graphs_do_not_pile_up():
    assert peak_bytes("recomputed", 12) <= 1.2 * peak_bytes("recomputed", 2)
    assert peak_bytes("task_by_task", 12) >= 3 * peak_bytes("task_by_task", 2)  # what the comparison is about


def test_collects_the_same_statistics():
    rows = []
    for engine in ("task_by_task", "recomputed"):
        learner = mamlkit.maml_plus_plus(network(), multi_step_loss=None, per_step_statistics=True, engine=engine)
        learner.meta_backward(images())
        rows.append({name: value for name, value in learner.named_buffers() if "running" in name})
    assert rows[0].keys() == rows[1].keys() and rows[0]
    for name in rows[0]:
        torch.testing.assert_close(rows[1][name], rows[0][name], rtol=1e-10, atol=1e-12, msg=name)
