"""The reader's own images: any size and mode from a folder, arrays in both layouts, classes split without overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mamlkit.data.images import image_arrays, image_folder

SPLITS = ("train", "validation", "test")


def write_images(root, classes=10, images=4, suffix=".png", mode="RGB", sizes=((20, 20), (31, 17))):
    """One flat gray value a class."""
    for number in range(classes):
        folder = root / f"class_{number:02d}"
        folder.mkdir(parents=True)
        for image in range(images):
            value = 20 * number
            colour = {"RGB": (value,) * 3, "L": value, "RGBA": (value,) * 3 + (255,), "I;16": value * 257}[mode]
            Image.new(mode, sizes[image % len(sizes)], colour).save(folder / f"{image}{suffix}")
    return root


def arrays(classes=10, images=6, shape=(8, 8)):
    labels = np.tile(np.arange(classes), images)
    pixels = np.zeros((len(labels), *shape), dtype=np.uint8)
    pixels += (labels * 10).astype(np.uint8).reshape(-1, *[1] * len(shape))
    return pixels, labels


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".JPEG"])
def test_files_of_any_size_and_kind(tmp_path, mode, suffix):
    if suffix.lower() != ".png" and mode in ("RGBA", "I;16"):
        pytest.skip("JPEG has no such mode")
    write_images(tmp_path, mode=mode, suffix=suffix)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "class_00" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "class_00" / "._0.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not a class")
    for colour, channels in ((False, 1), (True, 3)):
        classes = image_folder(tmp_path, "all", size=12, colour=colour, queries=1).classes
        assert classes.images.shape == (40, channels, 12, 12)
        assert classes.names == tuple(f"class_{number:02d}" for number in range(10))
        for number in range(10):
            assert (classes.of_class(number).float() - 20 * number).abs().max() <= 2  # JPEG rounds


def test_what_is_transparent_is_white_and_invert_makes_ink_one(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(2):
            image = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
            image.paste((0, 0, 0, 255), (0, 0, 9, 3))
            image.save(tmp_path / name / f"{number}.png")
    plain = image_folder(tmp_path, "all", size=9, ways=2, queries=1).classes.images
    assert plain[0, 0, :, 4].tolist() == [0] * 3 + [255] * 6
    assert torch.equal(
        image_folder(tmp_path, "all", size=9, ways=2, queries=1, invert=True).classes.images, 255 - plain
    )


def test_classes_may_differ_in_number_of_images(tmp_path):
    write_images(tmp_path, classes=3, images=2)
    Image.new("L", (5, 5), 7).save(tmp_path / "class_01" / "more.png")
    tasks = image_folder(tmp_path, "all", ways=3, queries=1)
    assert tasks.classes.counts.tolist() == [2, 3, 2]
    batch = tasks.sample(50, torch.Generator().manual_seed(0))
    assert batch.query_x.shape == (50, 3, 1, 28, 28)


@given(classes=st.integers(6, 40), seed=st.integers(0, 2**40))
def test_splits_share_no_class_and_leave_none_out(classes, seed):
    images, labels = arrays(classes, images=2, shape=(2, 2))
    fractions = (0.5, 0.25, 0.25)

    def names(split):
        return image_arrays(images, labels, split, ways=2, queries=1, fractions=fractions, seed=seed).classes.names

    try:
        parts = [names(split) for split in SPLITS]
    except ValueError as error:  # a split of one class makes no task of two
        assert "of split" in str(error) and classes < 12
        return
    assert sorted(sum(parts, ())) == sorted(names("all")) == sorted(str(number) for number in range(classes))
    assert parts == [names(split) for split in SPLITS]
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * classes) <= 1


def test_the_seed_decides_the_split():
    images, labels = arrays(30)
    splits = {image_arrays(images, labels, queries=1, seed=seed).classes.names for seed in range(5)}
    assert len(splits) == 5


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1), (8, 6, 3)])
@pytest.mark.parametrize("kind", ["numpy uint8", "numpy float64", "torch uint8", "torch float32"])
def test_arrays_of_every_kind(shape, kind):
    images, labels = arrays(shape=shape)
    library, dtype = kind.split()
    given = images if dtype == "uint8" else (images / 255).astype(dtype)
    if library == "torch":
        given, labels = torch.from_numpy(given), torch.from_numpy(labels)
    classes = image_arrays(given, labels, "all", queries=1).classes
    assert classes.images.dtype == torch.uint8
    assert classes.stacked().shape == (10, 6, shape[2] if len(shape) == 3 else 1, 8, 6)
    assert all((classes.of_class(number) == 10 * number).all() for number in range(10))


def test_channels_come_first_in_a_task():
    images = np.zeros((4, 3, 3, 3), dtype=np.uint8)
    images[..., 1] = 255
    x = image_arrays(images, ["a", "a", "b", "b"], "all", ways=2, queries=1).sample(
        1, torch.Generator().manual_seed(0)
    )[0]
    assert x.shape == (1, 2, 3, 3, 3)
    assert x[0, 0, :, 0, 0].tolist() == [0.0, 1.0, 0.0]


def test_rotations_are_for_training_only():
    images, labels = arrays(20)
    counts = {
        split: image_arrays(images, labels, split, ways=2, queries=1, rotations=True) for split in (*SPLITS, "all")
    }
    assert {split: tasks.num_classes for split, tasks in counts.items()} == {
        "train": 48,
        "validation": 4,
        "test": 4,
        "all": 20,
    }
