"""ProtoNet and nearest neighbours, against plain loops and against cases that one does by hand."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit
from mamlkit.prototypes import class_means, distances


def tasks_of(shots=2, ways=3, seed=0, kind=torch.float64):
    """Three tasks of images ``(2, 4, 4)``, classes in a mixed order."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(ways * shots, generator=generator) for _ in range(3)])
    support_y = torch.arange(ways).repeat_interleave(shots)[order]
    query_y = torch.randint(ways, (3, 5), generator=generator)
    sets = [torch.randn(3, n, 2, 4, 4, generator=generator, dtype=kind) for n in (ways * shots, 5)]
    return mamlkit.TaskBatch(sets[0], support_y, sets[1], query_y)


def embedding(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        ).double()  # fmt: skip


def embedded(w, x):
    """The same written out, with the statistics of these points."""
    x = F.conv2d(x, w[0], w[1], padding=1)
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    x = (x - mean) / (variance + 1e-5).sqrt() * w[2][:, None, None] + w[3][:, None, None]
    return torch.clamp(x, min=0).reshape(len(x), 3, 2, 2, 2, 2).amax((3, 5)).flatten(1)


def plain(w, tasks):
    """Outputs ``(tasks, query, ways)`` and the mean loss, one class and one point at a time."""
    outputs, losses = [], []
    for x, y, query_x, query_y in zip(*tasks, strict=True):
        support, query = embedded(w, x), embedded(w, query_x)
        centres = []
        for number in range(int(y.max()) + 1):
            own = [support[i] for i in range(len(y)) if y[i] == number]
            centres.append(sum(own) / len(own))
        rows = [torch.stack([-((point - c) ** 2).sum() for c in centres]) for point in query]
        outputs.append(torch.stack(rows))
        losses.append(oracles.cross_entropy(outputs[-1], query_y))
    return torch.stack(outputs), sum(losses) / len(losses)


def test_against_a_plain_loop():
    model, tasks = embedding(), tasks_of()
    learner = mamlkit.ProtoNet(model)
    w = [p.detach().clone().requires_grad_() for p in model.parameters()]
    outputs, loss = plain(w, tasks)
    expected = torch.autograd.grad(loss, w)
    assert learner.meta_backward(tasks).item() == pytest.approx(loss.item(), rel=1e-12)
    assert oracles.relative_error(oracles.gradients_of(model), expected) < 1e-12
    found = learner.query_outputs(tasks)
    assert found.shape == (1, 3, 5, 3) and torch.allclose(found[0], outputs.detach(), rtol=1e-12, atol=1e-12)
    adapted = learner.adapt(tasks.support_x[1], tasks.support_y[1])
    assert len(adapted) == 1 and adapted[0]["prototypes"].shape == (3, 12)
    assert torch.allclose(learner.predict(tasks.query_x[1], adapted[0]), outputs[1].detach(), rtol=1e-12, atol=1e-12)


def test_a_case_by_hand():
    """One feature, weight 1: prototypes 1 and 4, a query point at 2 lies at distances 1 and 4 of them."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    x = torch.tensor([[[0.0], [2.0], [3.0], [5.0]]], dtype=torch.float64)
    tasks = mamlkit.TaskBatch(
        x, torch.tensor([[0, 0, 1, 1]]), torch.tensor([[[2.0]]], dtype=torch.float64), torch.tensor([[0]])
    )
    learner = mamlkit.ProtoNet(model)
    assert learner.query_outputs(tasks).tolist() == [[[[-1.0, -4.0]]]]
    loss = learner.meta_backward(tasks)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-3)))
    # L(w) = log(1 + exp(-3 w^2)), as both distances carry w^2: dL/dw at 1 is -6 / (1 + e^3)
    assert model.weight.grad.item() == pytest.approx(-6 / (1 + math.exp(3)))


def test_it_is_a_linear_layer():
    """Distances to prototypes are a linear layer with weights 2 c and biases -|c|^2, up to what all classes share."""
    features = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centres = features[:3]
    linear = 2 * features @ centres.T - centres.square().sum(1)
    shared = features.square().sum(1, keepdim=True)
    assert torch.allclose(-distances(features, centres), linear - shared)


def test_class_means_by_hand():
    features = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    assert class_means(features, torch.tensor([1, 1, 0]), 2).tolist() == [[5.0, 5.0], [2.0, 1.0]]
    with pytest.raises(ValueError, match="every class from 0 to 2, got none of class 1"):
        class_means(features, torch.tensor([0, 2, 2]), 3)
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        class_means(features, torch.tensor([0, 2, 1]), 2)
    with pytest.raises(ValueError, match="from 0 to 1, got -1"):
        class_means(features, torch.tensor([0, -1, 1]), 2)


def test_fit_trains_it_and_evaluate_judges_it(same_rng):
    learner = mamlkit.ProtoNet(mamlkit.conv4(5, filters=8, downsample="stride", seed=0)[:-1])
    train = mamlkit.glyphs(queries=5)
    held_out = mamlkit.glyphs("test").sample(50, torch.Generator().manual_seed(1))
    before = mamlkit.evaluate(learner, held_out)
    options = mamlkit.TrainingOptions(epochs=1, steps_per_epoch=60, meta_batch=4, outer_lr=0.01)
    history = mamlkit.fit(learner, train, options=options)
    after = mamlkit.evaluate(learner, held_out)
    assert history.step == 60 and after.losses.shape == (1, 50)
    assert after.accuracy().mean > before.accuracy().mean + 0.1
    assert after.loss().mean < before.loss().mean


def test_a_run_can_be_interrupted(tmp_path):
    ends = []
    for name, stops in (("whole", (4,)), ("parts", (2, 4))):
        for epochs in stops:
            learner = mamlkit.ProtoNet(mamlkit.conv4(5, filters=4, downsample="stride", seed=0)[:-1])
            options = mamlkit.TrainingOptions(epochs=epochs, steps_per_epoch=1, meta_batch=2, cosine=False)
            folder = tmp_path / name
            mamlkit.fit(learner, mamlkit.glyphs(queries=2), options=options, folder=folder, resume=folder.exists())
        ends.append(learner.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_running_statistics_make_it_inductive():
    learner = mamlkit.ProtoNet(embedding(), query_statistics="running")
    assert not learner.is_transductive and mamlkit.ProtoNet(embedding()).is_transductive
    tasks = tasks_of()
    learner.meta_backward(tasks)
    whole = learner.query_outputs(tasks)[0]
    one = learner.query_outputs(tasks._replace(query_x=tasks.query_x[:, :1], query_y=tasks.query_y[:, :1]))[0]
    assert torch.allclose(whole[:, :1], one)


# --- nearest neighbours


def test_nearest_neighbours_against_a_plain_loop():
    tasks = tasks_of(shots=3)
    found = mamlkit.nearest_neighbour(tasks)
    assert found.shape == tasks.query_y.shape and found.dtype == torch.int64
    for x, y, query_x, answers in zip(*tasks[:3], found, strict=True):
        for point, answer in zip(query_x, answers, strict=True):
            squares = [((point - other) ** 2).sum().item() for other in x]
            assert answer == y[squares.index(min(squares))]


def test_nearest_neighbours_by_hand():
    x = torch.tensor([[[0.0], [2.0], [9.0]]])
    tasks = mamlkit.TaskBatch(
        x, torch.tensor([[1, 0, 2]]), torch.tensor([[[0.4], [5.0], [7.0], [1.0]]]), torch.zeros(1, 4)
    )
    assert mamlkit.nearest_neighbour(tasks).tolist() == [[1, 0, 2, 1]]  # 1.0 lies between two: the first
    assert mamlkit.nearest_neighbour(tasks, features=lambda x: -(x - 4).abs()).tolist() == [[1, 0, 1, 1]]


def test_one_shot_prototypes_of_pixels_are_nearest_neighbours():
    """With one point a class its mean is itself."""
    tasks = tasks_of(shots=1)
    model = nn.Linear(32, 32, bias=False).double()
    nn.init.eye_(model.weight)
    flat = tasks._replace(support_x=tasks.support_x.flatten(2), query_x=tasks.query_x.flatten(2))
    answers = mamlkit.ProtoNet(model).query_outputs(flat)[0].argmax(-1)
    assert torch.equal(answers, mamlkit.nearest_neighbour(tasks))
