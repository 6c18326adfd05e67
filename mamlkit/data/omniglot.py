"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake et al., 2015, doi:10.1126/science.aab3050).

There are two ways to split the characters, and they give different numbers:

- ``protocol="alphabets"``: the published archives. Training and validation alphabets are from ``images_background``, test
  alphabets are those of ``images_evaluation``; no alphabet is in two splits.
- ``protocol="characters"``: 1,150 / 50 / 423 characters of all 1,623 in random order, as the MAML++ paper has it
  (Antoniou et al., 2019, arXiv:1810.09502); a test character may have neighbours of its alphabet in training.

Ink is 1 and paper is 0. The drawings of 105 x 105 pixels are averaged down to 28 x 28.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from io import FileIO
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image

from mamlkit.arguments import expect_kind, expect_one_of, expect_seed, expect_switch
from mamlkit.data.cache import Cached, cache_folder, cached
from mamlkit.data.episodes import FewShot, ImageClasses, ImageTasks, for_split

__all__ = ["omniglot"]

# Characters and alphabets in each published archive, and the md5 of the published file.
_ARCHIVES = {
    "images_background": (964, 30, "68d2efa1b9178cc56df9314c21c6e718"),
    "images_evaluation": (659, 20, "6b91aef0f799c5bb55b94e3f2daec811"),
}
_ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_LARGEST = 1 << 16  # bytes of a drawing: those of Omniglot have a few hundred
_DRAWINGS, _SIZE, _ORIGINAL = 20, 28, 105
# Which share of new pixel i lies in old pixel j, along one axis: (28, 105).
_EDGES = np.arange(_SIZE + 1) * (_ORIGINAL / _SIZE)
_COVER = np.diff((_EDGES[:, None] - np.arange(_ORIGINAL)).clip(0, 1), axis=0).astype(np.float32) * (_SIZE / _ORIGINAL)
_VALIDATION_ALPHABETS = 5
_CHARACTER_SPLIT = {"train": slice(0, 1150), "validation": slice(1150, 1200), "test": slice(1200, 1623)}
_DRAWING = re.compile(r"(?:.*/)?([^/]+)/(character\d+)/(\d+_\d+\.png)")


def omniglot(
    split: str = "train",
    *,
    protocol: str = "alphabets",
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    rotations: bool = False,
    seed: int = 0,
) -> ImageTasks:
    """Tasks on the characters of one split.

    The result's ``classes`` hold the drawings ``(images, 1, 28, 28)``, 20 a character, with ``"Alphabet/characterNN"`` as
    ``names`` and the alphabets as ``groups``.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        protocol: ``"alphabets"`` or ``"characters"``, see the module.
        root: the folder that holds ``images_background.zip`` and ``images_evaluation.zip``, or these archives unpacked, or a
            folder ``omniglot`` with them. When not given: the folder that the environment variable ``MAMLKIT_DATA`` names, or
            else the place of an earlier download.
        download: if the published archives (about 15 MB) are not found, fetch them into ``root``, or else into mamlkit's cache
            folder.
        ways: classes per task.
        shots: support images per class.
        queries: query images per class.
        rotations: in training, count each quarter turn of a character as a class of its own. Other splits never turn.
        seed: decides the split: which alphabets are for validation, or how the characters are shuffled.

    Raises:
        FileNotFoundError: if the data is not found; the message says how to get it.
        ValueError: if an archive is broken or is not Omniglot, or as in ``ImageTasks``.
        ConnectionError: if the download fails.
    """
    expect_one_of("split", split, tuple(_CHARACTER_SPLIT))
    expect_one_of("protocol", protocol, ("alphabets", "characters"))
    expect_switch("download", download)  # a string would count as true
    if root is not None:
        expect_kind("root", root, (str, os.PathLike))
    generator = torch.Generator().manual_seed(expect_seed("seed", seed))
    if protocol == "characters":
        parts = [_load(name, root, download) for name in _ARCHIVES]
        images = torch.cat([part.images for part in parts])
        names, groups = (sum((getattr(part, field) for part in parts), ()) for field in ("names", "groups"))
        classes = ImageClasses.of(images.unflatten(0, (len(names), -1)), names, groups)
        chosen = torch.randperm(len(classes), generator=generator)[_CHARACTER_SPLIT[split]].tolist()
    elif split == "test":
        classes = _load("images_evaluation", root, download)
        chosen = list(range(len(classes)))
    else:
        classes = _load("images_background", root, download)
        alphabets = sorted(set(classes.groups))
        order = torch.randperm(len(alphabets), generator=generator).tolist()
        held_out = {alphabets[number] for number in order[:_VALIDATION_ALPHABETS]}
        chosen = [i for i, alphabet in enumerate(classes.groups) if (alphabet in held_out) == (split == "validation")]
    few_shot: FewShot = {"ways": ways, "shots": shots, "queries": queries, "rotations": rotations}
    return ImageTasks(classes.select(chosen), **for_split(split, few_shot))


def _load(name: str, root: str | os.PathLike[str] | None, download: bool) -> ImageClasses:
    """All characters of one archive."""
    return _load_from(*_fingerprint(_find(name, root, download)), name)


@lru_cache(maxsize=4)
def _load_from(source: Path, fingerprint: str, name: str) -> ImageClasses:
    images, notes = cached(f"omniglot-2-{name}-{fingerprint}", lambda: _decode(name, source))
    return ImageClasses.of(images["images"], notes["names"], notes["groups"])


def _find(name: str, root: str | os.PathLike[str] | None, download: bool) -> Path:
    """The archive, or the folder that it was unpacked to."""
    setting = os.environ.get("MAMLKIT_DATA")
    downloaded = cache_folder() / "omniglot"
    places = [Path(root).expanduser()] if root is not None else [Path(setting).expanduser()] if setting else []
    searched = [folder for place in places for folder in (place, place / "omniglot", place / "omniglot-py")]
    for folder in [*searched, downloaded] if root is None else searched:
        if (folder / f"{name}.zip").is_file():
            return folder / f"{name}.zip"
        if (folder / name).is_dir():
            return folder / name
    if download:
        return _download(name, places[0] if root is not None else downloaded)
    looked = str(places[0]) if places else "no folder (neither root nor MAMLKIT_DATA is set)"
    raise FileNotFoundError(
        f"expected Omniglot's {name}.zip, or the folder {name} unpacked from it, looked in {looked}; set MAMLKIT_DATA or root "
        "to the folder that holds it, or fetch it with omniglot(..., download=True)"
    )


def _download(name: str, folder: Path) -> Path:
    import pooch

    try:
        path = pooch.retrieve(
            url=f"{_ADDRESS}{name}.zip",
            known_hash=f"md5:{_ARCHIVES[name][2]}",
            fname=f"{name}.zip",
            path=folder,
            progressbar=True,
        )
    except Exception as error:  # each transport has exceptions of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConnectionError(f"expected to download {_ADDRESS}{name}.zip to {folder}, got: {reason}") from error
    return Path(path)


def _fingerprint(source: Path) -> tuple[Path, str]:
    """The source, and a string that changes when its content does."""
    digest = hashlib.sha256()
    if source.is_dir():
        for path in sorted(source.glob("*/*/*.png")):
            status = path.stat()
            digest.update(f"{path.relative_to(source).as_posix()} {status.st_size} {status.st_mtime_ns}\n".encode())
    else:
        digest.update(source.read_bytes())
    return source, digest.hexdigest()[:16]


def _decode(name: str, source: Path) -> Cached:
    """Every drawing of an archive or a folder, checked for number: uint8 ``(characters, 20, 1, 28, 28)``."""
    found: dict[str, dict[str, bytes]] = {}
    try:
        for path, opened in _drawings(source):
            match = _DRAWING.fullmatch(path)
            if match and "__MACOSX" not in path:
                alphabet, character, file = match.groups()
                found.setdefault(f"{alphabet}/{character}", {})[file] = _read(opened)
    except ValueError:
        raise
    except Exception as error:  # each compression and picture format has errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"expected a sound Omniglot archive, got {source}: {reason}") from error
    names = sorted(found)
    alphabets = [character.split("/")[0] for character in names]
    _expect_counts(name, source, [len(found[character]) for character in names], len(set(alphabets)))
    pixels = b"".join(found[character][file] for character in names for file in sorted(found[character]))
    paper = torch.frombuffer(bytearray(pixels), dtype=torch.uint8)
    images = (255 - paper).view(len(names), _DRAWINGS, 1, _SIZE, _SIZE)
    return Cached({"images": images}, {"names": names, "groups": alphabets})


def _drawings(source: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Each PNG of an archive or a folder: its path, and a function that opens it."""
    if source.is_dir():
        for path in source.glob("*/*/*.png"):
            if not path.is_file() or path.stat().st_size > _LARGEST:
                raise OSError(f"{path.name} is no file of at most {_LARGEST} bytes")
            yield path.relative_to(source.parent).as_posix(), partial(FileIO, path)
        return
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".png"):
                if entry.file_size > _LARGEST:
                    raise OSError(f"{entry.filename} has {entry.file_size} bytes, more than {_LARGEST}")
                yield entry.filename, partial(archive.open, entry)


def _read(opened: Callable[[], IO[bytes]]) -> bytes:
    """28 x 28 values, paper 255 and ink 0: each the mean over the 3.75 x 3.75 pixels that it covers."""
    with opened() as file, Image.open(file, formats=("PNG",)) as image:
        if image.size != (_ORIGINAL, _ORIGINAL):
            raise ValueError(
                f"expected drawings of {_ORIGINAL} x {_ORIGINAL} pixels, got {image.width} x {image.height}"
            )
        pixels = np.asarray(image.convert("L"), dtype=np.float32)  # (105, 105)
    return (_COVER @ pixels @ _COVER.T).round().astype(np.uint8).tobytes()


def _expect_counts(name: str, source: Path, drawings: Sequence[int], alphabets: int) -> None:
    characters, expected_alphabets, _ = _ARCHIVES[name]
    wrong = [count for count in drawings if count != _DRAWINGS]
    if (len(drawings), alphabets) != (characters, expected_alphabets) or wrong:
        came = f"{len(drawings)} characters of {alphabets} alphabets"
        came += f", one of them with {wrong[0]} drawings" if wrong else ""
        raise ValueError(
            f"expected Omniglot's {name} with {characters} characters of {expected_alphabets} alphabets, "
            f"{_DRAWINGS} drawings each, got {came} in {source}"
        )
