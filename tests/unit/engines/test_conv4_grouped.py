"""``conv4`` on several tasks at once gives the numbers of one task after the other, and of a plain loop of autograd."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import mamlkit
from mamlkit import TaskBatch
from mamlkit.engines.conv4 import Conv4AllAtOnce, grouped
from mamlkit.task_groups import each_task

VARIANTS = {  # of conv4, all of them float64
    "pool": {"image_size": 28},
    "stride": {"image_size": 28, "downsample": "stride"},
    "pool, leaky": {"image_size": 21, "channels": 3, "activation": "leaky_relu"},
    "stride, leaky": {"image_size": 21, "channels": 3, "downsample": "stride", "activation": "leaky_relu"},
}
ALGORITHMS = {
    "maml": mamlkit.maml,
    "fomaml": mamlkit.fomaml,
    "reptile": mamlkit.reptile,
    "anil": mamlkit.anil,
    "meta-sgd": lambda model, **switches: mamlkit.meta_sgd(model, inner_steps=2, **switches),
    "maml++": mamlkit.maml_plus_plus,
    "maml++, last step, shared rates": lambda model, **switches: mamlkit.maml_plus_plus(
        model, multi_step_loss=None, step_sizes="tensor", per_step_weights=False, **switches
    ),
}


def network(variant="pool"):
    model = mamlkit.conv4(3, filters=4, seed=0, **VARIANTS[variant]).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # away from the zeros and ones that batch norm starts with
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def images(variant="pool", tasks=3):
    generator = torch.Generator().manual_seed(0)
    size, channels = VARIANTS[variant]["image_size"], VARIANTS[variant].get("channels", 1)

    def draw(points):
        return torch.randn((tasks, points, channels, size, size), generator=generator, dtype=torch.float64)

    labels = torch.arange(3).expand(tasks, -1)
    return TaskBatch(draw(3), labels, draw(6), labels.repeat(1, 2))


def results(algorithm, variant, engine, **switches):
    learner = ALGORITHMS[algorithm](network(variant), engine=engine, **switches)
    loss = learner.meta_backward(images(variant))
    return learner, [loss, *(p.grad for p in learner.meta_parameters().values() if p.grad is not None)]


@pytest.mark.parametrize("pixels", [1, 2 * 3 * 28 * 28, 1 << 20])  # one task a call, two, all
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("algorithm", ["maml", "maml++"])
def test_agrees_with_one_task_after_the_other(algorithm, variant, pixels, monkeypatch):
    monkeypatch.setattr(grouped, "PIXELS_A_CALL", pixels)
    learner, found = results(algorithm, variant, "auto")
    assert type(learner.engine) is Conv4AllAtOnce
    _, truth = results(algorithm, variant, "task_by_task")
    assert len(found) == len(truth)
    for answer, value in zip(found, truth, strict=True):
        assert oracles.relative_error([answer], [value]) < 1e-8


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"maml", "maml++"}))
def test_every_algorithm_agrees(algorithm):
    learner, found = results(algorithm, "stride", "auto")
    assert type(learner.engine) is Conv4AllAtOnce
    _, truth = results(algorithm, "stride", "task_by_task")
    assert len(found) == len(truth)
    for answer, value in zip(found, truth, strict=True):
        assert oracles.relative_error([answer], [value]) < 1e-8


@pytest.mark.parametrize("variant", ["pool", "stride"])
def test_agrees_with_a_plain_loop(variant):
    model, tasks = network(variant), images(variant)
    names = [name for name, _ in model.named_parameters()]

    def forward(w, x):
        return functional_call(model, dict(zip(names, w, strict=True)), (x,))

    true_loss, truth = oracles.meta_gradient(
        forward, oracles.cross_entropy, list(model.parameters()), tasks, 0.1, 5, [0.1, 0.0, 0.2, 0.3, 0.4]
    )
    learner = mamlkit.maml_plus_plus(
        model, step_sizes="fixed", per_step_weights=False, multi_step_loss=[0.1, 0.0, 0.2, 0.3, 0.4]
    )
    loss = learner.meta_backward(tasks)
    assert loss.item() == pytest.approx(true_loss.item(), rel=1e-10)
    assert oracles.relative_error(oracles.gradients_of(model), truth) < 1e-8


def test_a_frozen_parameter_is_shared_by_all_tasks():
    gradients = []
    for engine in ("auto", "task_by_task"):
        model = network()
        for name in ("0.weight", "5.bias", "17.weight"):
            model.get_parameter(name).requires_grad_(False)
        mamlkit.maml(model, engine=engine).meta_backward(images())
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) == 11
    assert oracles.relative_error(*gradients) < 1e-8


def test_evaluation_agrees():
    found = [mamlkit.evaluate(mamlkit.maml_plus_plus(network(), engine=e), images(), steps=7) for e in ENGINES]
    torch.testing.assert_close(found[0].losses, found[1].losses, rtol=1e-10, atol=1e-12)
    assert torch.equal(found[0].accuracies, found[1].accuracies)


ENGINES = ("auto", "task_by_task")


def test_the_general_path_where_this_one_does_not_apply():
    def unroll(model=None, **switches):
        return mamlkit.maml(model or network(), **switches).engine_name

    assert unroll() == Conv4AllAtOnce.name
    assert unroll(engine="all_at_once") == Conv4AllAtOnce.name
    assert unroll(autocast=torch.bfloat16) != Conv4AllAtOnce.name
    assert unroll(mamlkit.conv4(3, dropout=0.1)) != Conv4AllAtOnce.name
    assert unroll(nn.Sequential(*network())) != Conv4AllAtOnce.name
    assert mamlkit.maml_plus_plus(network(), per_step_statistics=True).engine_name != Conv4AllAtOnce.name
    changed, hooked, replaced = network(), network(), network()
    changed.append(nn.ReLU())
    hooked[3].register_forward_hook(lambda *_: None)
    replaced[1] = nn.InstanceNorm2d(4, affine=True)
    for model in (changed, hooked, replaced):
        assert unroll(model) != Conv4AllAtOnce.name
    with pytest.raises(ValueError, match="without batch norm"):
        unroll(hooked, engine="all_at_once")


def test_the_loss_of_each_task():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn((3, 4, 5), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (3, 4), generator=generator)
    labels[1, 2] = -100  # torch leaves such points out
    for loss in (F.cross_entropy, nn.CrossEntropyLoss(label_smoothing=0.1)):
        expected = torch.stack([loss(out, y) for out, y in zip(outputs, labels, strict=True)])
        assert torch.allclose(each_task(loss)(outputs, labels), expected, rtol=1e-12)
    with pytest.raises(RuntimeError):
        each_task(F.cross_entropy)(outputs, labels.clamp(min=-1))
    shares = outputs.softmax(-1)
    expected = torch.stack([F.cross_entropy(out, y) for out, y in zip(outputs, shares, strict=True)])
    assert torch.allclose(each_task(F.cross_entropy)(outputs, shares), expected, rtol=1e-12)


def test_wrong_targets_are_named_as_on_the_general_path():
    learner = mamlkit.maml(network())
    tasks = images()
    with pytest.raises(TypeError, match="int64"):
        learner.meta_backward(tasks._replace(support_y=tasks.support_y.int()))
    with pytest.raises(ValueError, match="class numbers from 0 to 2"):
        learner.meta_backward(tasks._replace(support_y=tasks.support_y + 1))


@pytest.mark.parametrize("variant", ["pool", "stride"])
def test_a_meta_step_and_an_evaluation_run_without_data(variant):
    learner = mamlkit.maml_plus_plus(network(variant).to("meta"))
    tasks = images(variant).to("meta")
    assert learner.meta_backward(tasks).device.type == "meta"
    assert mamlkit.evaluate(learner, tasks).losses.shape == (6, 3)
