"""Wrong data and wrong settings: one line that says what was expected and what came."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mamlkit.data.episodes import ImageClasses, ImageTasks
from mamlkit.data.glyphs import glyphs
from mamlkit.data.images import image_arrays, image_folder
from mamlkit.data.omniglot import omniglot

OMNIGLOT = importlib.import_module("mamlkit.data.omniglot")
BYTES = torch.zeros(6, 4, 1, 3, 3, dtype=torch.uint8)  # 6 classes of 4 images
SIX, LABELS = np.zeros((24, 3, 3), dtype=np.uint8), np.arange(24) % 6


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """No data, and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAMLKIT_DATA", raising=False)
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path / "cache"))


def tasks(images=BYTES, **keywords):
    return ImageTasks(images, **{"ways": 2, "queries": 1, **keywords})


def folder(counts=(3, 3, 3), harm=None):
    """A folder of classes, and one file in it that is harmed."""
    root = Path("images")
    for number, count in enumerate(counts):
        (root / f"class_{number}").mkdir(parents=True)
        for image in range(count):
            Image.new("L", (9, 9), 50).save(root / f"class_{number}" / f"{image}.png")
    if harm is not None:
        file = root / "class_0" / "0.png"
        file.write_bytes(harm(file.read_bytes()))
    return root


def from_folder(counts=(3, 3, 3), harm=None, split="all", **keywords):
    return image_folder(folder(counts, harm), split, **{"ways": 2, "queries": 1, **keywords})


def from_arrays(images=SIX, labels=LABELS, split="all", **keywords):
    return image_arrays(images, labels, split, **{"ways": 2, "queries": 1, **keywords})


def archive(entries=(), harm=None):
    """An images_evaluation.zip with these entries, harmed."""
    Path("data").mkdir()
    file = Path("data/images_evaluation.zip")
    with zipfile.ZipFile(file, "w") as content:
        for name, data in entries:
            content.writestr(name, data)
    if harm is not None:
        file.write_bytes(harm(file.read_bytes()))
    return "data"


def png(size=105):
    Image.new("1", (size, size), 1).save("drawing.png")
    return Path("drawing.png").read_bytes()


def drawing(number=1):
    return f"images_evaluation/Tibetan/character01/0001_{number:02d}.png"


# What is called, which error, and what its one line must hold.
CASES = {
    "more ways than classes": (lambda: tasks(ways=7), ValueError, "at most the 6 classes there are, got ways=7"),
    "one way": (lambda: tasks(ways=1), ValueError, "expected ways >= 2, got 1"),
    "no shots": (lambda: tasks(shots=0), ValueError, "expected shots >= 1, got 0"),
    "no queries": (lambda: tasks(queries=0), ValueError, "expected queries >= 1, got 0"),
    "half a shot": (lambda: tasks(shots=0.5), TypeError, "expected shots to be a whole number, got float 0.5"),
    "more images than a class has": (
        lambda: tasks(shots=3, queries=2),
        ValueError,
        "at least shots + queries = 3 + 2 images in every class, got 4 in class '0' (and in 5 more classes)",
    ),
    "one class too small": (
        lambda: tasks(ImageClasses.of([*BYTES, BYTES[0, :1]], list("abcdefg"))),
        ValueError,
        "got 1 in class 'g'",
    ),
    "float images": (lambda: tasks(BYTES.float()), TypeError, "expected images as uint8 tensors"),
    "a list of arrays": (lambda: tasks([np.zeros(3)]), TypeError, "expected images as uint8 tensors"),
    "four axes": (
        lambda: tasks(BYTES[0]),
        ValueError,
        "(classes, drawings, channels, height, width), got (4, 1, 3, 3)",
    ),
    "no images": (lambda: tasks(BYTES[:0]), ValueError, "got (0, 4, 1, 3, 3)"),
    "an empty list": (lambda: tasks([]), ValueError, "got an empty list"),
    "an empty class": (lambda: tasks([BYTES[0], BYTES[0, :0]]), ValueError, "(4, 1, 3, 3), (0, 1, 3, 3)"),
    "classes of two sizes": (
        lambda: tasks([BYTES[0], BYTES[1, ..., :2]]),
        ValueError,
        "images of one size, got (1, 3, 2), (1, 3, 3)",
    ),
    "too few names": (lambda: ImageClasses.of(BYTES, ["a"]), ValueError, "got 1 names and 6 groups for 6 classes"),
    "turning what is not square": (
        lambda: tasks(BYTES[..., :2], rotations=True),
        ValueError,
        "expected square images to turn by 90 degrees, got (3, 2)",
    ),
    "no tasks": (lambda: tasks().sample(0, torch.Generator()), ValueError, "expected num_tasks >= 1, got 0"),
    "glyphs: unknown split": (
        lambda: glyphs("dev"),
        ValueError,
        "expected split to be one of 'train', 'validation', 'test'",
    ),
    "glyphs: too many ways": (
        lambda: glyphs(ways=367),
        ValueError,
        "at most the 366 classes there are, got ways=367",
    ),
    "glyphs: too many drawings": (
        lambda: glyphs(shots=10),
        ValueError,
        "10 + 15 images in every class, got 20 in class",
    ),
    "glyphs: negative seed": (lambda: glyphs(seed=-1), ValueError, "expected seed >= 0, got -1"),
    "omniglot: unknown split": (lambda: omniglot("dev"), ValueError, "expected split to be one of"),
    "omniglot: unknown protocol": (
        lambda: omniglot(protocol="vinyals"),
        ValueError,
        "expected protocol to be one of 'alphabets', 'characters', got 'vinyals'",
    ),
    "omniglot: no data": (
        lambda: omniglot(),
        FileNotFoundError,
        "(neither root nor MAMLKIT_DATA is set); set MAMLKIT_DATA or root to the folder that holds it, or fetch it with omni",
    ),
    "omniglot: no such root": (
        lambda: omniglot(root="nowhere"),
        FileNotFoundError,
        "looked in nowhere; set MAMLKIT_DATA",
    ),
    "omniglot: not a zip": (
        lambda: omniglot("test", root=archive(harm=lambda data: b"<html>404</html>")),
        ValueError,
        "expected a sound Omniglot archive, got data/images_evaluation.zip: File is not a zip file",
    ),
    "omniglot: truncated": (
        lambda: omniglot("test", root=archive([(drawing(), png())], lambda data: data[: len(data) // 2])),
        ValueError,
        "expected a sound Omniglot archive, got data/images_evaluation.zip",
    ),
    "omniglot: damaged inside": (
        lambda: omniglot("test", root=archive([(drawing(), png())], lambda data: data[:100] + b"!!!!" + data[104:])),
        ValueError,
        "expected a sound Omniglot archive, got data/images_evaluation.zip",
    ),
    "omniglot: a drawing that is none": (
        lambda: omniglot("test", root=archive([(drawing(), b"not a PNG")])),
        ValueError,
        "expected a sound Omniglot archive, got data/images_evaluation.zip: cannot identify image file",
    ),
    "omniglot: another size": (
        lambda: omniglot("test", root=archive([(drawing(), png(28))])),
        ValueError,
        "expected drawings of 105 x 105 pixels, got 28 x 28",
    ),
    "omniglot: a foreign zip": (
        lambda: omniglot("test", root=archive([("mnist/train.csv", b"1,2,3")])),
        ValueError,
        "images_evaluation with 659 characters of 20 alphabets, 20 drawings each, got 0 characters of 0 alphabets",
    ),
    "omniglot: too little in it": (
        lambda: omniglot("test", root=archive([(drawing(number), png()) for number in range(1, 20)])),
        ValueError,
        "got 1 characters of 1 alphabets, one of them with 19 drawings",
    ),
    "folder: none": (lambda: image_folder("nowhere"), FileNotFoundError, "got nowhere, which is no folder"),
    "folder: empty": (lambda: image_folder("."), FileNotFoundError, "found none"),
    "folder: without images": (
        lambda: from_folder((0, 0)),
        FileNotFoundError,
        "*.png, *.jpg, *.jpeg, *.webp, *.bmp, *.tif or *.tiff, found none",
    ),
    "folder: unknown split": (lambda: from_folder(split="dev"), ValueError, "expected split to be one of"),
    "folder: more ways than classes": (
        lambda: from_folder(split="train", ways=3),
        ValueError,
        "at most the 2 classes of split 'train', got ways=3; lower ways, or change fractions",
    ),
    "folder: too few images": (
        lambda: from_folder((3, 1, 3)),
        ValueError,
        "1 + 1 images in every class, got 1 in class 'class_1'",
    ),
    "folder: a text called PNG": (
        lambda: from_folder(harm=lambda data: b"hello"),
        ValueError,
        "expected an image that can be read, got images/class_0/0.png: cannot identify image file",
    ),
    "folder: half a PNG": (
        lambda: from_folder(harm=lambda data: data[:50]),
        ValueError,
        "expected an image that can be read, got images/class_0/0.png",
    ),
    "folder: an empty file": (
        lambda: from_folder(harm=lambda data: b""),
        ValueError,
        "expected an image that can be read, got images/class_0/0.png",
    ),
    "folder: size 0": (lambda: from_folder(size=0), ValueError, "expected size >= 1, got 0"),
    "fractions above one": (
        lambda: from_arrays(fractions=(0.6, 0.6, 0.2)),
        ValueError,
        "fractions that add up to 1, got 0.6",
    ),
    "two fractions": (lambda: from_arrays(fractions=(0.5, 0.5)), ValueError, "expected three fractions"),
    "a negative fraction": (
        lambda: from_arrays(fractions=(1.2, -0.2, 0.0)),
        ValueError,
        "expected each fraction to be",
    ),
    "a split of no class": (
        lambda: from_arrays(split="test", fractions=(0.9, 0.1, 0.0)),
        ValueError,
        "expected classes in split 'test', got none: 6 classes, fractions (0.9, 0.1, 0.0)",
    ),
    "arrays: a list": (
        lambda: from_arrays([[1, 2]]),
        TypeError,
        "expected images as a NumPy array or a tensor, got list",
    ),
    "arrays: two axes": (lambda: from_arrays(SIX[0]), ValueError, "(images, height, width, channels)"),
    "arrays: channels first": (
        lambda: from_arrays(np.zeros((24, 3, 9, 9), dtype=np.uint8)),
        ValueError,
        "got (24, 3, 9, 9)",
    ),
    "arrays: integers": (lambda: from_arrays(SIX.astype(int)), TypeError, "uint8 or floats in [0, 1], got torch.int64"),
    "arrays: floats to 255": (
        lambda: from_arrays(SIX + 255.0),
        ValueError,
        "values in [0, 1], got values from 255 to 255",
    ),
    "arrays: not a number": (lambda: from_arrays(SIX * np.nan), ValueError, "got values from nan to nan"),
    "arrays: too few labels": (
        lambda: from_arrays(labels=LABELS[:5]),
        ValueError,
        "expected one label per image, shape (24,), got labels of shape (5,)",
    ),
    "arrays: one-hot labels": (lambda: from_arrays(labels=np.eye(24)), ValueError, "got labels of shape (24, 24)"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_says_what_is_wrong(name):
    call, error, message = CASES[name]
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    text = str(caught.value)
    assert "\n" not in text and len(text) < 300
    assert message in text
