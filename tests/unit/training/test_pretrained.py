"""The weights that ship: they load, they have a record, and they do what they are for."""

from __future__ import annotations

import re
import shlex

import pytest
import torch
from test_omniglot import REAL, needs_data
from torch.nn import functional as F

import mamlkit
from mamlkit.pretrained import pretrained_names, pretrained_record
from mamlkit.randomness import TEST_SEED
from mamlkit.recipes import sinusoids as recipe
from mamlkit.tasks import TaskStream

SINUSOIDS = ("sinusoid-maml", "sinusoid-pretrained")
LEARNERS = [name for name in pretrained_names() if "configuration" in pretrained_record(name)]


def test_the_models_of_chapter_one_ship():
    assert set(SINUSOIDS) <= set(pretrained_names())


@pytest.mark.parametrize("name", SINUSOIDS)
def test_load_into_the_network_they_are_for(name):
    model = mamlkit.mlp(seed=0)
    weights = mamlkit.pretrained(name)
    model.load_state_dict(weights)  # strict
    assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in weights.values())


@pytest.mark.parametrize("name", pretrained_names())
def test_have_a_record_of_how_they_were_made(name):
    record = pretrained_record(name)
    assert {"command", "versions"} <= set(record)
    assert {"mamlkit", "torch", "python"} <= set(record["versions"])
    assert all(re.match(r"\d+\.\d+", version) for version in record["versions"].values())
    assert isinstance(record.get("seed", record.get("seeds")), int)  # which one, or how many in one file
    program, *_ = shlex.split(record["command"])
    assert program == "python" and "/tmp" not in record["command"] and "/work" not in record["command"]


@pytest.mark.parametrize("name", SINUSOIDS)
def test_were_made_with_the_settings_of_the_paper(name):
    record = pretrained_record(name)
    settings = {
        "outer_steps": 70_000,
        "meta_batch": 25,
        "shots": 10,
        "outer_lr": 1e-3,
    }
    if name == "sinusoid-maml":  # the other has no inner loop
        settings |= {"inner_steps": 1, "inner_lr": 0.01}
    assert {key: record[key] for key in settings} == settings
    words = shlex.split(record["command"])
    assert words[:3] == ["python", "-m", "mamlkit.recipes.sinusoids"] and words[2] == recipe.__name__


def test_maml_adapts_and_pretraining_does_not():
    """Finn et al., 2017, table 2: 0.67 / 0.38 / 0.35 against 2.41 / 2.23 / 2.19 after 1 / 5 / 10 steps on 5 points."""
    tasks = mamlkit.Sinusoids(shots=5, queries=100).sample(300, torch.Generator().manual_seed(12345))
    results = {}
    for name in SINUSOIDS:
        model = mamlkit.mlp(seed=0)
        model.load_state_dict(mamlkit.pretrained(name))
        learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=1, inner_lr=0.01)
        results[name] = mamlkit.evaluate(learner, tasks, steps=10)
    adapted, plain = (results[name] for name in SINUSOIDS)
    assert adapted.loss(0).mean > 2 and adapted.loss(1).mean < 1.0
    assert adapted.loss(10).mean < adapted.loss(5).mean < adapted.loss(1).mean
    assert plain.loss(10).mean > 3 * adapted.loss(10).mean


def test_loading_twice_gives_tensors_of_their_own():
    first = mamlkit.pretrained(SINUSOIDS[0])
    first["0.weight"].zero_()
    assert mamlkit.pretrained(SINUSOIDS[0])["0.weight"].abs().sum() > 0


def test_the_glyph_network_tells_new_characters_apart():
    """Test scripts, 5-way 1-shot, after one inner step; before it one in five is all there is."""
    record = pretrained_record("glyph-maml")
    model = mamlkit.conv4(record["ways"], filters=record["filters"], downsample="stride")
    model.load_state_dict(mamlkit.pretrained("glyph-maml"))  # strict
    learner = mamlkit.maml(model, inner_steps=record["inner_steps"], inner_lr=record["inner_lr"])
    result = mamlkit.evaluate(learner, mamlkit.glyphs("test").sample(60, torch.Generator().manual_seed(3)))
    assert result.accuracy(0).mean < 0.3
    assert result.accuracy(1).mean > 0.8


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_ships_in_one_call(name):
    learner, configuration = mamlkit.pretrained_learner(name)
    run = configuration.learner.learner
    if configuration.learner.inner_steps == 1:
        run = {"maml": "one-step-cosine", "maml++": "one-step-maml++"}[run]
    assert f"-{run}-{configuration.tasks.ways}way-" in name
    size = sum(value.numel() * value.element_size() for value in mamlkit.pretrained(name).values())
    assert size < 1_000_000
    tasks = mamlkit.glyphs("test", ways=configuration.tasks.ways).sample(2, torch.Generator().manual_seed(0))
    assert mamlkit.evaluate(learner, tasks).losses.isfinite().all()


def test_weights_that_are_no_learner_are_named():
    with pytest.raises(ValueError, match="got the weights of a model, 'glyph-maml'"):
        mamlkit.pretrained_learner("glyph-maml")


@needs_data
@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_answers_on_omniglot_as_recorded(name):
    """Task by task, for the first of the recorded tasks; on another processor an answer in a thousand may differ."""
    learner, configuration = mamlkit.pretrained_learner(name, root=REAL)
    own = pretrained_record(name)["configuration"]
    (run,) = (run for run in mamlkit.recorded("omniglot-long")["runs"] if run["configuration"] == own)
    first = slice(300 // run["ways"])
    tasks = TaskStream(configuration.build_tasks("test"), run["test_tasks"], seed=TEST_SEED).batch(0).select(first)
    found = mamlkit.evaluate(learner, tasks, steps=len(run["per_step_accuracy"]) - 1).accuracies
    recorded = torch.tensor(run["per_task_final_accuracies"][first], dtype=torch.float64)
    assert (found[-1] - recorded).abs().mean() < 1e-3
    assert recorded.std() > 0.01  # other tasks would show
