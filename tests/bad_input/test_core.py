"""What a newcomer gets wrong: each call must end in one clear line that says what was expected and what came.

The table holds (what is wrong, call, exception, what the message must say). A call gets a fresh ``Scene``; nothing in it may
have changed afterwards.
"""

from __future__ import annotations

import copy
import math

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit
from mamlkit.pretrained import pretrained_record

matplotlib.use("Agg")


class Scene:
    """A classifier of 6 numbers into 4 classes, a regressor, a facade, and sound data for 3 tasks."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
            self.frozen = nn.Linear(2, 2).requires_grad_(False)
            self.recurrent = nn.LSTM(6, 4)
            self.with_batch_norm = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4))
        self.x, self.query_x = torch.randn((2, 3, 5, 6), generator=generator)
        self.y, self.query_y = torch.randint(0, 4, (2, 3, 5), generator=generator)
        self.tasks = mamlkit.TaskBatch(self.x, self.y, self.query_x, self.query_y)
        self.system = mamlkit.ModelAgnosticMetaLearning(self.model, inner_lr=0.1, inner_steps=2)
        self.system.meta_train_step(*self.tasks)  # so that Adam has a state that could change
        self.learner = self.system.learner

    def meta_backward(self, **parts):
        return self.learner.meta_backward(self.tasks._replace(**parts))

    def train(self, **parts):
        return self.system.meta_train_step(*self.tasks._replace(**parts))

    def adapt(self, x=None, y=None, **keywords):
        keywords = {"loss": F.cross_entropy, "steps": 2, "step_sizes": 0.1} | keywords
        return mamlkit.adapt(
            keywords.pop("model", self.model), self.x[0] if x is None else x, self.y[0] if y is None else y, **keywords
        )

    def facade(self, **keywords):
        return mamlkit.ModelAgnosticMetaLearning(keywords.pop("model", self.model), **keywords)

    def state(self):
        """Everything that a failed call must leave alone."""
        return copy.deepcopy(
            [
                [(tensor.detach(), tensor.requires_grad) for tensor in self.model.parameters()],
                list(self.with_batch_norm.state_dict().values()),
                self.system.meta_optimizer.state_dict()["state"],
                list(self.tasks),
                [module.training for module in self.model.modules()],
                torch.random.get_rng_state(),
            ]
        )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def regression(losses=3):
    """An evaluation without accuracies."""
    return mamlkit.Evaluation(torch.ones(2, losses), None)


BAD_CALLS = [
    # data of one task
    ("labels of another length", lambda s: s.adapt(y=s.y[0, :4]), ValueError, "5 inputs and 4 targets"),
    ("an empty support set", lambda s: s.adapt(x=s.x[0, :0], y=s.y[0, :0]), ValueError, "at least one support point, got"),
    ("integer inputs", lambda s: s.adapt(x=s.x[0].long()), TypeError, "floating-point support inputs, got torch.int64"),
    ("pixels as bytes", lambda s: s.adapt(x=s.x[0].to(torch.uint8)), TypeError, "got torch.uint8; convert them with .float()"),
    ("a numpy array", lambda s: s.adapt(x=s.x[0].numpy()), TypeError, "inputs to be a tensor, got ndarray"),
    ("a list of labels", lambda s: s.adapt(y=[0, 1, 2, 3, 0]), TypeError, "targets to be a tensor, got list"),
    ("a label without axes", lambda s: s.adapt(y=torch.tensor(1)), ValueError, "axis of points"),
    ("no data", lambda s: s.learner.adapt(None, s.y[0]), TypeError, "inputs to be a tensor, got NoneType"),
    ("learner.adapt: other length", lambda s: s.learner.adapt(s.x[0], s.y[0, 1:]), ValueError, "5 inputs and 4 targets"),
    ("inner_update: array", lambda s: s.system.inner_update(np.ones((5, 6)), s.y[0]), TypeError, "a tensor, got ndarray"),
    ("adapt: a class too many", lambda s: s.adapt(y=s.y[0] + 2), ValueError, "class numbers from 0 to 3, as many as outputs, got 4"),
    ("adapt: a negative class", lambda s: s.adapt(y=s.y[0] - 4), ValueError, "as many as outputs, got -4, -3, -2"),
    ("adapt: ignored labels are none of them", lambda s: s.adapt(y=torch.tensor([0, -100, 1, 9, 2])), ValueError, "outputs, got 9"),
    ("adapt: a module as loss", lambda s: s.adapt(loss=nn.CrossEntropyLoss(ignore_index=9), y=torch.tensor([0, 9, 1, -1, 2])), ValueError,
     "outputs, got -1"),
    ("adapt: a loss of one's own", lambda s: s.adapt(loss=lambda o, y: F.nll_loss(o.log_softmax(1), y), y=s.y[0] + 7), ValueError,
     "class numbers from 0 to 3"),
    ("learner.adapt: a class too many", lambda s: s.learner.adapt(s.x[0], s.y[0] + 4), ValueError, "class numbers from 0 to 3"),
    ("inner_update: a class too many", lambda s: s.system.inner_update(s.x[0], s.y[0] + 4), ValueError, "class numbers from 0 to 3"),
    ("evaluate: a class too many, margin loss", lambda s: mamlkit.evaluate(mamlkit.maml(s.model, loss=F.multi_margin_loss, inner_steps=1,
     engine="task_by_task"), s.tasks._replace(query_y=s.y + 4)), ValueError, "class numbers from 0 to 3"),
    # batches of tasks
    ("support labels of another length", lambda s: s.meta_backward(support_y=s.y[:, :4]), ValueError, "5 inputs and 4 targets"),
    ("query labels of another length", lambda s: s.meta_backward(query_y=s.y[:, :4]), ValueError, "one query target per input"),
    ("fewer query tasks", lambda s: s.meta_backward(query_x=s.x[:2], query_y=s.y[:2]), ValueError, "got 3, 3, 2, 2"),
    ("labels for fewer tasks", lambda s: s.meta_backward(support_y=s.y[:1]), ValueError, "same number of tasks"),
    ("no task", lambda s: s.learner.meta_backward(s.tasks.select(slice(0, 0))), ValueError, "at least one task"),
    ("an empty support set a task", lambda s: s.meta_backward(support_x=s.x[:, :0], support_y=s.y[:, :0]), ValueError,
     "at least one support point"),
    ("an empty query set a task", lambda s: s.meta_backward(query_x=s.x[:, :0], query_y=s.y[:, :0]), ValueError,
     "at least one query point"),
    ("no axis of tasks", lambda s: s.meta_backward(support_y=s.y[0]), ValueError, "(tasks, points, ...), got (5,)"),
    ("other inputs in the query set", lambda s: s.meta_backward(query_x=s.x[..., :5]), ValueError, "(6,) and (5,)"),
    ("integer query inputs", lambda s: s.meta_backward(query_x=s.x.int()), TypeError, "query inputs, got torch.int32"),
    ("evaluate: other length", lambda s: mamlkit.evaluate(s.learner, s.tasks._replace(query_y=s.y[:, 1:])), ValueError,
     "5 inputs and 4 targets"),
    # the facade
    ("train: other length", lambda s: s.train(support_y=s.y[:, :4]), ValueError, "5 inputs and 4 targets"),
    ("train: no axis of tasks", lambda s: s.system.meta_train_step(s.x[0], s.y[0], s.x[0], s.y[0]), ValueError,
     "(tasks, points, ...), got (5,)"),
    ("train: integers", lambda s: s.train(support_x=s.x.long()), TypeError, "got torch.int64; convert them with .float()"),
    ("train: arrays", lambda s: s.train(support_x=s.x.numpy()), TypeError, "support_data to be a tensor or a list of tensors"),
    ("train: a list of numbers", lambda s: s.train(query_y=[[0, 1]]), TypeError, "query_labels to be a tensor or a list"),
    ("train: an empty list", lambda s: s.system.meta_train_step([], [], [], []), TypeError, "got list []"),
    ("train: ragged tensors", lambda s: s.train(support_x=[s.x[0], s.x[1, :4], s.x[2]]), ValueError,
     "one support target per input, got 4 inputs and 5 targets"),
    ("train: ragged, fewer tasks", lambda s: s.train(support_x=[s.x[0], s.x[1, :4]]), ValueError,
     "same number of tasks in support_data, support_labels, query_data, query_labels, got 2, 3, 3, 3"),
    ("train: ragged, a number", lambda s: s.train(support_x=[s.x[0], s.x[1, :4]], query_y=torch.tensor(1)), ValueError, "got 2, 3, 3, 0"),
    ("a list of tuples", lambda s: s.learner.meta_backward([tuple(s.tasks)]), TypeError, "expected a TaskBatch (support_x"),
    ("a batch and a tuple", lambda s: s.learner.meta_backward([s.tasks, tuple(s.tasks)]), TypeError,
     "a list of TaskBatch, each with a leading axis of tasks, got tuple"),
    ("an empty list of tasks", lambda s: s.learner.meta_backward([]), ValueError, "expected at least one task, got an empty list"),
    ("evaluate: an empty list", lambda s: mamlkit.evaluate(s.learner, []), ValueError, "expected at least one task"),
    ("a list with a bad batch", lambda s: s.learner.meta_backward([s.tasks, s.tasks._replace(query_y=s.y[:, 1:])]), ValueError,
     "5 inputs and 4 targets"),
    ("a list with labels out of range", lambda s: s.learner.meta_backward([s.tasks, s.tasks._replace(query_y=s.y + 4)]), ValueError,
     "class numbers from 0 to 3"),
    ("TaskList of tensors", lambda s: mamlkit.TaskList([s.x, s.y]), TypeError, "a list of TaskBatch"),
    ("train: fewer query tasks", lambda s: s.train(query_x=s.x[:2], query_y=s.y[:2]), ValueError, "got 3, 3, 2, 2"),
    # K
    ("K = 0", lambda s: s.adapt(steps=0), ValueError, "steps >= 1, got 0"),
    ("K < 0", lambda s: mamlkit.maml(s.model, inner_steps=-3), ValueError, "inner_steps >= 1, got -3"),
    ("K = 2.0", lambda s: s.adapt(steps=2.0), TypeError, "whole number, got float 2.0"),
    ("K as a word", lambda s: mamlkit.fomaml(s.model, inner_steps="5"), TypeError, "whole number, got str '5'"),
    ("K = True", lambda s: mamlkit.maml(s.model, inner_steps=True), TypeError, "whole number, got bool True"),
    ("K = None", lambda s: s.facade(inner_steps=None), TypeError, "inner_steps to be a whole number, got NoneType"),
    ("K = 0 at evaluation", lambda s: mamlkit.evaluate(s.learner, s.tasks, steps=0), ValueError, "steps >= 1, got 0"),
    ("K = 0 in learner.adapt", lambda s: s.learner.adapt(s.x[0], s.y[0], steps=0), ValueError, "steps >= 1, got 0"),
    # rates
    ("alpha < 0", lambda s: mamlkit.maml(s.model, inner_lr=-0.1), ValueError, "inner step size to be a finite number > 0"),
    ("alpha = 0", lambda s: s.adapt(step_sizes=0), ValueError, "finite number > 0, got 0"),
    ("alpha = NaN", lambda s: s.adapt(step_sizes=math.nan), ValueError, "finite number > 0, got nan"),
    ("alpha = inf", lambda s: mamlkit.fomaml(s.model, inner_lr=math.inf), ValueError, "finite number > 0, got inf"),
    ("alpha as a word", lambda s: s.adapt(step_sizes="0.1"), TypeError, "a number, got str '0.1'"),
    ("alpha as a tensor", lambda s: s.adapt(step_sizes=torch.tensor(0.1)), TypeError, "a number, got Tensor"),
    ("alpha = None", lambda s: s.facade(inner_lr=None), TypeError, "a number, got NoneType None"),
    ("beta < 0", lambda s: s.facade(outer_lr=-1), ValueError, "outer_lr to be a finite number > 0, got -1"),
    ("beta = 0", lambda s: s.facade(outer_lr=0.0), ValueError, "outer_lr to be a finite number > 0, got 0.0"),
    ("beta = NaN", lambda s: s.facade(outer_lr=math.nan), ValueError, "outer_lr to be a finite number > 0, got nan"),
    ("beta as a word", lambda s: s.facade(outer_lr="1e-3"), TypeError, "outer_lr to be a number, got str '1e-3'"),
    ("a fixed rate < 0", lambda s: mamlkit.FixedStepSize(["1.weight"], -1.0), ValueError, "finite number > 0, got -1.0"),
    # models
    ("a function as model", lambda s: mamlkit.maml(lambda x: x), TypeError, "model to be a torch.nn.Module, got function"),
    ("a class as model", lambda s: s.facade(model=nn.Linear), TypeError, "model to be a torch.nn.Module, got type"),
    ("no model", lambda s: s.adapt(model=None, x=s.x[0]), TypeError, "model to be a torch.nn.Module, got NoneType"),
    ("a model without parameters", lambda s: mamlkit.maml(nn.ReLU()), ValueError, "parameters to learn, got ReLU with none"),
    ("a model that is all frozen", lambda s: mamlkit.fomaml(s.frozen), ValueError,
     "parameters to learn, got Linear with none"),
    ("a network without layers", lambda s: mamlkit.mlp((3,)), ValueError, "an input and an output size, got (3,)"),
    ("a layer of width 0", lambda s: mamlkit.mlp((1, 0, 1)), ValueError, "each size >= 1, got 0"),
    ("a layer of width 2.5", lambda s: mamlkit.mlp((1, 2.5, 1)), TypeError, "whole number, got float 2.5"),
    # names
    ("an unknown algorithm", lambda s: s.facade(algorithm="leapfrog"), ValueError, "got 'leapfrog'"),
    ("an algorithm in capitals", lambda s: s.facade(algorithm="MAML"), ValueError, "'maml', 'fomaml'"),
    ("no algorithm", lambda s: s.facade(algorithm=None), ValueError, "algorithm to be one of"),
    ("an unknown engine", lambda s: mamlkit.maml(s.model, engine="fast"), ValueError, "'task_by_task'"),
    ("batch norm all at once", lambda s: mamlkit.maml(s.with_batch_norm, engine="all_at_once"), ValueError,
     "a model without batch norm"),
    ("weights that do not ship", lambda s: mamlkit.pretrained("omniglot-5000"), ValueError, "'sinusoid-maml'"),
    ("a record that does not ship", lambda s: pretrained_record("nothing"), ValueError, "got 'nothing'"),
    ("an unknown order", lambda s: mamlkit.Learner(s.model, loss=F.cross_entropy, inner_steps=1,
     step_sizes=mamlkit.FixedStepSize(["1.weight"], 0.1), outer_loss=mamlkit.FinalStep(), order=3), ValueError, "got 3"),
    # tasks
    ("no shots", lambda s: mamlkit.Sinusoids(shots=0), ValueError, "shots >= 1, got 0"),
    ("no queries", lambda s: mamlkit.Sinusoids(queries=-1), ValueError, "queries >= 1, got -1"),
    ("half a shot", lambda s: mamlkit.Sinusoids(shots=0.5), TypeError, "shots to be a whole number, got float 0.5"),
    ("no tasks", lambda s: mamlkit.Sinusoids().sample(0, torch.Generator()), ValueError, "num_tasks >= 1, got 0"),
    ("an empty meta-batch", lambda s: mamlkit.TaskStream(mamlkit.Sinusoids(), 0), ValueError, "meta_batch >= 1, got 0"),
    ("a negative seed", lambda s: mamlkit.TaskStream(mamlkit.Sinusoids(), 4, seed=-1), ValueError, "seed >= 0, got -1"),
    ("a negative start", lambda s: mamlkit.TaskStream(mamlkit.Sinusoids(), 4, start=-1), ValueError, "start >= 0, got -1"),
    ("a seed that is a word", lambda s: mamlkit.TaskStream(mamlkit.Sinusoids(), 4, seed="a"), TypeError, "got str 'a'"),
    ("processes that cannot share", lambda s: mamlkit.TaskStream(mamlkit.Sinusoids(), 5, world_size=2), ValueError,
     "2 processes can share evenly, got 5"),
    # results
    ("an interval of one task", lambda s: mamlkit.interval(torch.tensor([1.0])), ValueError, "two tasks, got shape (1,)"),
    ("an interval of nothing", lambda s: mamlkit.interval(torch.tensor([])), ValueError, "two tasks, got shape (0,)"),
    ("an interval of a table", lambda s: mamlkit.interval(torch.ones(2, 3)), ValueError, "got shape (2, 3)"),
    ("an evaluation of one task", lambda s: mamlkit.evaluate(s.learner, s.tasks.select(slice(0, 1))).loss(), ValueError,
     "two tasks, got shape (1,)"),
    ("accuracy of a regression", lambda s: regression().accuracy(), ValueError, "real-valued targets: use loss()"),
    ("gain of a regression", lambda s: regression().gain, ValueError, "real-valued targets: use loss()"),
    ("share of a regression", lambda s: regression().share_above(0.5), ValueError, "real-valued targets: use loss()"),
    ("a plot of accuracies of a regression", lambda s: mamlkit.plots.plot_adaptation({"maml": regression()}, accuracy=True),
     ValueError, "real-valued targets"),
    ("a window of 0", lambda s: mamlkit.plots.plot_learning_curve([1.0, 2.0], window=0), ValueError, "<= 2 losses, got window 0"),
    ("a window that is too wide", lambda s: mamlkit.plots.plot_learning_curve([1.0, 2.0], window=3), ValueError, "got window 3"),
    ("a curve of nothing", lambda s: mamlkit.plots.plot_learning_curve([]), ValueError, "<= 0 losses, got window 50"),
    ("labels as floats", lambda s: s.meta_backward(support_y=s.y.float()), TypeError, "class numbers of type torch.int64, got torch.float32"),
    ("query labels as floats", lambda s: s.train(query_y=s.y.float()), TypeError, "class numbers of type torch.int64, got torch.float32"),
    ("labels as bytes", lambda s: s.adapt(y=s.y[0].to(torch.uint8)), TypeError, "got torch.uint8; convert with .long()"),
    ("labels in a column", lambda s: s.meta_backward(support_y=s.y[..., None]), ValueError, "one class number per output of shape (5, 4)"),
    ("more classes than outputs", lambda s: s.meta_backward(query_y=s.y + 4), ValueError, "class numbers from 0 to 3"),
    ("a negative label", lambda s: s.train(support_y=s.y - 1), ValueError, "class numbers from 0 to 3"),
    ("NaN in the data", lambda s: s.train(support_x=s.x * math.nan), ValueError, "a finite meta-loss, got nan"),
    ("double data", lambda s: s.train(support_x=s.x.double()), TypeError, "type torch.float32, got torch.float64"),
    ("double query data", lambda s: mamlkit.evaluate(s.learner, s.tasks._replace(query_x=s.x.double())), TypeError, "got torch.float64"),
    ("data on another device", lambda s: s.meta_backward(query_x=s.x.to("meta")), ValueError, "model's device cpu, got meta"),
    ("labels on another device", lambda s: s.adapt(y=s.y[0].to("meta")), ValueError, "model's device cpu, got meta"),
    ("regression targets without their last axis", lambda s: s.adapt(y=torch.ones(5), loss=F.mse_loss), ValueError,
     "targets of the outputs' shape (5, 4), got (5,)"),
    ("a loss that does not average", lambda s: mamlkit.maml(s.model, loss=lambda o, y: o.sum(-1)).meta_backward(s.tasks), ValueError,
     "one number, the mean over points, got shape (5,)"),
    ("a loss by name", lambda s: s.facade(loss="mse"), TypeError, "loss to be a function of outputs and targets, got str 'mse'"),
    ("a loss that is a class", lambda s: s.facade(loss=nn.MSELoss), TypeError, "loss to be a function of outputs and targets, got type"),
    ("a model that returns a tuple", lambda s: s.adapt(model=s.recurrent), TypeError, "model to return a tensor, got tuple"),
    ("three parts", lambda s: s.learner.meta_backward(tuple(s.tasks[:3])), TypeError, "(support_x, support_y, query_x, query_y), got 3 parts"),
    ("one tensor as tasks", lambda s: mamlkit.evaluate(s.learner, s.x), TypeError, "TaskBatch (support_x, support_y, query_x, query_y), got Tensor"),
    ("parameters of another model", lambda s: s.adapt(parameters={"0.bias": torch.ones(4)}), ValueError, "out of 1.weight, 1.bias, got '0.bias'"),
    ("weights of another model", lambda s: s.system.forward_with_weights(s.x[0], {"w": torch.ones(1)}), ValueError, "got 'w'"),
    ("rates of another model", lambda s: s.adapt(step_sizes=mamlkit.FixedStepSize(["head"], 0.1)), ValueError, "got 'head'"),
    ("a number as step sizes of a learner", lambda s: mamlkit.Learner(s.model, loss=F.mse_loss, inner_steps=1, step_sizes=0.1),
     TypeError, "step_sizes to be a StepSizes, got float 0.1"),
    ("an unknown order of adapt", lambda s: s.adapt(order=3), ValueError, "order 0, 1 or 2, got 3"),
    ("meta_backward under no_grad", lambda s: torch.no_grad()(s.learner.meta_backward)(s.tasks), RuntimeError, "under torch.no_grad()"),
    ("evaluate in inference mode", lambda s: torch.inference_mode()(mamlkit.evaluate)(s.learner, s.tasks), RuntimeError, "got torch.inference_mode()"),
    ("chunks of 0 tasks", lambda s: mamlkit.evaluate(s.learner, s.tasks, chunk=0), ValueError, "chunk >= 1, got 0"),
    ("a rank that does not exist", lambda s: mamlkit.TaskStream(mamlkit.Sinusoids(), 4, rank=2, world_size=2), ValueError, "rank < world_size 2, got 2"),
    ("no process", lambda s: mamlkit.TaskStream(mamlkit.Sinusoids(), 4, world_size=0), ValueError, "world_size >= 1, got 0"),
    ("an interval of a list", lambda s: mamlkit.interval([1.0, 2.0]), TypeError, "a tensor with one value for each task, got list"),
    ("instance norm all at once", lambda s: mamlkit.maml(nn.Sequential(s.model, nn.InstanceNorm1d(4)), engine="all_at_once"), ValueError,
     "instance norm for engine 'all_at_once'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "fragment"), [row[1:] for row in BAD_CALLS], ids=[row[0] for row in BAD_CALLS]
)
def test_one_clear_line_and_nothing_changed(call, error, fragment):
    scene = Scene()
    before = scene.state()
    with pytest.raises(error) as raised:
        call(scene)
    message = str(raised.value)
    assert raised.type is error
    assert fragment in message
    assert message.startswith("expected ") and ", got " in message
    assert "\n" not in message and len(message) < 250
    assert same(scene.state(), before), "the failed call has changed something"


def test_the_check_on_changes_would_notice_a_change():
    scene = Scene()
    before = scene.state()
    scene.train()
    assert not same(scene.state(), before)


def test_a_failed_step_can_be_followed_by_a_good_one():
    scene, other = Scene(), Scene()
    with pytest.raises(ValueError):
        scene.train(support_y=scene.y[:, :4])
    assert scene.train() == other.train()
    assert same(scene.state()[0], other.state()[0])
