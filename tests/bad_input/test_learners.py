"""Wrong switches of learners, of training and of evaluation: one clear line each, and nothing of the model changed.

The table holds (what is wrong, call, exception, what the message must say).
"""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit
from mamlkit import TrainingOptions, directions


def scene():
    """A network with batch norm and dropout, one without, and tasks for both."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4))
        plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
        dropout = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 4))
        bare = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 4))
        untracked = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 4))
        endless = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, momentum=None), nn.Linear(5, 4))
    x = torch.randn((2, 5, 6), generator=generator)
    tasks = mamlkit.TaskBatch(
        x, torch.randint(0, 4, (2, 5), generator=generator), x, torch.arange(4).repeat(2, 2)[:, :5]
    )
    return SimpleNamespace(
        model=model, plain=plain, dropout=dropout, bare=bare, untracked=untracked, endless=endless, tasks=tasks
    )


def plus_plus(model, **switches):
    return mamlkit.maml_plus_plus(model, **({"inner_steps": 2} | switches))


def learner(s, **keywords):
    sizes = mamlkit.FixedStepSize(["0.weight"], 0.1)
    return mamlkit.Learner(s.plain, **({"loss": F.cross_entropy, "inner_steps": 2, "step_sizes": sizes} | keywords))


class Odd(directions.Direction):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, gradients, parameters, memory, step):
        if self.what == "pair":
            return gradients
        keep = (lambda g: g[None]) if self.what == "shapes" else (lambda g: g)
        return {name + self.what * (self.what == "names"): keep(g) for name, g in gradients.items()}, memory


def fit(s, **keywords):
    return mamlkit.fit(mamlkit.maml(s.plain), mamlkit.Sinusoids(), **keywords)


BAD_CALLS = [
    # MAML++
    ("no inner steps", lambda s: plus_plus(s.model, inner_steps=0), ValueError, "inner_steps >= 1, got 0"),
    ("half a step", lambda s: plus_plus(s.model, inner_steps=1.5), TypeError, "got float 1.5"),
    ("a rate of 0", lambda s: plus_plus(s.model, inner_lr=0.0), ValueError, "inner step size to be a finite number > 0, got 0"),
    ("a rate of NaN", lambda s: plus_plus(s.model, inner_lr=math.nan, step_sizes="fixed"), ValueError, "> 0, got nan"),
    ("a rate as text", lambda s: plus_plus(s.model, inner_lr="0.1"), TypeError, "a number, got str '0.1'"),
    ("an unknown loss", lambda s: plus_plus(s.model, multi_step_loss="anneal"), ValueError, "'annealed', 'uniform', got 'anneal'"),
    ("a class of losses", lambda s: plus_plus(s.model, multi_step_loss=mamlkit.FinalStep), TypeError, "of type OuterLoss, got type"),
    ("negative weights", lambda s: plus_plus(s.model, multi_step_loss=[1, -1]), ValueError, "weights >= 0 that are not all 0"),
    ("weights of 0", lambda s: plus_plus(s.model, multi_step_loss=[0, 0]), ValueError, "not all 0, got [0.0, 0.0]"),
    ("a weight of NaN", lambda s: plus_plus(s.model, multi_step_loss=[1, math.nan]), ValueError, "finite weights"),
    ("too few weights", lambda s: plus_plus(s.model, multi_step_loss=[1.0]).meta_backward(s.tasks), ValueError,
     "one weight for each of 2 inner steps, got 1"),
    ("annealing over no epochs", lambda s: plus_plus(s.model, annealing_epochs=0), ValueError, "epochs >= 1, got 0"),
    ("unknown step sizes", lambda s: plus_plus(s.model, step_sizes="layer"), ValueError, "'tensor_and_step', 'parameter', got 'layer'"),
    ("first order for -1 epochs", lambda s: plus_plus(s.model, first_order_epochs=-1), ValueError, "first_order_epochs >= 0, got -1"),
    ("first order for half an epoch", lambda s: plus_plus(s.model, first_order_epochs=0.5), TypeError, "got float 0.5"),
    ("no weights to make per step", lambda s: plus_plus(s.bare), ValueError, "'1' to have weights (affine=True), got none"),
    ("no statistics to make per step", lambda s: plus_plus(s.untracked, per_step_statistics=True), ValueError,
     "'1' to track running statistics, got one that does not"),
    ("no momentum", lambda s: plus_plus(s.endless, per_step_statistics=True), ValueError, "'1' with a momentum, got the mean"),
    ("no batch norm", lambda s: mamlkit.PerStepBatchNorm(s.plain, 2, weights=True, statistics=True), ValueError,
     "a model with batch-norm layers, got Sequential without any"),
    ("batch norm all at once", lambda s: plus_plus(s.model, engine="all_at_once"), ValueError, "engine 'all_at_once'"),
    ("dropout all at once", lambda s: plus_plus(s.dropout, engine="all_at_once"), ValueError, "got dropout layers"),
    ("a negative seed", lambda s: plus_plus(s.model, seed=-1), ValueError, "seed >= 0, got -1"),
    ("a function as model", lambda s: plus_plus(lambda x: x), TypeError, "a torch.nn.Module, got function"),
    # relatives
    ("an unknown name", lambda s: mamlkit.anil(s.plain, adapted=["3.weight"]), ValueError, "'3.weight'"),
    ("nothing to adapt", lambda s: mamlkit.anil(s.plain, adapted=[]), ValueError, "at least one parameter to adapt, got none"),
    ("one name", lambda s: mamlkit.maml(s.plain, adapted="0.weight"), TypeError, "a list of names or a function of a name, got str '0.weight'"),
    ("a layer to adapt", lambda s: mamlkit.maml(s.plain, adapted=s.plain[0]), TypeError, "a function of a name, got Linear"),
    ("a number to adapt", lambda s: mamlkit.fomaml(s.plain, adapted=1), TypeError, "a function of a name, got int 1"),
    ("tensors to adapt", lambda s: mamlkit.meta_sgd(s.plain, adapted=s.plain[0].parameters()), TypeError, "names of parameters, got Parameter"),
    ("no parameter of that kind", lambda s: plus_plus(s.plain, adapted=lambda name: "lora" in name), ValueError, "at least one parameter to adapt, got none"),
    ("a layer's name", lambda s: mamlkit.reptile(s.plain, adapted=["2"]), ValueError, "out of 0.weight, 0.bias, 2.weight, 2.bias, got '2'"),
    ("a frozen name", lambda s: mamlkit.maml(s.plain.requires_grad_(False) and s.plain[2].requires_grad_(True) and s.plain, adapted=["0.bias"]),
     ValueError, "out of 2.weight, 2.bias, got '0.bias'"),
    ("step sizes to be made", lambda s: learner(s, step_sizes=lambda parameters: 0.1), TypeError, "a StepSizes, got float 0.1"),
    ("a class of step sizes", lambda s: learner(s, step_sizes=mamlkit.FixedStepSize), TypeError, "a StepSizes, got type"),
    ("a direction as text", lambda s: mamlkit.maml(s.plain, direction="adam"), TypeError, "a Direction, such as Momentum(0.9), or a list of them, got str 'adam'"),
    ("a kind of direction", lambda s: mamlkit.maml(s.plain, direction=[directions.Momentum]), TypeError, "or a list of them, got type"),
    ("an optimiser as direction", lambda s: mamlkit.maml(s.plain, direction=torch.optim.Adam(s.plain.parameters())), TypeError, "got Adam"),
    ("momentum of 1", lambda s: directions.Momentum(1.0), ValueError, "mu < 1, got 1.0"),
    ("negative momentum", lambda s: directions.Momentum(-0.1), ValueError, "mu to be a finite number >= 0, got -0.1"),
    ("negative decay", lambda s: directions.WeightDecay(-1e-4), ValueError, "weight decay to be a finite number >= 0"),
    ("clipping to 0", lambda s: directions.ClipNorm(0), ValueError, "norm to clip to to be a finite number > 0, got 0"),
    ("one beta", lambda s: directions.Adam(0.9), TypeError, "betas to be two numbers, got float 0.9"),
    ("a beta of 1", lambda s: directions.Adam((0.9, 1.0)), ValueError, "beta_2 < 1, got 1.0"),
    ("an eps of 0", lambda s: directions.Adam(eps=0.0), ValueError, "eps to be a finite number > 0, got 0.0"),
    ("a direction of other tensors", lambda s: mamlkit.maml(s.plain, direction=Odd("names"), engine="task_by_task").meta_backward(s.tasks), ValueError, "a direction of shape (5, 6) for '0.weight', got none"),
    ("a direction of another shape", lambda s: mamlkit.maml(s.plain, direction=Odd("shapes"), engine="task_by_task").meta_backward(s.tasks), ValueError, "a direction of shape (5, 6) for '0.weight', got (1, 5, 6)"),
    ("a direction without memory", lambda s: mamlkit.maml(s.plain, direction=Odd("pair"), engine="task_by_task").meta_backward(s.tasks), TypeError, "a direction to give tensors by name and a memory, got dict"),
    ("no statistics to keep", lambda s: mamlkit.maml(s.untracked, keep_statistics=True), ValueError, "batch norm '1' to have running statistics to keep, got none"),
    ("no batch norm to keep", lambda s: mamlkit.reptile(s.plain, keep_statistics=True), ValueError, "with batch-norm layers for keep_statistics=True, got Sequential without any"),
    ("kept and collected", lambda s: plus_plus(s.model, keep_statistics=True, per_step_statistics=True), ValueError, "keep_statistics=False where running statistics are collected"),
    ("kept in a word", lambda s: mamlkit.maml(s.model, keep_statistics="no"), TypeError, "keep_statistics to be True or False, got str 'no'"),
    ("no steps for Meta-SGD", lambda s: mamlkit.meta_sgd(s.plain, inner_steps=0), ValueError, ">= 1, got 0"),
    ("a negative rate for Reptile", lambda s: mamlkit.reptile(s.plain, inner_lr=-1.0), ValueError, "> 0, got -1.0"),
    ("unknown statistics", lambda s: learner(s, query_statistics="own"), ValueError, "'batch', 'running', got 'own'"),
    ("an unknown order", lambda s: learner(s, order=3), ValueError, "order 0, 1 or 2, got 3"),
    ("an unknown kind of rates", lambda s: mamlkit.LearnedStepSizes({}, 0.1, "layer", 2), ValueError, "got 'layer'"),
    ("an epoch before the first", lambda s: mamlkit.AnnealedMultiStep(3).weights(5, -1), ValueError, "epoch >= 0, got -1"),
    # training
    ("no epochs", lambda s: TrainingOptions(epochs=0), ValueError, "epochs >= 1, got 0"),
    ("epochs as text", lambda s: TrainingOptions(epochs="3"), TypeError, "epochs to be a whole number, got str '3'"),
    ("a meta-batch of 0", lambda s: TrainingOptions(meta_batch=0), ValueError, "meta_batch >= 1, got 0"),
    ("an outer rate of 0", lambda s: TrainingOptions(outer_lr=0), ValueError, "outer_lr to be a finite number > 0, got 0"),
    ("a final rate below 0", lambda s: TrainingOptions(final_outer_lr=-1e-9), ValueError, "final_outer_lr"),
    ("a norm of 0", lambda s: TrainingOptions(clip_norm=0), ValueError, "clip_norm to be a finite number > 0, got 0"),
    ("one validation task", lambda s: TrainingOptions(validation_tasks=1), ValueError, "validation_tasks >= 2, got 1"),
    ("patience of 0", lambda s: TrainingOptions(patience=0), ValueError, "patience >= 1, got 0"),
    ("a seed too large", lambda s: TrainingOptions(seed=2**63), ValueError, "seed < 2**63, got 9223372036854775808"),
    ("nothing to resume", lambda s: fit(s, resume=True), ValueError, "a folder to resume from, got none"),
    ("a folder that is not there", lambda s: fit(s, folder="/nowhere/at/all", resume=True), ValueError, "got /nowhere/at/all"),
    ("a checkpoint that is not there", lambda s: mamlkit.load_learner(mamlkit.maml(s.plain), "/nowhere/step-1"), ValueError,
     "step-1.safetensors and step-1.json in /nowhere, got no such pair"),
    ("no steps with the facade", lambda s: mamlkit.train_maml(mamlkit.ModelAgnosticMetaLearning(s.plain), [], 0), ValueError,
     "steps >= 1, got 0"),
    ("no batches", lambda s: mamlkit.train_maml(mamlkit.ModelAgnosticMetaLearning(s.plain), [], 1), ValueError,
     "1 meta-batches, got 0"),
    # evaluation
    ("no learner", lambda s: mamlkit.evaluate_ensemble([], s.tasks), ValueError, "at least one learner in a list, got none"),
    ("no tasks at a time", lambda s: mamlkit.evaluate(mamlkit.maml(s.plain), s.tasks, chunk=0), ValueError, "chunk >= 1, got 0"),
    ("no steps to evaluate", lambda s: mamlkit.evaluate(mamlkit.maml(s.plain), s.tasks, steps=0), ValueError, "steps >= 1, got 0"),
    ("a bar, yes", lambda s: mamlkit.evaluate(mamlkit.maml(s.plain), s.tasks, progress="yes"), TypeError, "progress to be True or False, got str 'yes'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "fragment"), [row[1:] for row in BAD_CALLS], ids=[row[0] for row in BAD_CALLS]
)
def test_one_clear_line_and_nothing_changed(call, error, fragment):
    s = scene()
    before, random = copy.deepcopy(vars(s)), torch.random.get_rng_state()
    with pytest.raises(error) as raised:
        call(s)
    message = str(raised.value)
    assert raised.type is error and fragment in message
    assert message.startswith("expected ") and ", got " in message and "\n" not in message and len(message) < 250
    for name, module in vars(s).items():
        if isinstance(module, nn.Module):
            old = before[name].state_dict()
            assert all(torch.equal(value, old[key]) for key, value in module.state_dict().items())
            assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)


@pytest.mark.parametrize(
    ("metric", "error"),
    [("f1", "metric to be a function"), (nn.MSELoss, "a function"), (lambda outputs, targets: outputs, "one number")],
)
def test_bad_metrics_are_refused(metric, error):
    learner = mamlkit.maml(mamlkit.mlp((1, 4, 1), seed=0), inner_steps=1, loss=F.mse_loss)
    tasks = mamlkit.Sinusoids(3, 3).sample(2, torch.Generator().manual_seed(0))
    with pytest.raises(TypeError, match=f"^expected .*{error}.* got"):
        mamlkit.evaluate(learner, tasks, metric=metric)
