"""Characters of many scripts, drawn from the fonts that come with matplotlib: few-shot classes that need no download.

Like Omniglot (Lake et al., 2015, doi:10.1126/science.aab3050), this set has 20 drawings of each character, and tests on scripts
that training has not seen. Unlike Omniglot, nobody drew them: a drawing is a typeface's outline that is slanted, turned,
stretched, bent, made bolder or thinner, moved and softened at random. Numbers on glyphs are not numbers on Omniglot.

The drawings of seed 0 ship with mamlkit, so that a glyph is the same image everywhere: ``mamlkit.recipes.glyph_drawings``
made them, and its record lies beside them. Other seeds are drawn on your machine by the same script.

Ink is 1 and paper is 0. A character that looks like an earlier one is left out (Greek Alpha and Cyrillic A after Latin A),
so that no test class looks like a class of training.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from io import BytesIO

import numpy as np
import torch

from mamlkit.arguments import expect_at_least, expect_one_of
from mamlkit.data.cache import cached
from mamlkit.data.episodes import FewShot, ImageClasses, ImageTasks, for_split

__all__ = ["SCRIPTS", "glyphs"]

SCRIPTS: dict[str, tuple[str, ...]] = {
    "train": ("Latin", "Cyrillic", "Greek", "Canadian syllabics", "Arabic"),
    "validation": ("Hebrew", "Lao", "N'Ko"),
    "test": ("Georgian", "Armenian", "Tifinagh"),
}
"""The scripts of each split."""


def glyphs(
    split: str = "train",
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    rotations: bool = False,
    seed: int = 0,
) -> ImageTasks:
    """Tasks on characters of the scripts of one split.

    The result's ``classes`` hold the drawings ``(images, 1, 28, 28)``, 20 a character, with the characters as ``names`` and
    their scripts as ``groups``.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        ways: classes per task.
        shots: support images per class.
        queries: query images per class.
        rotations: in training, count each quarter turn of a character as a class of its own. Other splits never turn.
        seed: of the drawings. Those of 0 ship and are the same images everywhere. Those of a different seed are made in seconds
            the first time, then kept in the cache folder; single grey levels depend on the processor and on the versions of
            Pillow, matplotlib and torch. The seed does not change which characters are in which split.

    Raises:
        ValueError: if the split is unknown, it has fewer classes than ways, shots + queries is above 20, or the file of drawings
            is damaged.
    """
    expect_one_of("split", split, tuple(SCRIPTS))
    classes = _all_glyphs(expect_at_least("seed", seed, 0))
    chosen = [number for number, script in enumerate(classes.groups) if script in SCRIPTS[split]]
    few_shot: FewShot = {"ways": ways, "shots": shots, "queries": queries, "rotations": rotations}
    return ImageTasks(classes.select(chosen), **for_split(split, few_shot))


@lru_cache(maxsize=2)
def _all_glyphs(seed: int) -> ImageClasses:
    return _shipped() if seed == 0 else _drawn_here(seed)


def _shipped() -> ImageClasses:
    folder = files("mamlkit") / "data"
    try:
        content = (folder / "glyphs.npz").read_bytes()
        sound = json.loads((folder / "glyphs.json").read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):  # one of them is missing, or the record is not one
        content, sound = b"", ""
    if hashlib.sha256(content).hexdigest() != sound:
        raise ValueError(
            "expected mamlkit/data/glyphs.npz to have the checksum in glyphs.json, got a damaged or a missing file; "
            "install mamlkit again"
        )
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        images = torch.from_numpy(arrays["images"])  # (classes, drawings, 1, 28, 28)
        return ImageClasses.of(images, arrays["names"].tolist(), arrays["groups"].tolist())


def _drawn_here(seed: int) -> ImageClasses:
    from mamlkit.recipes import glyph_drawings as recipe  # here, because what ships needs no fonts

    images, notes = cached(f"glyphs-{seed}-{recipe.fingerprint()}", lambda: recipe.draw_all(seed))
    return ImageClasses.of(images["images"], notes["names"], notes["groups"])
