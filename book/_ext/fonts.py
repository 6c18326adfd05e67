"""Fonts with no more than the characters that are used: a page waits for every byte of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont


def write_subset(source: Path, target: Path, characters: Iterable[int]) -> None:
    """Write ``source`` with these characters, given by their code points, as a WOFF file."""
    font = TTFont(source, recalcTimestamp=False)
    chosen = subset.Subsetter(subset.Options(layout_features=[], notdef_outline=True))
    chosen.populate(unicodes=characters)
    chosen.subset(font)
    font.flavor = "woff"
    font.save(target)
