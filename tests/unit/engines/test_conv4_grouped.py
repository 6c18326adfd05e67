"""``conv4`` on several tasks at once gives the numbers of one task after the other, and of a plain loop of autograd."""

from __future__ import annotations

import copy

import oracles
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import mamlkit
from mamlkit import TaskBatch
from mamlkit.engines.conv4 import Conv4AllAtOnce, grouped
from mamlkit.meta_gradient import TaskByTask
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


def block(inputs, filters, *rest, stride=1, bias=True):
    convolution = nn.Conv2d(inputs, filters, 3, stride=stride, padding=1, bias=bias)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters), *rest)


OWN = {  # networks as readers write them, for images of 28 x 28
    "blocks in a sequence": lambda: nn.Sequential(
        *(block(1 if depth == 0 else 4, 4, nn.ReLU(inplace=True), nn.MaxPool2d(2)) for depth in range(4)),
        nn.Flatten(),
        nn.Linear(4, 3),
    ),
    "body and head, wider with depth": lambda: nn.Sequential(
        nn.Sequential(block(1, 3, nn.ReLU()), block(3, 6, nn.LeakyReLU(0.1), nn.MaxPool2d(2), bias=False)),
        nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(6, 3)),
    ),
    "a stride and a pool in the first block": lambda: nn.Sequential(
        block(1, 4, nn.ReLU(), nn.MaxPool2d(2), stride=2), nn.Flatten(), nn.Linear(196, 3)
    ),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("algorithm", ["maml", "maml++"])
def test_a_network_of_the_same_layers_is_served_alike(algorithm, name):
    torch.manual_seed(3)
    model = OWN[name]().double()
    expected_engine = {"auto": Conv4AllAtOnce, "task_by_task": TaskByTask}
    answers = []
    for engine in ENGINES:
        learner = ALGORITHMS[algorithm](copy.deepcopy(model), engine=engine)
        assert type(learner.engine) is expected_engine[engine]
        loss = learner.meta_backward(images())
        evaluated = mamlkit.evaluate(learner, images())
        answers.append((loss, learner, evaluated))
    (loss, learner, evaluated), (true_loss, truth, truly_evaluated) = answers
    assert loss.item() == pytest.approx(true_loss.item(), rel=1e-10)
    torch.testing.assert_close(evaluated.losses, truly_evaluated.losses, rtol=1e-10, atol=1e-12)
    for path, parameter in learner.meta_parameters().items():
        value = truth.meta_parameters()[path].grad
        torch.testing.assert_close(
            parameter.grad, value, rtol=1e-8, atol=1e-12, msg=lambda text, path=path: path + text
        )
    biases = [
        layer.bias.grad for layer in learner.model.modules() if isinstance(layer, nn.Conv2d) and layer.bias is not None
    ]
    assert not any(gradient.any() for gradient in biases)  # batch norm takes a bias off again
    assert (
        min(layer.weight.grad.abs().max() for layer in learner.model.modules() if isinstance(layer, nn.Conv2d)) > 1e-4
    )


def test_one_value_per_channel_is_refused_as_by_torch():
    model = nn.Sequential(block(1, 4, nn.ReLU()), nn.Flatten(), nn.Linear(4, 3)).double()
    image, label = torch.ones(2, 1, 1, 1, 1).double(), torch.zeros(2, 1).long()
    one = TaskBatch(image, label, image, label)
    for engine in ENGINES:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            mamlkit.maml(model, engine=engine).meta_backward(one)


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
    assert mamlkit.maml_plus_plus(network(), per_step_statistics=True).engine_name != Conv4AllAtOnce.name
    changed, hooked, replaced = network(), network(), network()
    changed.append(nn.ReLU())
    hooked[3].register_forward_hook(lambda *_: None)
    replaced[1] = nn.InstanceNorm2d(4, affine=True)
    own_forward = type("OwnForward", (nn.Sequential,), {"forward": lambda self, x: nn.Sequential.forward(self, -x)})
    wide = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 3))
    for model in (changed, hooked, replaced, own_forward(*network()), nn.Sequential(own_forward(*network())), wide):
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
