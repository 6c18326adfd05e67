"""Dropout in the inner loop: one mask a task, scaled, other masks for other tasks and meta-steps, none where it is judged."""

from __future__ import annotations

from types import SimpleNamespace

import oracles
import plain_learners
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit

P, K = 0.4, 3


class Scene:
    """A regression network with dropout whose masks are written down as they are drawn, and tasks for it."""

    def __init__(self, algorithm=mamlkit.maml, **switches):
        generator = torch.Generator().manual_seed(3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.module = nn.Sequential(nn.Linear(1, 12), nn.Softplus(), nn.Dropout(P), nn.Linear(12, 1)).double()
        self.masks = masks = []

        def write_down(module, inputs, output):  # a function, which the copies of the module share
            masks.append((output / inputs[0]).detach().round(decimals=9))  # Softplus is never zero

        self.module[2].register_forward_hook(write_down)
        parts = [torch.randn((3, points, 1), generator=generator, dtype=torch.float64) for points in (5, 5, 7, 7)]
        self.tasks = mamlkit.TaskBatch(*parts)
        self.learner = algorithm(self.module, loss=F.mse_loss, inner_steps=K, inner_lr=0.1, **switches)

    def step(self):
        """The masks of one meta-step: support ``[task][step]``, and those of the query passes."""
        self.masks.clear()
        loss = self.learner.meta_backward(self.tasks)
        per_task = len(self.masks) // 3
        rows = [self.masks[i : i + per_task] for i in range(0, 3 * per_task, per_task)]
        return loss, [row[:K] for row in rows], [mask for row in rows for mask in row[K:]]


LEARNERS = {
    "maml": mamlkit.maml,
    "fomaml": mamlkit.fomaml,
    "reptile": mamlkit.reptile,
    "anil": mamlkit.anil,
    "meta-sgd": mamlkit.meta_sgd,
    "maml++": mamlkit.maml_plus_plus,
}


@pytest.mark.parametrize("name", LEARNERS)
def test_one_scaled_mask_a_task(name, same_rng):
    scene = Scene(LEARNERS[name])
    _, first, queries = scene.step()
    _, second, _ = scene.step()
    for masks in (first, second):
        for task in masks:
            assert len(task) == K and all(torch.equal(mask, task[0]) for mask in task)  # the same in every step
            levels = task[0].unique()
            assert torch.allclose(levels, torch.tensor([0.0, 1 / (1 - P)], dtype=torch.float64))  # scaled
    drawn = [task[0] for masks in (first, second) for task in masks]
    for i, mask in enumerate(drawn):
        assert not any(torch.equal(mask, other) for other in drawn[i + 1 :])  # another task, another meta-step
    assert queries and all((mask == 1).all() for mask in queries)


def test_the_share_that_is_dropped():
    scene = Scene()
    drawn = torch.cat([row[0] for _ in range(40) for row in scene.step()[1]])
    assert (drawn == 0).double().mean().item() == pytest.approx(P, abs=0.02)
    assert drawn.mean().item() == pytest.approx(1, abs=0.04)  # what scaling is for


def test_evaluation_sees_no_dropout(same_rng):
    scene = Scene()
    scene.masks.clear()
    path = scene.learner.adapt(scene.tasks.support_x[0], scene.tasks.support_y[0])
    scene.learner.predict(scene.tasks.query_x[0], path[-1])
    mamlkit.evaluate(scene.learner, scene.tasks)
    assert len(scene.masks) > K
    assert all((mask == 1).all() for mask in scene.masks)


def test_the_meta_gradient_with_these_masks():
    """The plain loop gets the masks that were drawn; its gradient must come out."""
    scene = Scene(mamlkit.maml_plus_plus, multi_step_loss=[0.2, 0.3, 0.5])
    values, _ = plain_learners.values_of(scene.learner)
    loss, masks, _ = scene.step()

    def forward(w, x, mask=None):
        hidden = torch.log1p(torch.exp(x @ w[0].T + w[1]))
        return (hidden if mask is None else hidden * mask) @ w[2].T + w[3]

    problem = SimpleNamespace(
        module=scene.module, forward=forward, plain_loss=oracles.mean_squared_error, tasks=scene.tasks
    )
    leaves, keywords = values.leaves(), {"per_step": True, "masks": [row[0] for row in masks]}
    truth = plain_learners.meta_loss(problem, leaves, [0.2, 0.3, 0.5], **keywords)
    assert loss.item() == pytest.approx(truth.item(), rel=1e-9)
    _, found = plain_learners.values_of(scene.learner)
    assert oracles.relative_error(found.tensors(), torch.autograd.grad(truth, leaves.tensors())) < 1e-8


def test_masks_follow_from_the_seed():
    one, same, other = (Scene(seed=seed).step()[1] for seed in (4, 4, 5))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_neighbouring_seeds_do_not_share_masks_one_meta_step_apart():
    ahead, behind = Scene(seed=4), Scene(seed=5)
    ahead.step()
    pairs = zip(ahead.step()[1], behind.step()[1], strict=True)
    assert not any(torch.equal(a[0], b[0]) for a, b in pairs)


def test_a_meta_batch_in_parts_has_the_masks_of_the_whole():
    """As several processes take it: each says with which task its part begins."""
    whole = Scene().step()[1]
    for first in range(3):
        part = Scene()
        part.learner.meta_backward(part.tasks.select(slice(first, first + 1)), first_task=first)
        assert torch.equal(part.masks[0], whole[first][0])


def test_dropout_can_be_switched_off():
    scene = Scene(dropout=False)
    assert all((mask == 1).all() for row in scene.step()[1] for mask in row)


def test_no_generator_but_that_of_the_cpu_is_seeded(monkeypatch):
    """torch.manual_seed would seed every GPU as well, and fork_rng would not restore them."""
    scene, seeded = Scene(), []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    scene.step()
    assert seeded == []
