"""What is measured on query sets: accuracy where there are classes and nowhere else, and metrics of one's own."""

from __future__ import annotations

import math

import plain_loop
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit


def evaluated(outputs, targets, loss, **switches):
    """Query outputs are the query inputs: the model adds its parameter to one column, which no gradient reaches."""

    class Echo(nn.Module):
        def __init__(self):
            super().__init__()
            self.zero = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return x + self.zero * 0

    learner = mamlkit.maml(Echo(), loss=loss, inner_steps=1)
    return mamlkit.evaluate(learner, mamlkit.TaskBatch(outputs, targets, outputs, targets), **switches)


def draw(*shape, high=None):
    g = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=g) if high is None else torch.randint(high, shape, generator=g)


@pytest.mark.parametrize("place", [(), (7,), (4, 3)])
def test_accuracy_is_over_axis_1_without_ignored_labels(place):
    outputs, targets = draw(3, 6, 5, *place), draw(3, 6, *place, high=5)
    targets[0, :2], targets[2] = -100, -100
    result = evaluated(outputs, targets, F.cross_entropy)
    for task in (0, 1):
        right = [
            float(o[:, i].argmax() == y.flatten()[i])
            for o, y in zip(outputs[task].flatten(2) if place else outputs[task][..., None], targets[task], strict=True)
            for i in range(y.numel())
            if y.flatten()[i] != -100
        ]
        assert math.isclose(result.accuracies[1, task].item(), sum(right) / len(right))
    assert result.accuracies[:, 2].isnan().all()
    assert result.accuracy().tasks == 2 and math.isfinite(result.accuracy().mean)


def test_the_ignored_label_is_the_one_of_the_loss():
    outputs, targets = draw(2, 6, 3), draw(2, 6, high=3)
    result = evaluated(outputs, targets, nn.CrossEntropyLoss(ignore_index=0))
    keep = targets != 0
    expected = [(outputs[t].argmax(1) == targets[t])[keep[t]].double().mean() for t in (0, 1)]
    assert torch.allclose(result.accuracies[1], torch.stack(expected))


NOT_CLASSES = {
    "one logit": (draw(2, 6, 1), draw(2, 6, high=2), lambda o, y: F.binary_cross_entropy_with_logits(o[:, 0], y.float())),
    "flat logits": (draw(2, 6), draw(2, 6, high=2), lambda o, y: F.binary_cross_entropy_with_logits(o, y.float())),
    "ratings": (draw(2, 6, 1), draw(2, 6, 1, high=5), lambda o, y: F.mse_loss(o, y.float())),
    "counts": (draw(2, 6, 2), draw(2, 6, high=90), lambda o, y: (o.exp().sum(1) - y).square().mean()),
    "several labels": (draw(2, 6, 4), draw(2, 6, 4, high=2), lambda o, y: F.binary_cross_entropy_with_logits(o, y.float())),
    "tokens": (draw(2, 6, 7, 3), draw(2, 6, 7, high=3), lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten())),
    "as many tokens as words": (
        draw(2, 6, 3, 3), draw(2, 6, 3, high=3), lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten())
    ),
    "real values": (draw(2, 6, 1), draw(2, 6, 1), F.mse_loss),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_CLASSES)
def test_there_is_no_accuracy_where_there_are_no_classes(name):
    outputs, targets, loss = NOT_CLASSES[name]
    result = evaluated(outputs, targets, loss, metric=lambda o, y: (o.mean() - y.double().mean()).abs())
    assert result.accuracies is None
    with pytest.raises(ValueError, match=r"^expected .* got .*use loss"):
        result.accuracy()
    expected = [(o.mean() - y.double().mean()).abs() for o, y in zip(outputs, targets, strict=True)]
    assert torch.allclose(result.scores[1], torch.stack(expected).double())
    assert math.isclose(result.score().mean, float(sum(expected) / 2), rel_tol=1e-6)
    assert result.to_json()["score"] == result.score().mean


def test_scores_that_are_not_there_are_refused():
    outputs, targets, loss = NOT_CLASSES["real values"]
    with pytest.raises(ValueError, match=r"^expected an evaluation with metric=\.\.\., got one without"):
        evaluated(outputs, targets, loss).score()
    with pytest.raises(ValueError, match="a fraction from 0 to 1, got 80"):
        evaluated(draw(2, 6, 3), draw(2, 6, high=3), F.cross_entropy).share_above(80.0)


class OneLogit:
    """Two classes on either side of a line."""

    def sample(self, num_tasks, generator):
        w, x = torch.randn(num_tasks, 2, 1, generator=generator), torch.randn(num_tasks, 12, 2, generator=generator)
        y = (x @ w)[..., 0].gt(0).long()
        return mamlkit.TaskBatch(x[:, :6], y[:, :6], x[:, 6:], y[:, 6:])


def one_logit_loss(outputs, labels):
    return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.float())


def right(outputs, labels):
    return ((outputs[:, 0] > 0).long() == labels).float().mean()


def trained(**switches):
    learner = mamlkit.maml(mamlkit.mlp((2, 8, 1), seed=0), loss=one_logit_loss, inner_steps=2, inner_lr=1.0)
    options = mamlkit.TrainingOptions(epochs=3, steps_per_epoch=10, meta_batch=4, validation_tasks=20, keep_best=3)
    return mamlkit.fit(learner, OneLogit(), options=options, validation=OneLogit(), **switches)


def test_fit_ranks_by_loss_or_by_the_metric():
    by_loss = [(row["validation_loss"], row["validation_accuracy"]) for row in trained().rows]
    assert all(accuracy is None for _, accuracy in by_loss)
    assert trained().best[0][0] == -min(loss for loss, _ in by_loss)
    history = trained(metric=right)
    scores = [row["validation_score"] for row in history.rows]
    assert history.best[0][0] == max(scores) and [loss for loss, _ in by_loss] == [
        r["validation_loss"] for r in history.rows
    ]


def test_a_validation_that_is_not_finite_ranks_last_and_warns():
    values = iter([math.nan] * 60 + [math.inf] * 60 + [0.1] * 60)
    with pytest.warns(RuntimeWarning, match="ranked last"):
        history = trained(metric=lambda o, y: next(values))
    assert history.best[0][1] == "step-00000030"


@pytest.mark.parametrize("engine", ["task_by_task", "auto", "recomputed"])
def test_a_support_set_without_labels_changes_nothing_and_harms_no_other_task(engine):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 1, 16, 16, generator=g).double()
    labels = torch.arange(3).repeat(3, 2)
    support = labels.clone()
    support[1], support[2, :4] = -100, -100
    model = mamlkit.conv4(3, image_size=16, filters=4, seed=0).double()
    tasks = mamlkit.TaskBatch(x, support, x, labels)
    learner = mamlkit.maml(model, inner_steps=2, inner_lr=0.1, engine=engine)
    got = learner.meta_backward(tasks).item()
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    loss, gradient, _ = plain_loop.maml(model, tasks, F.cross_entropy)
    assert abs(got - loss) < 1e-8 and plain_loop.off(gradient, model) < 1e-6
