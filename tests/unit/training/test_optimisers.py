"""Any optimiser and any schedule of torch: against a loop written out, resumed exactly, refused where they do not fit."""

from __future__ import annotations

import dataclasses
import math

import oracles
import pytest
import torch
from interrupted import cut_off
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedules

import mamlkit
from mamlkit.checkpoint import latest_checkpoint, load_checkpoint
from mamlkit.optimisers import as_plain, from_plain

OPTIONS = mamlkit.TrainingOptions(
    epochs=3, steps_per_epoch=4, meta_batch=2, validation_tasks=4, checkpoint_every=3, log_every=4
)
TASKS = mamlkit.Sinusoids(3, 3)
LATER = dataclasses.replace(OPTIONS, epochs=5)


def make(dtype=torch.float32):
    model = mamlkit.mlp((1, 6, 6, 1), seed=0).to(dtype)
    return mamlkit.maml_plus_plus(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.01)


def groups(learner):
    """Weights and step sizes apart."""
    return [
        {"params": list(learner.initialisation().values())},
        {"params": list(learner.step_sizes.parameters()), "lr": 1e-3, "weight_decay": 0.0},
    ]


def sgd(learner, **keywords):
    return torch.optim.SGD(groups(learner), **{"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1} | keywords)


def state(learner):
    return {name: value.detach().clone() for name, value in learner.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


class Wide(mamlkit.Sinusoids):
    """In float64."""

    def sample(self, num_tasks, generator):
        return mamlkit.TaskBatch(*(part.double() for part in super().sample(num_tasks, generator)))


@pytest.mark.parametrize("cosine", [True, False])
def test_parameter_groups_against_a_loop_written_out(cosine, same_rng):
    """Momentum, weight decay on the weights alone, a rate for each group, and half a cosine from each of these."""
    learner, plain = make(torch.float64), make(torch.float64)
    options = dataclasses.replace(OPTIONS, cosine=cosine, final_outer_lr=1e-5 if not cosine else 1e-4)
    history = mamlkit.fit(learner, Wide(3, 3), options=options, optimiser=sgd(learner))
    weights, rates = list(plain.initialisation().values()), list(plain.step_sizes.parameters())
    stream = mamlkit.TaskStream(Wide(3, 3), 2, seed=0)
    velocity = {id(p): 0.0 for p in (*weights, *rates)}
    for step in range(12):
        plain.epoch = step // 4
        plain.zero_grad()
        plain.meta_backward(stream.batch(step))
        for part, lr, decay in ((weights, 0.02, 0.1), (rates, 1e-3, 0.0)):
            if cosine:
                lr = 1e-4 + (lr - 1e-4) * (1 + math.cos(math.pi * step / 12)) / 2
            for p in part:
                velocity[id(p)] = 0.9 * velocity[id(p)] + p.grad + decay * p.detach()
                p.data -= lr * velocity[id(p)]
    assert oracles.relative_error(state(learner).values(), state(plain).values()) < 1e-9
    assert history.rows[-1]["outer_lr"] == pytest.approx(1e-4 if cosine else 0.02)


OPTIMISERS = {
    "Adam": {}, "AdamW": {"amsgrad": True}, "SGD": {"momentum": 0.9, "nesterov": True}, "RMSprop": {"momentum": 0.5},
    "NAdam": {}, "RAdam": {}, "Adagrad": {}, "Adadelta": {}, "Adamax": {}, "ASGD": {}, "Rprop": {},
}  # fmt: skip
SCHEDULES = {
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, max_lr=[0.02, 1e-3], total_steps=20),
    "CyclicLR": lambda o: schedules.CyclicLR(o, [1e-3, 1e-4], [0.02, 1e-3], step_size_up=2),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, [2, 5, 9], gamma=0.5),
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: schedules.LambdaLR(o, lambda step: 1 / (1 + step)),
    "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 5),
    "ReduceLROnPlateau": lambda o: schedules.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=10.0),
    "SequentialLR": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, total_iters=4), schedules.MultiStepLR(o, [3, 6])], [4]
    ),
    "ChainedScheduler": lambda o: schedules.ChainedScheduler(
        [schedules.ExponentialLR(o, 0.9), schedules.StepLR(o, 3)], optimizer=o
    ),
}


@pytest.mark.parametrize("name", [*OPTIMISERS, *SCHEDULES])
def test_resuming_is_exact(name, tmp_path, monkeypatch):
    def parts(learner):
        if name in OPTIMISERS:
            return {"optimiser": getattr(torch.optim, name)(groups(learner), lr=1e-2, **OPTIMISERS[name])}
        optimiser = sgd(learner)
        return {"optimiser": optimiser, "schedule": SCHEDULES[name](optimiser)}

    keywords = {"options": OPTIONS, "validation": TASKS}
    whole, cut, resumed = make(), make(), make()
    history = mamlkit.fit(whole, TASKS, folder=tmp_path / "whole", **parts(whole), **keywords)
    cut_off(monkeypatch, tmp_path / "cut", cut, TASKS, **parts(cut), **keywords)
    again = mamlkit.fit(resumed, TASKS, folder=tmp_path / "cut", resume=True, **parts(resumed), **keywords)
    assert same(state(whole), state(resumed)) and not same(state(whole), state(make()))
    assert [row["outer_lr"] for row in again.rows] == [row["outer_lr"] for row in history.rows]
    ends = [load_checkpoint(latest_checkpoint(tmp_path / run / "checkpoints")) for run in ("cut", "whole")]
    assert same(ends[0][0], ends[1][0]) and ends[0][1]["schedule"] == ends[1][1]["schedule"]
    if name == "ReduceLROnPlateau":  # no loss is better by 1,000 %, so the rate halves each epoch
        assert [row["outer_lr"] for row in history.rows] == [0.02, 0.01, 0.005]


def test_a_schedule_is_the_one_of_torch():
    """Moved on once an outer step: the rates of a loop that does nothing else."""
    learner = make()
    optimiser = sgd(learner)
    schedule = SCHEDULES["SequentialLR"](optimiser)
    options = dataclasses.replace(OPTIONS, log_every=1)
    rates = [
        row["outer_lr"]
        for row in mamlkit.fit(learner, TASKS, options=options, optimiser=optimiser, schedule=schedule).rows
    ]
    alone = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    schedule, expected = SCHEDULES["SequentialLR"](alone), []
    for _ in range(12):
        alone.step()
        schedule.step()
        expected.append(alone.param_groups[0]["lr"])
    assert rates == expected and len(set(rates)) > 4


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("finished", [False, True])
def test_more_epochs_on_resume(own, finished, tmp_path, monkeypatch):
    """The cosine is stretched: before the last checkpoint of the short run that of 12 steps, after it that of 20."""

    def parts(learner):
        return {"optimiser": sgd(learner)} if own else {}

    learner, plain = make(), make()
    if finished:
        mamlkit.fit(make_and_keep := make(), TASKS, options=OPTIONS, folder=tmp_path, **parts(make_and_keep))
    else:
        cut_off(monkeypatch, tmp_path, first := make(), TASKS, options=OPTIONS, **parts(first))
    history = mamlkit.fit(learner, TASKS, options=LATER, folder=tmp_path, resume=True, **parts(learner))
    assert history.step == 20 and history.rows[-1]["outer_lr"] == pytest.approx(1e-5)
    optimiser = parts(plain).get("optimiser") or torch.optim.Adam(plain.meta_parameters().values(), lr=1e-3)
    starts = [group["lr"] for group in optimiser.param_groups]
    stream, switch = mamlkit.TaskStream(TASKS, 2, seed=0), 12 if finished else 6
    for step in range(20):
        plain.epoch = step // 4
        for group, start in zip(optimiser.param_groups, starts, strict=True):
            length = 12 if step < switch else 20
            group["lr"] = 1e-5 + (start - 1e-5) * (1 + math.cos(math.pi * step / length)) / 2
        optimiser.zero_grad()
        plain.meta_backward(stream.batch(step))
        optimiser.step()
    assert oracles.relative_error(state(learner).values(), state(plain).values()) < 1e-4
    with pytest.raises(ValueError, match=r"expected the run's own epochs=5, got 3"):
        mamlkit.fit(make(), TASKS, options=OPTIONS, folder=tmp_path, resume=True)


def test_more_epochs_do_not_move_a_schedule_of_ones_own_or_a_constant_rate(tmp_path):
    for number, cosine in enumerate((True, False)):
        histories = []
        for folder in ("short", "long"):
            learner = make()
            optimiser = sgd(learner)
            keywords = {"optimiser": optimiser, "schedule": schedules.ExponentialLR(optimiser, 0.9)} if cosine else {}
            options = dataclasses.replace(OPTIONS if folder == "short" else LATER, cosine=cosine)
            histories.append(
                mamlkit.fit(learner, TASKS, options=options, folder=tmp_path / f"{folder}{number}", **keywords)
            )
        learner = make()
        optimiser = sgd(learner)
        keywords = {"optimiser": optimiser, "schedule": schedules.ExponentialLR(optimiser, 0.9)} if cosine else {}
        later = dataclasses.replace(LATER, cosine=cosine)
        again = mamlkit.fit(learner, TASKS, options=later, folder=tmp_path / f"short{number}", resume=True, **keywords)
        assert [r["outer_lr"] for r in again.rows] == [r["outer_lr"] for r in histories[1].rows]
        whole, resumed = (
            load_checkpoint(latest_checkpoint(tmp_path / f"{f}{number}" / "checkpoints")) for f in ("long", "short")
        )
        assert same(whole[0], resumed[0])


def test_a_run_that_patience_has_stopped_does_not_get_longer(tmp_path, monkeypatch):
    monkeypatch.setattr("mamlkit.training.evaluate", lambda *_, **__: mamlkit.Evaluation(torch.ones(3, 4), None))
    options = dataclasses.replace(OPTIONS, epochs=4, patience=1)
    assert mamlkit.fit(make(), TASKS, options=options, validation=TASKS, folder=tmp_path).step == 8
    with pytest.raises(
        ValueError, match=r"^expected a run that can go on, got one that patience has stopped at step-0+8$"
    ):
        options = dataclasses.replace(options, epochs=9)
        mamlkit.fit(make(), TASKS, options=options, validation=TASKS, folder=tmp_path, resume=True)


OTHERS = {
    "kind": lambda learner: torch.optim.Adam(groups(learner), lr=0.02),
    "momentum": lambda learner: sgd(learner, momentum=0.8),
    "lr": lambda learner: sgd(learner, lr=0.03),
    "groups": lambda learner: torch.optim.SGD(learner.parameters(), lr=0.02, momentum=0.9, weight_decay=0.1),
    "none": lambda learner: None,
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_optimiser_does_not_go_on_with_a_run(other, tmp_path):
    learner = make()
    mamlkit.fit(learner, TASKS, options=OPTIONS, folder=tmp_path, optimiser=sgd(learner))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    learner = make()
    with pytest.raises(ValueError, match=r"^expected the run's own optimiser, with \w+=.*, got \w+="):
        mamlkit.fit(learner, TASKS, options=OPTIONS, folder=tmp_path, resume=True, optimiser=OTHERS[other](learner))
    assert same(state(learner), state(make()))
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_another_schedule_does_not_go_on_with_a_run(tmp_path):
    learner = make()
    optimiser = sgd(learner)
    mamlkit.fit(learner, TASKS, options=OPTIONS, folder=tmp_path, optimiser=optimiser,
                schedule=schedules.ExponentialLR(optimiser, 0.9))  # fmt: skip
    for make_schedule in (lambda o: schedules.ExponentialLR(o, 0.8), lambda o: schedules.StepLR(o, 3), None):
        learner = make()
        optimiser = sgd(learner)
        schedule = make_schedule and make_schedule(optimiser)
        with pytest.raises(ValueError, match=r"^expected the run's own schedule, with \w+=.*, got \w+="):
            mamlkit.fit(
                learner, TASKS, options=OPTIONS, folder=tmp_path, resume=True, optimiser=optimiser, schedule=schedule
            )


def test_a_checkpoint_of_before_goes_on_with_the_default(tmp_path, monkeypatch):
    """As older versions wrote them: the rows in the record, nothing of optimiser, data and threads."""
    whole = make()
    history = mamlkit.fit(whole, TASKS, options=OPTIONS, validation=TASKS, folder=tmp_path / "whole")
    cut_off(monkeypatch, tmp_path / "cut", make(), TASKS, options=OPTIONS, validation=TASKS)
    newest = latest_checkpoint(tmp_path / "cut" / "checkpoints")
    tensors, record = load_checkpoint(newest)
    for name in ("optimiser_settings", "schedule_settings", "data", "threads", "sha256"):
        del record[name]
    record["history"]["rows"] = history.rows[: record["history"]["rows"]]
    from mamlkit.checkpoint import save_checkpoint

    save_checkpoint(newest, tensors, record)
    (tmp_path / "cut" / "curves.csv").unlink()
    resumed = make()
    again = mamlkit.fit(resumed, TASKS, options=OPTIONS, validation=TASKS, folder=tmp_path / "cut", resume=True)
    assert same(state(whole), state(resumed))
    assert [row["meta_loss"] for row in again.rows] == [row["meta_loss"] for row in history.rows]


def test_plain_values_come_back():
    value = {"a": {1: 2, 3: {"x": (1, 2)}}, "b": [None, True, 0.1, float("inf")], "c": {}, "d": {"0": 1}}
    assert from_plain(as_plain(value)) == {**value, "a": {1: 2, 3: {"x": [1, 2]}}}
