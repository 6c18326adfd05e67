"""Fonts with no more than the characters that are used: a page waits for every byte of them."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

logging.getLogger("fontTools.subset").setLevel(logging.WARNING)  # a build need not tell each table that it prunes


def write_subset(source: Path, target: Path, characters: Collection[int]) -> None:
    """Write ``source`` with these characters, given by their code points, as a WOFF file.

    A font that has none of them is kept for its measures, and whole: browsers refuse one without any character.
    """
    font = TTFont(source, recalcTimestamp=False)
    if used := set(font.getBestCmap()) & set(characters):
        options = subset.Options(layout_features=[], notdef_outline=True)
        options.drop_tables.append("FFTM")  # FontForge's dates, of which the subsetter would warn
        chosen = subset.Subsetter(options)
        chosen.populate(unicodes=used)
        chosen.subset(font)
    font.flavor = "woff"
    font.save(target)
