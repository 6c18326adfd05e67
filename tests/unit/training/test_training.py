"""fit(): the loop against one written out, schedules, validation, patience, clipping, divergence, folders, resuming."""

from __future__ import annotations

import copy
import csv
import dataclasses
import math

import oracles
import pytest
import torch
from interrupted import cut_off
from torch import nn
from torch.nn import functional as F

import mamlkit
from mamlkit import TaskStream, TrainingDiverged, TrainingOptions
from mamlkit.checkpoint import latest_checkpoint, load_checkpoint
from mamlkit.randomness import VALIDATION_SEED

SMALL = TrainingOptions(
    epochs=3, steps_per_epoch=4, meta_batch=2, outer_lr=1e-3, validation_tasks=4, checkpoint_every=3, log_every=2
)
TASKS = mamlkit.Sinusoids(3, 3)


def learner_for(algorithm=mamlkit.maml_plus_plus, **keywords):
    model = mamlkit.mlp((1, 6, 6, 1), seed=0)
    return algorithm(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.01, **keywords)


def state(learner):
    return {name: value.detach().clone() for name, value in learner.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def curves(folder):
    with (folder / "curves.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_loop_written_out(clip_norm, same_rng):
    """Adam, the cosine as a formula, clipping by the whole norm, annealed weights of the epoch."""
    options = dataclasses.replace(SMALL, clip_norm=clip_norm)
    learner, plain = learner_for(annealing_epochs=2), learner_for(annealing_epochs=2)
    history = mamlkit.fit(learner, TASKS, options=options)
    parameters = list(plain.meta_parameters().values())
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    losses, norms, stream = [], [], TaskStream(TASKS, 2, seed=0)
    for step in range(12):
        plain.epoch = step // 4
        rate = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * step / 12)) / 2
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        losses.append(plain.meta_backward(stream.batch(step)).item())
        norms.append(math.sqrt(sum(p.grad.pow(2).sum().item() for p in parameters)))
        if clip_norm is not None:
            for p in parameters:
                p.grad *= min(1.0, clip_norm / norms[-1])
        optimiser.step()
    assert max(norms) > 0.5  # else clipping would not be tried
    assert oracles.relative_error(state(learner).values(), state(plain).values()) < 1e-5
    assert [row["step"] for row in history.rows] == [2, 4, 6, 8, 10, 12]
    assert [row["epoch"] for row in history.rows] == [0, 0, 1, 1, 2, 2]
    for i, row in enumerate(history.rows):
        assert row["meta_loss"] == pytest.approx((losses[2 * i] + losses[2 * i + 1]) / 2, rel=1e-4)
    assert history.rows[-1]["outer_lr"] == pytest.approx(1e-5) and history.step == 12


def test_clipping_makes_a_difference_and_a_wide_norm_none():
    ends = []
    for clip_norm in (None, 1e-6, 1e6):
        learner = learner_for(mamlkit.maml)
        mamlkit.fit(learner, TASKS, options=dataclasses.replace(SMALL, clip_norm=clip_norm))
        ends.append(state(learner))
    assert same(ends[0], ends[2]) and not same(ends[0], ends[1])


def test_without_cosine_the_rate_stays():
    history = mamlkit.fit(learner_for(), TASKS, options=dataclasses.replace(SMALL, cosine=False))
    assert {row["outer_lr"] for row in history.rows} == {1e-3}


def test_validation_curves_and_files(tmp_path):
    learner = learner_for()
    history = mamlkit.fit(learner, TASKS, options=SMALL, validation=TASKS, folder=tmp_path)
    rows = curves(tmp_path)
    assert list(rows[0]) == list(history.rows[0]) and len(rows) == len(history.rows) == 6
    for written, row in zip(rows, history.rows, strict=True):
        assert float(written["meta_loss"]) == row["meta_loss"] and int(written["step"]) == row["step"]
        assert (written["validation_loss"] != "") == (row["step"] % 4 == 0)
    held_out = TaskStream(TASKS, 4, seed=VALIDATION_SEED).batch(0)
    assert float(rows[-1]["validation_loss"]) == mamlkit.evaluate(learner, held_out).loss().mean
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    best = {name for _, name in history.best}
    assert best == {"step-00000004", "step-00000008", "step-00000012"}
    assert names == sorted(f"{name}.{suffix}" for name in best for suffix in ("json", "safetensors"))  # others are gone
    scores = [score for score, _ in history.best]
    assert scores == sorted(scores, reverse=True)
    for score, name in history.best:  # each holds the learner that was validated
        other = learner_for()
        mamlkit.load_learner(other, tmp_path / "checkpoints" / name)
        assert -mamlkit.evaluate(other, held_out).loss().mean == score


def watched(monkeypatch, losses):
    """Validation that gives these losses, epoch by epoch."""
    given = iter(losses)
    monkeypatch.setattr(
        "mamlkit.training.evaluate", lambda learner, tasks: mamlkit.Evaluation(torch.full((3, 4), next(given)), None)
    )


def test_the_early_best_is_kept_and_patience_ends_the_run(tmp_path, monkeypatch):
    watched(monkeypatch, [3.0, 1.0, 2.0, 1.0, 5.0, 0.0])
    options = dataclasses.replace(SMALL, epochs=6, keep_best=1, patience=3)
    history = mamlkit.fit(learner_for(), TASKS, options=options, validation=TASKS, folder=tmp_path)
    assert history.stopped_early and history.step == 20  # epoch 2 was best, 3, 4 and 5 were not better
    assert history.best == [(-1.0, "step-00000008")]  # of equals the earlier
    stems = {path.stem for path in (tmp_path / "checkpoints").iterdir()}
    assert stems == {"step-00000008", "step-00000020"}
    again = mamlkit.fit(learner_for(), TASKS, options=options, validation=TASKS, folder=tmp_path, resume=True)
    assert again.step == 20 and again.stopped_early


def test_only_so_many_of_the_best_are_kept(tmp_path, monkeypatch):
    watched(monkeypatch, [1.0, 4.0, 3.0, 2.0, 5.0])
    options = dataclasses.replace(SMALL, epochs=5, keep_best=2)
    history = mamlkit.fit(learner_for(), TASKS, options=options, validation=TASKS, folder=tmp_path)
    assert [score for score, _ in history.best] == [-1.0, -2.0] and not history.stopped_early
    stems = {path.stem for path in (tmp_path / "checkpoints").iterdir()}
    assert stems == {"step-00000004", "step-00000016", "step-00000020"}


class Poisoned:
    """Sound tasks until one batch whose targets are not numbers."""

    def __init__(self, at):
        self.left = at

    def sample(self, num_tasks, generator):
        tasks = TASKS.sample(num_tasks, generator)
        self.left -= 1
        return tasks if self.left >= 0 else tasks._replace(query_y=tasks.query_y * math.nan)


def test_nan_stops_with_step_seed_and_checkpoint_and_changes_no_weight(tmp_path):
    learner, sound = learner_for(), learner_for()
    options = dataclasses.replace(SMALL, seed=5)
    with pytest.raises(TrainingDiverged, match=r"outer step 8 \(seed 5\).*checkpoints/step-00000006$") as raised:
        mamlkit.fit(learner, Poisoned(7), options=options, folder=tmp_path)
    assert "\n" not in str(raised.value) and "expected a finite meta-loss" in str(raised.value)
    mamlkit.fit(sound, TASKS, options=dataclasses.replace(options, checkpoint_every=100), folder=tmp_path / "other")
    tensors, record = load_checkpoint(tmp_path / "checkpoints" / "step-00000006")
    assert record["history"]["step"] == 6 and all(torch.isfinite(value).all() for value in tensors.values())
    assert all(torch.isfinite(value).all() for value in learner.state_dict().values())
    mamlkit.fit(learner, TASKS, options=options, folder=tmp_path, resume=True)  # the cause is gone
    assert same(state(learner), state(sound))


def test_an_infinite_gradient_stops_too():
    class Steep(nn.Linear):
        def forward(self, x):
            return torch.sqrt(torch.abs(super().forward(x) * 0))  # finite value, infinite slope

    with torch.random.fork_rng(devices=[]):
        learner = mamlkit.fomaml(Steep(1, 1), loss=F.mse_loss, inner_steps=1)
    with pytest.raises(TrainingDiverged, match="last good checkpoint: none"):
        mamlkit.fit(learner, TASKS, options=SMALL)


VARIANTS = {
    "maml++": {},
    "reptile": {"algorithm": mamlkit.reptile},
    "dropout": {"dropout": True},
    "per-step statistics": {"batch_norm": True, "per_step_statistics": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("at", [2, 7])
def test_resuming_is_exact(variant, at, tmp_path, monkeypatch):
    """Cut off in the middle of a step, before the first checkpoint or between two; every tensor comes out the same."""
    switches = dict(VARIANTS[variant])
    algorithm = switches.pop("algorithm", mamlkit.maml_plus_plus)

    def make():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [nn.Linear(1, 6), nn.Softplus()]
            layers += [nn.Dropout(0.3)] if switches.get("dropout") else []
            layers += [nn.BatchNorm1d(6)] if switches.get("batch_norm") else []
            model = nn.Sequential(*layers, nn.Linear(6, 1))
        keywords = {key: value for key, value in switches.items() if key != "batch_norm"}
        return algorithm(model, loss=F.mse_loss, inner_steps=2, inner_lr=0.01, **keywords)

    keywords = {"options": SMALL, "validation": TASKS}
    whole, cut = make(), make()
    history = mamlkit.fit(whole, TASKS, folder=tmp_path / "whole", **keywords)

    cut_off(monkeypatch, tmp_path / "cut", cut, TASKS, at, **keywords)
    resumed = make()
    again = mamlkit.fit(resumed, TASKS, folder=tmp_path / "cut", resume=True, **keywords)
    assert same(state(resumed), state(whole)) and (resumed.epoch, resumed.meta_steps) == (2, 12)
    for key in ("step", "best", "loss_sum", "loss_count"):
        assert getattr(again, key) == getattr(history, key)
    for one, other in zip(curves(tmp_path / "cut"), curves(tmp_path / "whole"), strict=True):
        assert {**one, "seconds": None} == {**other, "seconds": None}
    ends = [load_checkpoint(latest_checkpoint(tmp_path / run / "checkpoints"))[0] for run in ("cut", "whole")]
    assert same(*ends) and any(name.startswith("optimiser.") for name in ends[0])


@pytest.mark.parametrize("change", [{"epochs": 2}, {"outer_lr": 2e-3}, {"seed": 1}, {"clip_norm": 1.0}])
def test_resuming_with_other_options_is_refused(change, tmp_path):
    mamlkit.fit(learner_for(), TASKS, options=SMALL, folder=tmp_path)
    learner = learner_for()
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (name,) = change
    with pytest.raises(ValueError, match=f"expected the run's own {name}={getattr(SMALL, name)}, got {change[name]}"):
        mamlkit.fit(learner, TASKS, options=dataclasses.replace(SMALL, **change), folder=tmp_path, resume=True)
    assert same(state(learner), state(learner_for())), "a refused resume has changed the learner"
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_rules_for_folders(tmp_path):
    mamlkit.fit(learner_for(), TASKS, options=SMALL, folder=tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"expected a folder without a run in it, got .*run; resume it or choose another"
    ):
        mamlkit.fit(learner_for(), TASKS, options=SMALL, folder=tmp_path / "run")
    with pytest.raises(ValueError, match=r"expected a folder with a run to resume, got .*none"):
        mamlkit.fit(learner_for(), TASKS, options=SMALL, folder=tmp_path / "none", resume=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected a folder with a run to resume, got .*empty"):
        mamlkit.fit(learner_for(), TASKS, options=SMALL, folder=tmp_path / "empty", resume=True)
    with pytest.raises(ValueError, match="expected a folder to resume from, got none"):
        mamlkit.fit(learner_for(), TASKS, options=SMALL, resume=True)
    assert not (tmp_path / "none").exists() and not list((tmp_path / "empty").iterdir())
    with pytest.raises(ValueError, match="of this learner, with step_sizes"):
        mamlkit.fit(learner_for(mamlkit.maml), TASKS, options=SMALL, folder=tmp_path / "run", resume=True)


def test_damaged_checkpoints_are_passed_over_and_never_all_of_them(tmp_path):
    learner = learner_for()
    mamlkit.fit(learner, TASKS, options=SMALL, validation=TASKS, folder=tmp_path)
    checkpoints = sorted((tmp_path / "checkpoints").glob("*.safetensors"))
    assert len(checkpoints) == 3
    for damaged in checkpoints[1:]:
        damaged.write_bytes(damaged.read_bytes()[:-8] + bytes(8))
    resumed = learner_for()
    mamlkit.fit(resumed, TASKS, options=SMALL, validation=TASKS, folder=tmp_path, resume=True)  # from step 4
    assert same(state(resumed), state(learner))
    for damaged in (tmp_path / "checkpoints").glob("*.safetensors"):
        damaged.write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a whole checkpoint in .*, got damaged ones only"):
        mamlkit.fit(learner_for(), TASKS, options=SMALL, validation=TASKS, folder=tmp_path, resume=True)


def test_nothing_is_written_when_the_call_is_wrong(tmp_path):
    class Empty:
        def sample(self, num_tasks, generator):
            raise ValueError("expected images, got none")

    with pytest.raises(ValueError, match="expected images, got none"):
        mamlkit.fit(learner_for(), TASKS, options=SMALL, validation=Empty(), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_leaves_the_global_random_state(same_rng, tmp_path):
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=2)
    mamlkit.fit(learner, TASKS, options=SMALL, validation=TASKS, folder=tmp_path)


def test_resuming_sweeps_up_what_a_kill_has_left(tmp_path):
    mamlkit.fit(learner_for(), TASKS, options=SMALL, folder=tmp_path)
    half_written = [tmp_path / "checkpoints" / ".mamlkit-abc.tmp", tmp_path / ".mamlkit-def.tmp"]
    of_the_user = [
        tmp_path / "notes.tmp",
        tmp_path / "checkpoints" / "x.tmp",
        tmp_path / "checkpoints" / "step-mine.json",
    ]
    for path in (*half_written, *of_the_user):
        path.write_bytes(b"half")
    mamlkit.fit(learner_for(), TASKS, options=SMALL, folder=tmp_path, resume=True)
    assert not any(path.exists() for path in half_written) and all(path.exists() for path in of_the_user)


OTHER_LEARNERS = {
    "order": lambda: mamlkit.fomaml(mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=2),
    "inner_steps": lambda: mamlkit.maml(mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=3),
    "rate": lambda: mamlkit.maml(mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=2, inner_lr=0.02),
    "loss": lambda: mamlkit.maml(mamlkit.mlp(seed=0), loss=F.l1_loss, inner_steps=2),
    "seed": lambda: mamlkit.maml(mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=2, seed=1),
    "step_sizes": lambda: mamlkit.meta_sgd(mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=2),
    "adapted": lambda: mamlkit.anil(mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=2),
    "outer_loss": lambda: mamlkit.maml_plus_plus(
        mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=2, step_sizes="fixed"
    ),
}


@pytest.mark.parametrize("name", OTHER_LEARNERS)
def test_another_learner_does_not_go_on_with_a_run(tmp_path, name):
    first = mamlkit.maml(mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=2)
    mamlkit.fit(first, TASKS, options=SMALL, folder=tmp_path)
    other = OTHER_LEARNERS[name]()
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r"^expected (the run's own|a checkpoint of this) learner, with .*, got "):
        mamlkit.fit(other, TASKS, options=SMALL, folder=tmp_path, resume=True)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
    again = mamlkit.maml(mamlkit.mlp(seed=0), loss=F.mse_loss, inner_steps=2, engine="task_by_task")
    assert mamlkit.fit(again, TASKS, options=SMALL, folder=tmp_path, resume=True).step == SMALL.outer_steps
