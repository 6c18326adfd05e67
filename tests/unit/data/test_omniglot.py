"""Omniglot: counts, splits and cache on the real archives where they are; finding and refusing on small made ones."""

from __future__ import annotations

import importlib
import os
import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from mamlkit.data.omniglot import omniglot

module = importlib.import_module("mamlkit.data.omniglot")
BESIDE = Path(__file__).resolve().parents[4] / "shared" / "data"


def real_data():
    for place in filter(None, [os.environ.get("MAMLKIT_DATA"), str(BESIDE)]):
        for folder in (Path(place), Path(place) / "omniglot"):
            if all((folder / f"{name}.zip").is_file() for name in module._ARCHIVES):
                return folder
    return None


REAL = real_data()
needs_data = pytest.mark.skipif(REAL is None, reason="the Omniglot archives are not in MAMLKIT_DATA or ../shared/data")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMLKIT_CACHE", str(folder))
        module._load_from.cache_clear()
        yield folder
        module._load_from.cache_clear()


@pytest.fixture
def small(monkeypatch):
    """Archives of 7 and 3 characters stand for the real ones."""
    monkeypatch.setattr(
        module, "_ARCHIVES", {"images_background": (7, 7, "0" * 32), "images_evaluation": (3, 1, "0" * 32)}
    )
    monkeypatch.delenv("MAMLKIT_DATA", raising=False)


def png(value):
    """A drawing of 105 x 105 pixels at 1 bit each; its black rows say which it is."""
    image = Image.new("1", (105, 105), 1)
    image.paste(0, (0, 0, 105, 15 + value))
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_archive(folder, name, alphabets, characters=1, drawings=20, extra=()):
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        number = 0
        for alphabet in range(alphabets):
            for character in range(1, characters + 1):
                number += 1
                for drawing in range(1, drawings + 1):
                    path = f"{name}/Alphabet_{alphabet}/character{character:02d}/{number:04d}_{drawing:02d}.png"
                    archive.writestr(path, png(number * 5 + drawing % 2))
        for path in extra:
            archive.writestr(path, b"not a drawing")
    return folder


def write_small(folder):
    write_archive(
        folder, "images_background", 7, extra=["__MACOSX/images_background/A/character01/0001_01.png", "note.txt"]
    )
    return write_archive(folder, "images_evaluation", 1, characters=3)


@needs_data
def test_the_published_splits():
    train, validation, test = (omniglot(split, root=REAL).classes for split in ("train", "validation", "test"))
    assert (len(train) + len(validation), len(test)) == (964, 659)
    assert len(set(train.groups) | set(validation.groups)) == 30 and len(set(test.groups)) == 20
    assert not set(train.groups) & set(validation.groups)
    assert not set(test.groups) & (set(train.groups) | set(validation.groups))
    for classes in (train, validation, test):
        assert classes.stacked().shape == (len(classes), 20, 1, 28, 28)
        assert classes.images.dtype == torch.uint8
        assert 0.03 < classes.images.float().mean() / 255 < 0.15  # ink is the small part, and it is 1
        assert classes.images.flatten(1).amax(1).min() > 100


@needs_data
def test_the_papers_split_by_character():
    parts = {
        split: omniglot(split, root=REAL, protocol="characters").classes for split in ("train", "validation", "test")
    }
    assert [len(part) for part in parts.values()] == [1150, 50, 423]
    names = [name for part in parts.values() for name in part.names]
    assert len(set(names)) == 1623
    other = omniglot("train", root=REAL, protocol="characters", seed=1).classes
    assert set(other.names) != set(parts["train"].names)
    assert omniglot("train", root=REAL, protocol="characters").classes.names == parts["train"].names
    assert omniglot("train", root=REAL, protocol="characters", rotations=True).num_classes == 4600
    assert omniglot("test", root=REAL, protocol="characters", rotations=True).num_classes == 423


@needs_data
def test_a_drawing_is_the_mean_over_the_pixels_it_covers():
    classes = omniglot("test", root=REAL).classes
    number = classes.names.index("Tibetan/character05")
    with zipfile.ZipFile(REAL / "images_evaluation.zip") as archive:
        path = sorted(name for name in archive.namelist() if "/Tibetan/character05/" in name and name.endswith(".png"))[
            3
        ]
        original = Image.open(archive.open(path)).convert("L")
    ink = 1 - torch.tensor(list(original.tobytes())).view(1, 1, 105, 105) / 255.0
    # 105 = 28 * 3.75: on a grid four times as fine each new pixel covers 15 x 15.
    expected = torch.nn.functional.avg_pool2d(ink.repeat_interleave(4, 2).repeat_interleave(4, 3), 15)[0, 0]
    assert (classes.of_class(number)[3, 0] / 255.0 - expected).abs().max() <= 0.6 / 255


@needs_data
def test_the_second_load_reads_the_cache(monkeypatch):
    first = omniglot("test", root=REAL).classes
    module._load_from.cache_clear()
    monkeypatch.setattr(module, "_decode", None)  # calling it would fail
    second = omniglot("test", root=REAL).classes
    assert torch.equal(first.images, second.images) and first.names == second.names


@pytest.mark.parametrize("layout", ["archives", "omniglot", "omniglot-py", "unpacked"])
@pytest.mark.parametrize("by", ["root", "MAMLKIT_DATA"])
def test_every_layout_is_found(small, monkeypatch, tmp_path, layout, by):
    data = tmp_path / "data"
    write_small(data if layout in ("archives", "unpacked") else data / layout)
    if layout == "unpacked":
        for file in list(data.iterdir()):
            shutil.unpack_archive(file, data)
            file.unlink()
    root = data if by == "root" else None
    if by == "MAMLKIT_DATA":
        monkeypatch.setenv("MAMLKIT_DATA", str(data))
    parts = {split: omniglot(split, root=root, ways=2, queries=1).classes for split in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [2, 5, 3]  # five alphabets of the background are for validation
    assert parts["test"].names == ("Alphabet_0/character01", "Alphabet_0/character02", "Alphabet_0/character03")
    rows = parts["test"].stacked()[:, :, 0, :, 14].gt(127).sum(2)  # (3, 20), black rows
    assert (rows[0] < rows[1]).all() and (rows[1] < rows[2]).all()  # characters in order
    assert not list(data.glob("**/*.safetensors"))


def test_a_changed_archive_is_read_again(small, tmp_path):
    write_small(tmp_path)
    before = omniglot("test", root=tmp_path, ways=2, queries=1).classes
    module._ARCHIVES["images_evaluation"] = (4, 1, "")
    write_archive(tmp_path, "images_evaluation", 1, characters=4)
    assert (len(before), len(omniglot("test", root=tmp_path, ways=2, queries=1).classes)) == (3, 4)


def test_a_download_is_checked_and_used_the_next_time(small, monkeypatch, tmp_path):
    """The transport is pooch's; what is tested is where the file goes, its checksum, and that the next run finds it."""
    import pooch

    published = write_small(tmp_path / "published")
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path / "cache"))
    asked = []

    def retrieve(url, known_hash, fname, path, progressbar):
        asked.append((url, known_hash, progressbar))
        Path(path).mkdir(parents=True, exist_ok=True)
        return shutil.copy(published / fname, Path(path) / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    omniglot("test", download=True, ways=2, queries=1)
    omniglot("test", download=True, ways=2, queries=1)
    omniglot("test", ways=2, queries=1)
    assert asked == [(f"{module._ADDRESS}images_evaluation.zip", f"md5:{'0' * 32}", True)]
    assert (tmp_path / "cache" / "omniglot" / "images_evaluation.zip").is_file()
    with pytest.raises(FileNotFoundError):
        omniglot("train", ways=2, queries=1)


def test_a_failed_download_is_one_error(small, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_ADDRESS", (tmp_path / "nowhere").as_uri() + "/")
    with pytest.raises(ConnectionError, match=r"expected to download .*images_background.zip to"):
        omniglot("train", root=tmp_path / "data", download=True)
