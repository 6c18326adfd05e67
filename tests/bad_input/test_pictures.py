"""Folders of pictures as cameras, programs and accidents make them: read, turned as they should be, or named."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

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


def test_folders_of_pictures_inside_a_class_are_named(tmp_path):
    for name in "ab":
        for number in range(2):
            picture(tmp_path / name / f"{number}.png")
    picture(tmp_path / "a" / "more" / "2.png")
    (tmp_path / "b" / "notes").mkdir()
    with pytest.warns(RuntimeWarning, match=r"left out a/more$"):
        assert folder(tmp_path).counts.tolist() == [2, 2]


def test_pictures_in_another_place_are_pointed_to(tmp_path):
    picture(tmp_path / "deep" / "train" / "a" / "0.png")
    picture(tmp_path / "flat" / "0.png")
    with pytest.raises(FileNotFoundError, match=r"found none; there are some in .*a: pass .*train$"):
        folder(tmp_path / "deep")
    with pytest.raises(FileNotFoundError, match=r"found none; 0.png lies in no class: move it to .*class.0.png$"):
        folder(tmp_path / "flat")


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


def chunk(kind, data=b"", length=None):
    length = len(data) if length is None else length
    return struct.pack(">I", length) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks)


PIXELS = chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND")
LARGE = {
    "a chunk of a gigabyte that is there": (png(8, 8) + struct.pack(">I", 1 << 30) + b"zTXt", 1 << 30, "1073741"),
    "a chunk of a gigabyte that is not": (png(8, 8, chunk(b"iCCP", length=1 << 30)), 0, ""),
    "a chunk of two gigabytes": (png(8, 8, chunk(b"eXIf", length=(1 << 31) - 1)), 0, ""),
    "a text that unpacks to a gigabyte": (
        png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26))), PIXELS), 0, ""
    ),
    "a picture of 10^8 points": (png(10000, 10000, PIXELS), 0, "exceeds limit"),
    "a picture of 4 * 10^18 points": (png(2**31 - 1, 2**31 - 1, PIXELS), 0, "exceeds limit"),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_large_parts_are_not_read(tmp_path, name):
    """What Python holds at most is measured. A sparse file takes no room on the disk."""
    data, size, reason = LARGE[name]
    for letter in "ab":
        for number in range(2):
            picture(tmp_path / letter / f"{number}.png")
    path = tmp_path / "a" / "0.png"
    path.write_bytes(data)
    if size:
        with path.open("r+b") as file:
            file.truncate(size + 100)
    tracemalloc.start()
    try:
        folder(tmp_path)
    except ValueError as error:
        assert str(error).startswith(f"expected an image that can be read, got {path}: ") and reason in str(error)
    else:
        assert not reason
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 1 << 28


@pytest.mark.parametrize("ending", ["png", "tif", "dds"])
@pytest.mark.parametrize("harm", ["whole", "cut off", "a size of 2^31", "no format"])
def test_dds_is_not_read_under_any_name(tmp_path, ending, harm):
    for letter in "ab":
        for number in range(2):
            picture(tmp_path / letter / f"{number}.png")
    path = tmp_path / "a" / f"0.{ending}"
    Image.new("RGB", (8, 8)).save(path, format="DDS")
    data = path.read_bytes()
    data = {"whole": data, "cut off": data[:100], "a size of 2^31": data[:12] + b"\xff\xff\xff\x7f" * 2 + data[20:],
            "no format": data[:84] + b"????" + data[88:]}[harm]  # fmt: skip
    path.write_bytes(data)
    if ending == "dds":
        with pytest.warns(RuntimeWarning, match=r"left out a/0\.dds$"):
            assert folder(tmp_path).counts.tolist() == [2, 2]
        return
    with pytest.raises(ValueError, match=rf"^expected an image that can be read, got .*0\.{ending}: cannot identify"):
        folder(tmp_path)


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
