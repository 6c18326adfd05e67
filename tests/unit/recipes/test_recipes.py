"""The scripts behind the shipped weights give the same weights twice, and their recorded commands can be run."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from importlib.resources import files

import numpy as np
import oracles
import pytest
import torch
from safetensors.torch import load_file

import mamlkit
from mamlkit.pretrained import pretrained_names, pretrained_record
from mamlkit.recipes import glyph_drawings
from mamlkit.recipes import glyphs as glyph_recipe
from mamlkit.recipes import sinusoids as recipe


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the script's ``main`` with some arguments, and give the folder that it wrote to."""

    def call(folder, *arguments):
        out = tmp_path / folder
        out.mkdir()
        monkeypatch.setattr(sys, "argv", ["sinusoids", "--out", str(out), *arguments])
        recipe.main()
        return out

    return call


@pytest.mark.parametrize("name", sorted(recipe.RECIPES))
def test_the_same_seed_gives_the_same_weights(name, run, same_rng):
    first = run("first", "--only", name, "--outer-steps", "4", "--seed", "7")
    again = run("again", "--only", name, "--outer-steps", "4", "--seed", "7")
    other = run("other", "--only", name, "--outer-steps", "4", "--seed", "8")
    file = f"{name}.safetensors"
    assert (first / file).read_bytes() == (again / file).read_bytes() != (other / file).read_bytes()
    record = json.loads((first / f"{name}.json").read_text(encoding="utf-8"))
    assert record["seed"] == 7 and record["outer_steps"] == 4
    assert {"mamlkit", "torch", "python"} == set(record["versions"])
    assert sorted(path.name for path in first.iterdir()) == [f"{name}.json", file]


def test_the_maml_recipe_against_a_plain_loop(run):
    """Two outer steps, in float32: the script trains with the algorithm and the settings that it names."""
    out = run("out", "--only", "sinusoid-maml", "--outer-steps", "2", "--seed", "3")
    theta = [parameter.detach().clone().requires_grad_() for parameter in mamlkit.mlp(seed=3).parameters()]
    optimiser = torch.optim.Adam(theta, lr=1e-3)
    stream = mamlkit.TaskStream(mamlkit.Sinusoids(shots=10, queries=10), 25, seed=3)
    for number in range(2):
        _, gradients = oracles.meta_gradient(
            oracles.mlp_forward, oracles.mean_squared_error, theta, stream.batch(number), 0.01, 1
        )
        for parameter, gradient in zip(theta, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
    weights = load_file(out / "sinusoid-maml.safetensors")
    found = [weights[key] for key, _ in mamlkit.mlp(seed=3).named_parameters()]
    assert oracles.relative_error(found, theta) < 1e-5


@pytest.mark.parametrize("name", sorted(set(recipe.RECIPES) & set(pretrained_names())))
def test_the_recorded_command_is_one_that_the_script_understands(name, monkeypatch, tmp_path):
    record = pretrained_record(name)
    arguments = shlex.split(record["command"])[3:]
    arguments[arguments.index("--out") + 1] = str(tmp_path)
    seen = []

    def pretend(outer_steps, seed):
        seen.append((outer_steps, seed))
        return mamlkit.mlp(seed=0)

    monkeypatch.setattr(sys, "argv", ["sinusoids", *arguments])
    monkeypatch.setattr(recipe, "RECIPES", dict.fromkeys(recipe.RECIPES, pretend))
    recipe.main()
    assert set(seen) == {(record["outer_steps"], record["seed"])}
    assert (tmp_path / f"{name}.safetensors").exists()


def test_a_folder_that_does_not_exist_is_refused_before_training(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["sinusoids", "--out", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as stopped:
        recipe.main()
    assert stopped.value.code == 2
    assert "expected --out to be an existing folder" in capsys.readouterr().err


def test_the_glyph_recipe_gives_the_same_weights_twice_and_keeps_its_record(monkeypatch, tmp_path, capsys):
    files = {}
    for folder, seed in (("first", "7"), ("again", "7"), ("other", "8")):
        out = tmp_path / folder
        out.mkdir()
        monkeypatch.setattr(sys, "argv", ["glyphs", "--out", str(out), "--outer-steps", "2", "--seed", seed])
        glyph_recipe.main()
        files[folder] = (out / "glyph-maml.safetensors").read_bytes()
    assert files["first"] == files["again"] != files["other"]
    record = json.loads((tmp_path / "first" / "glyph-maml.json").read_text(encoding="utf-8"))
    assert record["seed"] == 7 and record["outer_steps"] == 2
    weights = load_file(tmp_path / "first" / "glyph-maml.safetensors")
    mamlkit.conv4(record["ways"], filters=record["filters"], downsample="stride").load_state_dict(weights)


def test_the_recorded_command_of_the_glyph_weights(monkeypatch, tmp_path):
    record = pretrained_record("glyph-maml")
    program, _, module, *arguments = shlex.split(record["command"])
    assert (program, module) == ("python", glyph_recipe.__name__)
    arguments[arguments.index("--out") + 1] = str(tmp_path)
    seen = []

    def pretend(outer_steps, seed):
        seen.append((outer_steps, seed))
        return mamlkit.conv4(5, seed=0)

    monkeypatch.setattr(sys, "argv", ["glyphs", *arguments])
    monkeypatch.setattr(glyph_recipe, "train", pretend)
    glyph_recipe.main()
    assert seen == [(record["outer_steps"], record["seed"])]


def test_the_drawings_come_out_the_same_twice_with_their_record(monkeypatch, tmp_path):
    monkeypatch.setattr(glyph_drawings, "SCRIPTS", {"train": ("Hebrew",), "validation": (), "test": ("Lao",)})
    for name, seed in (("first", "7"), ("again", "7"), ("other", "8")):
        monkeypatch.setattr(sys, "argv", ["glyph_drawings", "--out", str(tmp_path / f"{name}.npz"), "--seed", seed])
        glyph_drawings.main()
    first, again, other = ((tmp_path / f"{name}.npz").read_bytes() for name in ("first", "again", "other"))
    assert first == again != other
    record = json.loads((tmp_path / "first.json").read_text(encoding="utf-8"))
    assert record["seed"] == 7 and record["sha256"] == hashlib.sha256(first).hexdigest()
    with np.load(tmp_path / "first.npz", allow_pickle=False) as arrays:
        images, names, groups = arrays["images"], arrays["names"], arrays["groups"]
    assert images.shape == (record["classes"], record["drawings"], 1, record["size"], record["size"])
    assert images.dtype == np.uint8 and len(names) == len(groups) == len(images)
    assert record["images_sha256"] == hashlib.sha256(images.tobytes()).hexdigest()
    assert len(list(tmp_path.iterdir())) == 6


def test_the_recorded_command_of_the_drawings(monkeypatch, tmp_path):
    record = json.loads((files("mamlkit") / "data" / "glyphs.json").read_text(encoding="utf-8"))
    program, _, module, *arguments = shlex.split(record["command"])
    assert (program, module) == ("python", glyph_drawings.__name__)
    where = arguments.index("--out") + 1
    assert arguments[where] == "mamlkit/data/glyphs.npz"
    arguments[where] = str(tmp_path / "glyphs.npz")
    seen, draw = [], glyph_drawings.draw_all
    monkeypatch.setattr(sys, "argv", ["glyph_drawings", *arguments])
    monkeypatch.setattr(glyph_drawings, "SCRIPTS", {"train": ("Hebrew",), "validation": (), "test": ()})
    monkeypatch.setattr(glyph_drawings, "draw_all", lambda seed: seen.append(seed) or draw(seed))
    glyph_drawings.main()
    assert seen == [record["seed"]]


@pytest.mark.parametrize("out", ["nowhere/glyphs.npz", "glyphs.png", "."])
def test_drawings_go_to_a_file_in_a_folder_that_exists(monkeypatch, tmp_path, capsys, out):
    monkeypatch.setattr(sys, "argv", ["glyph_drawings", "--out", str(tmp_path / out)])
    with pytest.raises(SystemExit) as stopped:
        glyph_drawings.main()
    assert stopped.value.code == 2
    assert "expected --out to be a file FILE.npz in an existing folder" in capsys.readouterr().err
