"""The recipe of the ablation trains, resumes and records; every record that ships fulfils one schema."""

from __future__ import annotations

import functools
import json
import math
import re
import shlex
import statistics
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mamlkit
from mamlkit.configuration import Configuration
from mamlkit.randomness import TEST_SEED
from mamlkit.recipes import ablation as recipe
from mamlkit.recipes import protocols
from mamlkit.runs import load_best
from mamlkit.tasks import TaskStream

SCHEMA = {
    "learner": str,
    "ways": int,
    "shots": int,
    "seed": int,
    "ablation": (str, type(None)),
    "test_accuracy": float,
    "test_ci95": float,
    "test_tasks": int,
    "is_transductive": bool,
    "best_checkpoint": str,
    "iterations": int,
    "seconds": float,
    "cpu_seconds": (float, type(None)),
    "peak_memory_mb": float,
    "meta_step": dict,
    "learning_curve": list,
    "per_step_accuracy": list,
    "per_step_loss": list,
    "per_task_final_losses": list,
    "per_task_final_accuracies": list,
    "configuration": dict,
    "command": str,
    "versions": dict,
    "commit": (str, type(None)),
}
TINY = ["--epochs=2", "--steps-per-epoch=1", "--meta-batch=1", "--filters=4", "--validation-tasks=2", "--test-tasks=4"]
FILES = sorted((Path(__file__).parents[3] / "book" / "results").glob("*/*.json"))


@pytest.fixture(autouse=True)
def timed_once(monkeypatch):
    """The price of a meta-step is a median of five in a record; that there is one needs no repetition."""
    monkeypatch.setattr(recipe, "meta_step_cost", functools.partial(recipe.meta_step_cost, rounds=1))


def expect_schema(record, file=None):
    tasks, chosen = record["test_tasks"], Configuration.from_json(record["configuration"])
    assert record.keys() - {"protocols"} == SCHEMA.keys()
    # The runs on the strided network are from before protocols were measured.
    older = chosen.training.keep_best == 1 and chosen.network.downsample == "stride"
    assert "protocols" in record or older
    for key, kind in SCHEMA.items():
        assert isinstance(record[key], kind), key
    if "protocols" in record:
        ways_to_test = {(row["checkpoints"], row["queries"], row["statistics"]) for row in record["protocols"]}
        all_, alone = "query set", "support set and one image"
        each = [(1, all_), (5, all_), (1, alone)]
        assert ways_to_test == {(count, *kind) for count in (1, chosen.training.keep_best) for kind in each}
        assert all(0 < row["accuracy"] < 1 and 0 < row["ci95"] < 0.1 + 1 / tasks for row in record["protocols"])
    losses, accuracies = record["per_task_final_losses"], record["per_task_final_accuracies"]
    assert len(losses) == len(accuracies) == tasks and all(math.isfinite(value) for value in losses)
    assert statistics.mean(accuracies) == pytest.approx(record["test_accuracy"], abs=1e-4)
    width = 1.96 * statistics.stdev(accuracies) / math.sqrt(tasks)
    assert width == pytest.approx(record["test_ci95"], abs=1e-4)
    assert statistics.mean(losses) == pytest.approx(record["per_step_loss"][-1], abs=1e-3)
    assert record["per_step_accuracy"][-1] == record["test_accuracy"]
    steps = recipe.RUNS[record["ablation"] or record["learner"]].get("test_steps", chosen.learner.inner_steps) + 1
    assert len(record["per_step_accuracy"]) == len(record["per_step_loss"]) == steps
    assert record["iterations"] == chosen.training.outer_steps == record["learning_curve"][-1]["step"]
    for moment in ("first_epoch", "last_epoch"):
        assert record["meta_step"][moment].keys() >= {"seconds", "seconds_ratio"}
    assert record["learner"] == chosen.learner.learner and record["seed"] == chosen.training.seed
    assert (record["ways"], record["shots"]) == (chosen.tasks.ways, chosen.tasks.shots)
    name = record["ablation"] or record["learner"]
    assert name in recipe.RUNS and (record["ablation"] is None) == (name in recipe.MAIN)
    assert {"mamlkit", "torch", "python"} == set(record["versions"])
    assert not re.search(r"/(tmp|home|work|root)\b", json.dumps(record)), "a path of some machine"
    words = shlex.split(record["command"])
    assert words[:3] == ["python", "-m", recipe.__name__] and name in words and str(record["seed"]) in words


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_record_fulfils_the_schema(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 25_000
    record = json.loads(text)
    expect_schema(record)
    shape = f"{record['ways']}way-{record['shots']}shot"
    usual = recipe.BUDGETS[path.parent.name]
    length = (
        "" if record["iterations"] == usual["epochs"] * usual["steps_per_epoch"] else f"-{record['iterations']}steps"
    )
    assert path.name == f"{record['ablation'] or record['learner']}-{shape}{length}-seed{record['seed']}.json"


@pytest.mark.parametrize("data", sorted({path.parent.name for path in FILES}))
def test_what_the_package_ships_is_what_was_recorded(data):
    folder = Path(__file__).parents[3] / "book" / "results" / data
    assert mamlkit.recorded(data) == json.loads(json.dumps(recipe.collect(folder, data)))


@pytest.mark.parametrize("data", sorted({path.parent.name for path in FILES}))
def test_runs_of_one_task_shape_and_length_are_compared_like_with_like(data):
    """They differ in the learner's parts, the schedule and the seed, and in nothing else."""
    shared, seeds = {}, set()
    for record in mamlkit.recorded(data)["runs"]:
        # Read as a configuration: an older record lacks an option that was added since, and means its default.
        chosen = Configuration.from_json(record["configuration"]).to_json()
        shape = (record["ways"], record["shots"], record["iterations"])
        training = {key: value for key, value in chosen["training"].items() if key not in ("cosine", "seed")}
        steps = (
            chosen["learner"]["inner_steps"] if "one-step" not in (record["ablation"] or "") else 5
        )  # it differs by design
        alike = [chosen["tasks"], chosen["network"], training, steps, record["test_tasks"]]
        # Runs of hours span releases of mamlkit, which compute the same; each record has its commit.
        versions = {key: value for key, value in record["versions"].items() if key != "mamlkit"}
        shared.setdefault(shape, set()).add(json.dumps([alike, versions]))
        name = record["ablation"] or record["learner"]
        assert (shape, name, record["seed"]) not in seeds
        seeds.add((shape, name, record["seed"]))
    assert all(len(kinds) == 1 for kinds in shared.values())


@pytest.mark.parametrize("name", sorted(recipe.RUNS))
def test_a_run_switches_on_what_its_name_says(name):
    chosen = recipe.configuration(name, 3)
    learner = chosen.build_learner((1, 28, 28))
    weights = learner.outer_loss.weights(5, 1).tolist()
    seen = {
        "multi-step" if weights[-1] == pytest.approx(0.6) else "": weights[0] > 0 and weights[-1] != weights[0],
        "plain-mean": weights[0] == weights[-1],
        "learned-rates": getattr(learner.step_sizes, "per", None) == "tensor_and_step",
        "per-step-norm": learner.batch_norm is not None,
        "cosine": chosen.training.cosine,
        "order-annealing": learner.first_order_epochs == chosen.training.epochs // 2,
        "larger-rate": (chosen.learner.inner_lr, chosen.learner.inner_steps) in ((0.4, 5), (1.2, 1)),
        "one-step": (chosen.learner.inner_lr, chosen.learner.inner_steps) in ((0.4, 1), (1.2, 1)),
        "fomaml": learner.order == 1,
        "reptile": learner.order == 0,
        "anil": len(learner.step_sizes(0)) == 2,
        "meta-sgd": getattr(learner.step_sizes, "per", None) == "parameter",
    }
    on = {switch for switch, is_on in seen.items() if is_on}
    everything = {"multi-step", "learned-rates", "per-step-norm", "cosine"}
    one_step = {"one-step", "cosine"}
    whole = {"maml": set(), "maml++": everything, "one-step-cosine": one_step}
    whole |= {f"one-step-{part}": one_step | {part} for part in ("larger-rate", "learned-rates", "per-step-norm")}
    whole["one-step-maml++"] = one_step | {"learned-rates", "per-step-norm"}
    expected = whole.get(name, {name})
    assert on == (everything - {name.removeprefix("no-")} if name.startswith("no-") else expected)
    assert chosen.training.seed == 3 and Configuration.from_json(chosen.to_json()) == chosen


def test_only_a_run_of_unusual_length_has_it_in_its_name():
    usual = recipe.configuration("maml", 3, data="omniglot", ways=20)
    assert recipe.stem_of("maml", usual, "omniglot") == "maml-20way-1shot-seed3"
    longer = recipe.configuration("anil", 0, data="omniglot", steps_per_epoch=400)
    assert recipe.stem_of("anil", longer, "omniglot") == "anil-5way-1shot-6000steps-seed0"


def test_a_tiny_run_is_trained_recorded_and_then_left_alone(tmp_path, capsys):
    out, work = tmp_path / "out", tmp_path / "work"
    arguments = ["--out", str(out), "--work", str(work), "--only", "maml++", "--seeds", "7", *TINY]
    recipe.main(arguments)
    (file,) = out.iterdir()
    record = json.loads(file.read_text(encoding="utf-8"))
    expect_schema(record)
    assert {row["checkpoints"] for row in record["protocols"]} == {1}
    assert file.name == "maml++-5way-1shot-2steps-seed7.json" and record["peak_memory_mb"] > 50
    cost = record["meta_step"]
    assert cost["first_epoch"]["memory_ratio"] > cost["last_epoch"]["memory_ratio"] * 0.9 > 0
    assert str(tmp_path) not in file.read_text(encoding="utf-8")
    before = file.stat().st_mtime_ns
    kept = ["--weights", str(tmp_path), "--collect", str(tmp_path / "all.json")]
    recipe.main(arguments + kept)
    assert file.stat().st_mtime_ns == before
    assert capsys.readouterr().out.count("maml++-5way-1shot-2steps-seed7") == 1
    assert json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))["runs"] == [record]
    notes = json.loads((tmp_path / "glyphs-maml++-5way-1shot-2steps-seed7.json").read_text(encoding="utf-8"))
    assert notes["test_accuracy"] == record["test_accuracy"] and notes["image_shape"] == [1, 28, 28]
    learner = Configuration.from_json(notes["configuration"]).build_learner((1, 28, 28))
    learner.load_state_dict(load_file(tmp_path / "glyphs-maml++-5way-1shot-2steps-seed7.safetensors"))  # strict


def test_the_checkpoints_that_are_kept_are_also_measured_together(tmp_path):
    size = {"epochs": 2, "steps_per_epoch": 1, "meta_batch": 1, "filters": 4, "validation_tasks": 2}
    alone, kept = (recipe.configuration("one-step", 5, keep_best=count, **size) for count in (1, 2))
    first = recipe.train_and_measure("one-step", alone, tmp_path / "alone", 4)
    second = recipe.train_and_measure("one-step", kept, tmp_path / "kept", 4)
    assert first["protocols"] == second["protocols"][:3] and len(first["per_step_loss"]) == 4  # three steps at test
    assert first["per_task_final_losses"] == second["per_task_final_losses"]
    batch = TaskStream(kept.build_tasks("test"), 4, seed=TEST_SEED).batch(0)
    learners, _ = load_best(kept, tmp_path / "kept", (1, 28, 28), 2)
    truth = mamlkit.evaluate_ensemble(learners, batch, steps=3).accuracy()
    assert batch.query_y.shape == (4, 25) and found(second["protocols"], 2, 5) == pytest.approx(truth.mean, abs=1e-5)
    assert found(second["protocols"], 1, 5) == second["test_accuracy"]


def found(rows, checkpoints, queries):
    (row,) = (
        row
        for row in rows
        if (row["checkpoints"], row["queries"], row["statistics"]) == (checkpoints, queries, "query set")
    )
    return row["accuracy"]


def test_an_image_that_is_answered_alone_sees_the_support_set_and_no_other_image():
    learners = [
        mamlkit.maml(mamlkit.conv4(3, filters=4, seed=seed).double(), inner_steps=2, inner_lr=0.4) for seed in (0, 1)
    ]
    drawn = mamlkit.glyphs("test", ways=3, queries=2).sample(2, torch.Generator().manual_seed(0))
    tasks = drawn._replace(support_x=drawn.support_x.double(), query_x=drawn.query_x.double())
    answered = protocols.answered_alone(learners, tasks, 2)
    for task in range(2):
        hits = []
        for image, label in zip(tasks.query_x[task], tasks.query_y[task], strict=True):
            outputs = 0
            for learner in learners:
                weights = learner.adapt(tasks.support_x[task], tasks.support_y[task])[-1]
                batch = torch.cat([tasks.support_x[task], image[None]])  # (support + 1, 1, 28, 28)
                outputs = outputs + torch.func.functional_call(learner.model, dict(weights), (batch,))[-1]
            hits.append(outputs.argmax().item() == label.item())
        assert answered[task].item() == sum(hits) / len(hits)
        other = tasks._replace(query_x=tasks.query_x.roll(1, 1), query_y=tasks.query_y.roll(1, 1))
        assert torch.equal(protocols.answered_alone(learners, other, 2), answered)


def test_weights_of_another_training_are_refused(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    arguments = ["--out", str(out), "--work", str(work), "--only", "maml", "--seeds", "7", *TINY]
    recipe.main(arguments)
    (file,) = out.iterdir()
    record = json.loads(file.read_text(encoding="utf-8")) | {"best_checkpoint": "step-00000009"}
    file.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match="expected step-00000009 to be the best"):
        recipe.main([*arguments, "--weights", str(tmp_path)])
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_collection_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected records in .*, got none"):
        recipe.collect(tmp_path, "glyphs")


def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    size = {"epochs": 2, "steps_per_epoch": 1, "meta_batch": 1, "filters": 4, "validation_tasks": 2}
    chosen = recipe.configuration("maml", 5, **size)
    whole = recipe.train_and_measure("maml", chosen, tmp_path / "whole", 4)
    validations = []

    def pulled_plug(*arguments):
        validations.append(1)
        if len(validations) == 2:
            raise KeyboardInterrupt
        return mamlkit.evaluate(*arguments)

    monkeypatch.setattr("mamlkit.training.evaluate", pulled_plug)
    with pytest.raises(KeyboardInterrupt):
        recipe.train_and_measure("maml", chosen, tmp_path / "broken", 4)
    assert list((tmp_path / "broken" / "checkpoints").glob("step-00000001.json"))
    again = recipe.train_and_measure("maml", chosen, tmp_path / "broken", 4)
    clock = {"seconds", "cpu_seconds", "peak_memory_mb", "meta_step"}
    assert {k: v for k, v in whole.items() if k not in clock} == {k: v for k, v in again.items() if k not in clock}
    assert whole["cpu_seconds"] > 0 and again["cpu_seconds"] is None


def test_a_meta_step_is_priced_beside_one_of_maml():
    tasks = mamlkit.glyphs("train", queries=5).sample(2, torch.Generator().manual_seed(0))
    cost = recipe.meta_step_cost(recipe.configuration("plain-mean", 0, filters=4), tasks, rounds=1)
    for moment in cost.values():
        assert moment["memory_mb"] > 0.1 and moment["memory_ratio"] > 0.9 and moment["seconds"] > 0
    first_order = recipe.meta_step_cost(recipe.configuration("fomaml", 0, filters=4), tasks, rounds=1)
    assert first_order["last_epoch"]["memory_ratio"] < 1.0


def test_a_folder_that_does_not_exist_is_refused_before_training(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        recipe.main(["--out", str(tmp_path / "nowhere" / "out"), "--work", str(tmp_path)])
    assert stopped.value.code == 2
    assert "expected --out to name a folder in a folder that exists" in capsys.readouterr().err
