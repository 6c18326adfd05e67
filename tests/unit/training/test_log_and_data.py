"""What a run writes besides tensors: a log that does not slow it down, and what the data and the threads were."""

from __future__ import annotations

import csv
import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

import mamlkit
from mamlkit.checkpoint import latest_checkpoint, load_checkpoint

OPTIONS = mamlkit.TrainingOptions(
    epochs=2, steps_per_epoch=4, meta_batch=2, validation_tasks=4, checkpoint_every=3, log_every=1
)
TASKS = mamlkit.Sinusoids(3, 3)
IMAGES = torch.randint(0, 256, (6, 4, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(seed=0):
    return mamlkit.maml(mamlkit.mlp((1, 4, 1), seed=seed), loss=F.mse_loss, inner_steps=1)


def images(pixels=IMAGES, **keywords):
    return mamlkit.ImageTasks(pixels, **{"ways": 2, "queries": 1} | keywords)


def classifier():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    return mamlkit.maml(model, inner_steps=1)


def test_a_checkpoint_is_as_large_late_as_it_is_early(tmp_path):
    sizes = []
    for epochs in (1, 40):
        options = dataclasses.replace(OPTIONS, epochs=epochs, cosine=False)
        mamlkit.fit(make(), TASKS, options=options, folder=tmp_path / str(epochs))
        sizes.append(latest_checkpoint(tmp_path / str(epochs) / "checkpoints").with_suffix(".json").stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 60  # some numbers have more digits


def test_the_log_is_written_again_and_comes_back_bit_for_bit(tmp_path):
    """Deleted, cut off in its last line, or ahead of the checkpoint after a kill."""
    history = mamlkit.fit(make(), TASKS, options=OPTIONS, validation=TASKS, folder=tmp_path)
    path = tmp_path / "curves.csv"
    whole = path.read_bytes()
    assert len(whole.splitlines()) == 9
    for text in (whole + b"9,1,0.5", whole + b"9,2,0.5,0.001,1.0,,\n10,2,"):
        path.write_bytes(text)
        again = mamlkit.fit(make(), TASKS, options=OPTIONS, validation=TASKS, folder=tmp_path, resume=True)
        assert again.rows == history.rows and path.read_bytes() == whole


@pytest.mark.parametrize("harm", ["deleted", "cut off", "edited", "another file"])
def test_a_log_that_lacks_rows_is_said(tmp_path, harm):
    history = mamlkit.fit(make(), TASKS, options=OPTIONS, folder=tmp_path)
    path = tmp_path / "curves.csv"
    lines = path.read_text().splitlines(keepends=True)
    if harm == "deleted":
        path.unlink()
    else:
        text = {
            "cut off": "".join(lines[:5]),
            "edited": "".join(lines).replace("0,", "zero,"),
            "another file": "a\0b\n\xff",
        }
        path.write_text(text[harm])
    left = 4 if harm == "cut off" else 0
    with pytest.warns(
        RuntimeWarning, match=rf"^expected the 8 rows of the learning curve up to outer step 8 in .*got {left}: "
    ):
        again = mamlkit.fit(make(), TASKS, options=OPTIONS, folder=tmp_path, resume=True)
    assert again.rows == history.rows[:left]
    with pytest.warns(RuntimeWarning, match="^expected the 8 rows"):
        longer = dataclasses.replace(OPTIONS, epochs=3)
        mamlkit.fit(make(), TASKS, options=longer, folder=tmp_path, resume=True)
    with path.open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [*range(1, left + 1), *range(9, 13)]


def test_rows_that_are_not_numbers_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mamlkit.training.evaluate", lambda *_, **__: mamlkit.Evaluation(torch.full((3, 4), math.nan), None)
    )
    with pytest.warns(RuntimeWarning, match="ranked last"):
        history = mamlkit.fit(make(), TASKS, options=OPTIONS, validation=TASKS, folder=tmp_path)
    again = mamlkit.fit(make(), TASKS, options=OPTIONS, validation=TASKS, folder=tmp_path, resume=True)
    assert str(again.rows) == str(history.rows) and "nan" in str(again.rows)


def changed(pixels):
    pixels = pixels.clone()
    pixels[5, 3, 0, 3, 3] ^= 1
    return pixels


OTHER_DATA = {
    "one bit of a pixel": lambda: images(changed(IMAGES)),
    "a class less": lambda: images(IMAGES[:5]),
    "a drawing more": lambda: images([*IMAGES[:5], torch.cat([IMAGES[5], IMAGES[:1, 0]])]),
    "classes in another order": lambda: images(IMAGES.flip(0)),
    "ways": lambda: images(ways=3),
    "queries": lambda: images(queries=2),
    "turns": lambda: images(rotations=True),
    "another kind": lambda: TASKS,
}


@pytest.mark.parametrize("split", ["training", "validation"])
@pytest.mark.parametrize("name", OTHER_DATA)
def test_data_that_has_changed_is_noticed(tmp_path, name, split):
    options = dataclasses.replace(OPTIONS, epochs=1)
    mamlkit.fit(classifier(), images(), options=options, validation=images(), folder=tmp_path)
    data = {"training": images(), "validation": images()}
    assert (
        mamlkit.fit(classifier(), images(), options=options, validation=images(), folder=tmp_path, resume=True).step
        == 4
    )
    data[split] = OTHER_DATA[name]()
    learner = classifier()
    with pytest.raises(ValueError, match=rf"^expected the run's own data, with {split}=6 classes, .*, got {split}="):
        mamlkit.fit(
            learner, data["training"], options=options, validation=data["validation"], folder=tmp_path, resume=True
        )
    assert torch.equal(learner.model[1].weight, classifier().model[1].weight)


def test_names_do_not_matter_and_a_missing_validation_does(tmp_path):
    options = dataclasses.replace(OPTIONS, epochs=1)
    mamlkit.fit(classifier(), images(), options=options, validation=images(), folder=tmp_path)
    renamed = images(mamlkit.ImageClasses.of(IMAGES, list("abcdef")))
    mamlkit.fit(classifier(), renamed, options=options, validation=images(), folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"with validation=6 classes, .*, got validation=none$"):
        mamlkit.fit(classifier(), images(), options=options, folder=tmp_path, resume=True)


def test_data_without_a_fingerprint_is_not_looked_at(tmp_path):
    class Own:
        def sample(self, num_tasks, generator):
            return TASKS.sample(num_tasks, generator)

    mamlkit.fit(make(), Own(), options=OPTIONS, folder=tmp_path)
    assert mamlkit.fit(make(), TASKS, options=OPTIONS, folder=tmp_path, resume=True).step == 8


def test_the_number_of_threads_is_recorded_and_another_one_is_said(tmp_path):
    mamlkit.fit(make(), TASKS, options=OPTIONS, folder=tmp_path)
    assert load_checkpoint(latest_checkpoint(tmp_path / "checkpoints"))[1]["threads"] == 1
    torch.set_num_threads(2)
    try:
        with pytest.warns(RuntimeWarning, match=r"^expected 1 threads, as the run had, .*, got 2$"):
            mamlkit.fit(make(), TASKS, options=OPTIONS, folder=tmp_path, resume=True)
    finally:
        torch.set_num_threads(1)
