"""Folders of pictures as cameras, programs and accidents make them: read, turned as they should be, or named."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import Image

import mamlkit


def picture(path, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(path, **options)


def folder(root, **keywords):
    return mamlkit.image_folder(root, "all", **({"ways": 2, "queries": 1, "size": 8} | keywords)).classes


@pytest.mark.parametrize("ending", ["webp", "bmp", "tif", "tiff", "WEBP", "Tif", "jpeg"])
def test_kinds_of_files_that_are_read(tmp_path, ending):
    for name in "ab":
        for number in range(2):
            picture(tmp_path / name / f"{number}.{ending if name == 'a' else 'png'}")
    assert folder(tmp_path).counts.tolist() == [2, 2]


@pytest.mark.parametrize("ending", ["gif", "ppm", "ico"])
def test_what_is_left_out_is_named(tmp_path, ending):
    for name in ("a", "b", "c"):
        for number in range(2):
            picture(tmp_path / name / f"{number}.{ending if name == 'c' else 'png'}")
    picture(tmp_path / "a" / f"more.{ending}")
    with pytest.warns(RuntimeWarning, match=rf"^expected classes of .*left out c, a/more\.{ending}"):
        assert folder(tmp_path).names == ("a", "b")


def test_notes_beside_pictures_are_no_matter(tmp_path):
    for name in "ab":
        for number in range(2):
            picture(tmp_path / name / f"{number}.png")
    for note in ("a/notes.txt", "a/.hidden.gif", "list.csv"):
        (tmp_path / note).write_text("x")
    assert folder(tmp_path).counts.tolist() == [2, 2]


@pytest.mark.parametrize("kind", ["EPS", "PPM", "GIF"])
def test_no_other_format_under_a_name_that_is_read(tmp_path, kind):
    for name in "ab":
        for number in range(2):
            picture(tmp_path / name / f"{number}.png")
    picture(tmp_path / "a" / "1.png", format=kind)
    with pytest.raises(ValueError, match=r"^expected an image that can be read, got .*1\.png: cannot identify"):
        folder(tmp_path)


def exif(*entries):
    tags = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + tags + b"\0\0\0\0"


ODD_TAGS = {
    "none": (),
    "a unit as text": ((0x128, 2, 2, b"2\0\0\0"),),
    "a resolution as text": ((0x11A, 2, 3, b"72\0\0"),),
    "software as a float": ((0x131, 11, 1, b"\x3f\x80\0\0"),),
    "a date as a number": ((0x132, 4, 1, b"\0\0\0\1"),),
    "an offset beyond the file": ((0x8769, 4, 1, b"\0\1\0\0"),),
    "a fraction of nothing": ((0x11B, 5, 1, b"\0\0\0\0"),),
}


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("odd", ODD_TAGS)
def test_a_picture_is_turned_whatever_its_other_tags_are(tmp_path, odd, turn):
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:4, :4], pixels[:4, 4:], pixels[4:, :4] = 250, 170, 90
    expected = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.T,
                6: np.rot90(pixels, -1), 7: pixels[::-1, ::-1].T, 8: np.rot90(pixels)}[turn]  # fmt: skip
    for name in "ab":
        for number in range(2):
            picture(tmp_path / name / f"{number}.png")
    (tmp_path / "a" / "0.png").unlink()
    tag = (0x112, 3, 1, struct.pack(">HH", turn, 0))
    Image.fromarray(pixels).save(tmp_path / "a" / "0.jpg", exif=exif(tag, *ODD_TAGS[odd]), quality=100)
    found = folder(tmp_path).of_class(0)[0, 0]
    assert (found.int() - torch.from_numpy(expected.copy()).int()).abs().max() <= 2


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tif"])
def test_damaged_files_are_named_and_nothing_else_passes(tmp_path, ending):
    for name in "ab":
        for number in range(2):
            picture(tmp_path / name / f"{number}.png")
    path = tmp_path / "a" / f"9.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(random.integers(1, 12)):
            data[random.integers(0, len(data))] = random.integers(0, 256)
        path.write_bytes(bytes(data[: random.integers(len(data) // 2, len(data) + 1)]))
        try:
            folder(tmp_path)
        except ValueError as error:
            assert str(error).startswith(f"expected an image that can be read, got {path}") and "\n" not in str(error)
