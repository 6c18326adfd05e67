"""Tuples and dicts that do not fit each other, the model or the loss: one clear line each.

The table holds (what is wrong, call, exception, what the message must say).
"""

from __future__ import annotations

import collections
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit


class Pair(nn.Module):
    def __init__(self, as_dict=True):
        super().__init__()
        self.net, self.as_dict = nn.Linear(3, 4), as_dict

    def forward(self, left, right):
        out = self.net(left + right)
        return {"out": out} if self.as_dict else out


class Gives(nn.Module):
    """A model that returns what is asked for."""

    def __init__(self, make):
        super().__init__()
        self.net, self.make = nn.Linear(3, 4), make

    def forward(self, x):
        return self.make(self.net(x))


class Object:
    def __init__(self, out):
        self.out = out


def scene():
    g = torch.Generator().manual_seed(0)
    x = {"left": torch.randn(2, 5, 3, generator=g), "right": torch.randn(2, 5, 3, generator=g)}
    y = torch.randint(0, 4, (2, 5), generator=g)
    learner = mamlkit.maml(Pair(), inner_steps=1, loss=lambda o, y: F.cross_entropy(o["out"], y))
    tasks = mamlkit.TaskBatch(x, y, x, y)
    tensor = mamlkit.maml(Pair(as_dict=False), inner_steps=1, loss=F.cross_entropy)
    system = mamlkit.ModelAgnosticMetaLearning(Pair(), inner_steps=1, loss=lambda o, y: F.cross_entropy(o["out"], y))
    return SimpleNamespace(learner=learner, tensor=tensor, tasks=tasks, x=x, y=y, system=system)


def backward(s, **parts):
    return s.learner.meta_backward(s.tasks._replace(**parts))


def without(s, *names, **others):
    return {name: value for name, value in (s.x | others).items() if name not in names}


def gives(s, make, loss=F.cross_entropy):
    left = s.x["left"]
    return mamlkit.maml(Gives(make), inner_steps=1, loss=loss).meta_backward(mamlkit.TaskBatch(left, s.y, left, s.y))


BAD_CALLS = [
    ("a mask that is missing", lambda s: backward(s, support_x=without(s, "right")), ValueError,
     "support and query inputs of one form, got dict ['left'] and dict ['left'], ['right']"),
    ("a tuple and a dict", lambda s: backward(s, support_x=tuple(s.x.values())), ValueError, "got tuple [0], [1] and dict ['left'], ['right']"),
    ("a tensor and a dict", lambda s: backward(s, query_x=s.x["left"]), ValueError, "of one form, got dict ['left'], ['right'] and Tensor"),
    ("nothing in it", lambda s: backward(s, support_x={}), ValueError, "the support inputs to hold a tensor, got an empty dict"),
    ("None in it", lambda s: backward(s, support_x=without(s, right=None)), TypeError, "the support inputs['right'] to be a tensor, got NoneType None"),
    ("a switch in it", lambda s: backward(s, query_x=without(s, fast=True)), TypeError, "the query inputs['fast'] to be a tensor, got bool True"),
    ("another number of tasks", lambda s: backward(s, support_x=without(s, right=s.x["right"][:1])), ValueError,
     "the same number of tasks in all of the support inputs, got 2 and, in the support inputs['right'], 1"),
    ("another number of points", lambda s: backward(s, query_x=without(s, right=s.x["right"][:, :4])), ValueError,
     "the same number of points in all of the query inputs, got 5 and, in the query inputs['right'], 4"),
    ("another length", lambda s: backward(s, query_x=without(s, right=s.x["right"][..., :1])), ValueError,
     "support and query inputs['right'] of one shape, got (3,) and (1,)"),
    ("no axis of points", lambda s: backward(s, support_x=without(s, right=torch.ones(2))), ValueError,
     "support inputs['right'] of shape (tasks, points, ...), got (2,)"),
    ("another type", lambda s: backward(s, query_x=without(s, right=s.x["right"].double())), TypeError,
     "query inputs['right'] of the model's type torch.float32, got torch.float64"),
    ("a name that forward lacks", lambda s: backward(s, **dict.fromkeys(("support_x", "query_x"), without(s, mask=s.x["left"]))), TypeError,
     "as Pair.forward(left, right) takes them, got left, right, mask"),
    ("too few for forward", lambda s: backward(s, **dict.fromkeys(("support_x", "query_x"), (s.x["left"],))), TypeError,
     "as Pair.forward(left, right) takes them, got a tuple of 1"),
    ("a mapping of another kind", lambda s: backward(s, support_x=collections.UserDict(s.x)), TypeError, "the support inputs to be a tensor, got UserDict; convert with dict()"),
    ("adapt: another number of points", lambda s: s.learner.adapt({"left": s.x["left"][0], "right": s.x["right"][0, :3]}, s.y[0]), ValueError,
     "the same number of points in all of the support inputs"),
    ("a dict for cross-entropy", lambda s: gives(s, lambda out: {"logits": out}), TypeError,
     "the model to return a tensor, got dict; pass loss=lambda outputs, targets: ..., of the part that counts"),
    ("a tuple for a loss of one's own", lambda s: gives(s, lambda out: (out,), nn.MSELoss()), TypeError, "to return a tensor, got tuple; pass loss="),
    ("nothing returned", lambda s: gives(s, lambda out: None, lambda o, y: o.sum()), TypeError, "the model to return a tensor, got NoneType"),
    ("an object that torch does not know", lambda s: gives(s, Object, lambda o, y: o.out.sum()), TypeError,
     "to return a tensor, got Object; torch.export.register_dataclass makes a dataclass known"),
    ("targets in a dict for cross-entropy", lambda s: mamlkit.maml(nn.Linear(3, 4)).meta_backward(mamlkit.TaskBatch(s.x["left"], {"y": s.y}, s.x["left"], {"y": s.y})),
     TypeError, "one tensor as targets of this loss, got dict"),
    ("a loss of each output", lambda s: gives(s, lambda out: (out,), lambda o, y: o[0]), ValueError, "loss to give one number, the mean over points"),
    ("conv4 with a tuple", lambda s: mamlkit.maml(mamlkit.conv4(4, channels=1, image_size=16, filters=4)).meta_backward(
        mamlkit.TaskBatch((torch.ones(2, 5, 1, 16, 16),), s.y, (torch.ones(2, 5, 1, 16, 16),), s.y)), TypeError, "a convolution to be one tensor, got tuple"),
    ("tasks of two forms", lambda s: s.system.meta_train_step([{"left": s.y}, {"right": s.y}], s.y, s.x, s.y), ValueError,
     "support_data of one form for every task, got dict ['left'], dict ['right']"),
    ("predict: None in it", lambda s: s.learner.predict(without(s, right=None)), TypeError, "inputs['right'] to be a tensor, got NoneType None"),
    ("predict: a list", lambda s: s.learner.predict(list(s.x.values())), TypeError, "inputs to be a tensor, got list"),
    ("predict: another width", lambda s: s.learner.predict(without(s, right=s.x["right"][..., :2])), RuntimeError,
     "take, got inputs['left'] (2, 5, 3) of torch.float32, inputs['right'] (2, 5, 2) of torch.float32: "),
    ("adapt: another width", lambda s: s.learner.adapt({name: x[0, :, :2] for name, x in s.x.items()}, s.y[0]), RuntimeError,
     "take, got support inputs['left'] (5, 2) of torch.float32, support inputs['right'] (5, 2) of torch.float32, support targets (5,) of "),
    ("a complex loss of outputs in a dict", lambda s: gives(s, lambda out: {"out": out}, lambda o, y: o["out"].mean() + 0j), TypeError,
     "loss to give a real number, got torch.complex64"),
    ("an ensemble of two forms", lambda s: mamlkit.evaluate_ensemble([s.learner, s.tensor], s.tasks), ValueError,
     "learners with outputs of one shape, got (2, 2, 5, 4), {'out': (2, 2, 5, 4)}"),
    ("lists of unequal lengths", lambda s: mamlkit.TaskList.of([s.x], [s.y], [s.x], []), ValueError, "as many tasks in each list, got 1, 1, 1, 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "fragment"), [row[1:] for row in BAD_CALLS], ids=[row[0] for row in BAD_CALLS]
)
def test_one_clear_line(call, error, fragment):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        s = scene()
        with pytest.raises(error) as raised:
            call(s)
    message = str(raised.value)
    assert raised.type is error and fragment in message
    assert message.startswith("expected ") and ", got " in message and "\n" not in message and len(message) < 300
    assert all(p.grad is None for p in s.learner.parameters())
