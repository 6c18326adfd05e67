"""The reader's own images as few-shot tasks: from a folder with one folder per class, or from arrays with labels.

Classes are split, not images: training has seen no class of the test split. Inputs are in [0, 1] as in the file or the array, so
light is 1. (``invert=True`` makes dark ink on light paper 1, as in ``glyphs`` and ``omniglot``.)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mamlkit.arguments import (
    describe,
    expect_at_least,
    expect_kind,
    expect_one_of,
    expect_rate,
    expect_seed,
    expect_switch,
)
from mamlkit.data.episodes import FewShot, ImageClasses, ImageTasks, for_split

__all__ = ["image_arrays", "image_folder"]

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_FILES = ", ".join(f"*{ending}" for ending in _ENDINGS[:-1]) + f" or *{_ENDINGS[-1]}"
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # Pillow would try others: an EPS file starts Ghostscript
_LARGEST = 1 << 27  # bytes of a file
_OTHER_IMAGES = (
    ".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".ppm", ".pgm", ".pbm", ".psd", ".svg", ".ico", ".tga", ".dds", ".eps",
    ".jfif", ".raw", ".dng",
)  # fmt: skip
_SPLITS = ("train", "validation", "test", "all")


def image_folder(
    root: str | os.PathLike[str],
    split: str = "train",
    *,
    size: int = 28,
    colour: bool = False,
    invert: bool = False,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    rotations: bool = False,
    seed: int = 0,
) -> ImageTasks:
    """Tasks on the images ``root/class/*.png``, ``*.jpg``, ``*.jpeg``, ``*.webp``, ``*.bmp``, ``*.tif``, ``*.tiff``.

    A warning names folders without such an image, images of other kinds, and folders of images inside a class.

    Args:
        root: the folder that holds one folder per class. Files and folders whose names begin with a dot are skipped.
        split: ``"train"``, ``"validation"``, ``"test"``, or ``"all"`` for every class.
        size: images of any size are resized to ``size`` x ``size``; one that is not square is squeezed.
        colour: three channels (red, green and blue) instead of a grey one. What is transparent becomes white.
        invert: make dark 1 and light 0.
        fractions: which shares of the classes go to training, validation and test.
        ways: classes per task.
        shots: support images per class.
        queries: query images per class.
        rotations: in training, count each quarter turn of a class as a class of its own. Other splits never turn.
        seed: the seed of the split.

    Raises:
        FileNotFoundError: if there is no such folder, or it holds no class with an image.
        ValueError: if a file cannot be read as an image (the message names it) or has more than 2^27 bytes or about 9 * 10^7
            pixels, if the fractions do not fit, or as in ``ImageTasks``.
    """
    expect_one_of("split", split, _SPLITS)
    expect_at_least("size", size, 1)
    expect_kind("root", root, (str, os.PathLike))
    for name, switch in (("colour", colour), ("invert", invert)):
        expect_switch(name, switch)
    try:
        folder = Path(root).expanduser()
    except RuntimeError:
        raise FileNotFoundError(f"expected a folder of a user that exists, got {root}") from None
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder with one folder per class, got {folder}, which is no folder")
    places = [place for place in sorted(folder.iterdir()) if place.is_dir() and not place.name.startswith(".")]
    files = {place.name: found for place in places if (found := _image_files(place))}
    if not files:
        raise FileNotFoundError(
            f"expected images {folder}{os.sep}class{os.sep}{_FILES}, found none{_where_they_are(folder)}"
        )
    if left_out := [place.name for place in places if place.name not in files] + _others(places):
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        warnings.warn(
            f"expected classes of {', '.join(_ENDINGS)} files in {folder}, left out {', '.join(left_out[:5])}{more}",
            RuntimeWarning,
            stacklevel=2,
        )
    names = _part(list(files), split, fractions, seed)
    # Small classes are refused before thousands of files are read: a tensor of one pixel stands for each image.
    blank = [torch.zeros(len(files[name]), 1, 1, 1, dtype=torch.uint8) for name in names]
    few_shot: FewShot = {"ways": ways, "shots": shots, "queries": queries, "rotations": rotations}
    _tasks(blank, names, split, False, few_shot)
    images = [torch.stack([_read(path, size, colour) for path in files[name]]) for name in names]
    return _tasks(images, names, split, invert, few_shot)


def image_arrays(
    images: Any,
    labels: Any,
    split: str = "train",
    *,
    invert: bool = False,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    rotations: bool = False,
    seed: int = 0,
) -> ImageTasks:
    """Tasks on images in memory.

    Args:
        images: NumPy array or tensor ``(images, height, width)`` or ``(images, height, width, channels)``, uint8, or floats
            in [0, 1], which are rounded to multiples of 1/255.
        labels: the class of each image, numbers or strings, ``(images,)``.
        split: as in ``image_folder``, like the arguments that follow.
        invert: make dark 1 and light 0.
        fractions: which shares of the classes go to training, validation and test.
        ways: classes per task.
        shots: support images per class.
        queries: query images per class.
        rotations: in training, count each quarter turn of a class as a class of its own. Other splits never turn.
        seed: the seed of the split.

    Raises:
        TypeError: if the images are neither uint8 nor floats.
        ValueError: if shapes or values do not fit, or as in ``image_folder``.
    """
    expect_one_of("split", split, _SPLITS)
    pixels = _pixels(images)  # (images, channels, height, width)
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    expect_switch("invert", invert)
    try:
        given = np.asarray(labels)
    except ValueError:  # lists of several lengths
        given = np.empty(0)
    if given.shape != pixels.shape[:1]:
        raise ValueError(f"expected one label per image, shape ({len(pixels)},), got labels of shape {given.shape}")
    if given.dtype.kind not in "biufSU" or (given.dtype.kind == "f" and np.isnan(given).any()):
        raise TypeError(f"expected labels that are numbers or strings, got {describe(labels)} of {given.dtype}")
    values, numbers = np.unique(given, return_inverse=True)
    number_of = {str(value): number for number, value in enumerate(values)}
    names = _part(list(number_of), split, fractions, seed)
    label = torch.from_numpy(numbers)
    parts = [pixels[label == number_of[name]] for name in names]
    few_shot: FewShot = {"ways": ways, "shots": shots, "queries": queries, "rotations": rotations}
    return _tasks(parts, names, split, invert, few_shot)


def _part(names: list[str], split: str, fractions: Sequence[float], seed: int) -> list[str]:
    """The classes of one split, in the order of their names."""
    if len(expect_kind("fractions", fractions, (list, tuple))) != 3:
        raise ValueError(f"expected three fractions, for training, validation and test, got {len(fractions)}")
    for fraction in fractions:
        expect_rate("each fraction", fraction, zero=True)
    if abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"expected fractions that add up to 1, got {' + '.join(map(str, fractions))} = {sum(fractions):g}"
        )
    expect_seed("seed", seed)
    if split == "all":
        return names
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    ends = [round(len(names) * sum(fractions[:count])) for count in range(4)]
    begin = _SPLITS.index(split)
    chosen = [names[number] for number in sorted(order[ends[begin] : ends[begin + 1]])]
    if not chosen:
        raise ValueError(
            f"expected classes in split {split!r}, got none: {len(names)} classes, fractions {tuple(fractions)}"
        )
    return chosen


def _tasks(images: list[Tensor], names: list[str], split: str, invert: bool, few_shot: FewShot) -> ImageTasks:
    classes = ImageClasses.of([255 - tensor for tensor in images] if invert else images, names)
    few_shot = for_split(split, few_shot)
    ways = expect_at_least("ways", few_shot["ways"], 2)
    if ways > len(names) * (4 if few_shot["rotations"] else 1):
        raise ValueError(
            f"expected ways to be at most the {len(names)} classes of split {split!r}, got ways={ways}; "
            "lower ways, or change fractions"
        )
    return ImageTasks(classes, **few_shot)


def _others(places: list[Path]) -> list[str]:
    """Images of formats that are not read."""
    there = (path for place in places for path in sorted(place.iterdir()) if not path.name.startswith("."))
    return [f"{path.parent.name}/{path.name}" for path in there if _is_left_out(path)]


def _is_left_out(path: Path) -> bool:
    """An image of a format that is not read, something with an image's name that is not a file, or a folder with images."""
    ending = path.suffix.lower()
    if ending in _OTHER_IMAGES or (ending in _ENDINGS and not path.is_file()):
        return True
    return path.is_dir() and bool(_image_files(path))


def _where_they_are(folder: Path) -> str:
    """Where images are that do not lie in the folder of a class: in the folder itself, or further down."""
    if found := _image_files(folder):
        return f"; {found[0].name} lies in no class: move it to {folder / 'class' / found[0].name}"
    for place in sorted(folder.glob("*/*")):
        if place.is_dir() and not any(part.startswith(".") for part in place.parts[-2:]) and _image_files(place):
            return f"; there are some in {place}: pass {place.parent}"
    return ""


def _image_files(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS and not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def _read(path: Path, size: int, colour: bool) -> Tensor:
    """One file: uint8 ``(channels, size, size)``."""
    try:
        if (bytes_there := path.stat().st_size) > _LARGEST:  # Pillow would hold a part of a file several times
            raise ValueError(f"it has {bytes_there} bytes, more than {_LARGEST}")
        with warnings.catch_warnings(), Image.open(path, formats=_FORMATS) as file:
            # Of a damaged tag, for instance: what counts is that the pixels can be read and are not too many.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = _upright(file)
            if image.mode.startswith("I"):  # 16 bits per pixel
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("RGB" if colour else "L").resize((size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow's readers raise what they meet: struct.error, TypeError, KeyError, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"expected an image that can be read, got {path}: {reason}") from error
    return torch.from_numpy(np.array(image)).view(size, size, -1).permute(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the camera was held: EXIF tag 0x112. (``ImageOps.exif_transpose`` rewrites all tags and fails on bad ones.)"""
    try:
        turn = _TURNS.get(image.getexif().get(0x112, 1))
    except Exception:  # EXIF that cannot be read counts as none
        turn = None
    image.load()
    return image if turn is None else image.transpose(turn)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _pixels(images: Any) -> Tensor:
    """Checked images: uint8 ``(images, channels, height, width)``."""
    if not isinstance(images, (np.ndarray, Tensor)):
        raise TypeError(f"expected images as a NumPy array or a tensor, got {describe(images)}")
    if isinstance(images, np.ndarray) and images.dtype.kind not in "biufc":
        raise TypeError(f"expected images as uint8 or floats in [0, 1], got {images.dtype}")
    tensor = images.detach().cpu() if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    if tensor.ndim not in (3, 4) or 0 in tensor.shape or (tensor.ndim == 4 and tensor.shape[3] > 4):
        raise ValueError(
            "expected images of shape (images, height, width) or (images, height, width, channels) with at most 4 channels, "
            f"got {tuple(tensor.shape)}"
        )
    if tensor.is_floating_point():
        low, high = tensor.min().item(), tensor.max().item()
        if not (low >= 0 and high <= 1):  # also when one of them is not a number
            raise ValueError(f"expected float images with values in [0, 1], got values from {low:g} to {high:g}")
        tensor = (tensor * 255).round().to(torch.uint8)
    elif tensor.dtype != torch.uint8:
        raise TypeError(f"expected images as uint8 or floats in [0, 1], got {tensor.dtype}")
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)  # (images, channels, height, width)
