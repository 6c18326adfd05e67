"""Smaller pictures: PNGs of 256 colours; each with its size in the page, and fetched when it is near the window, or at once if
it stands near the top."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

PICTURE = re.compile(r"<img (?P<attributes>[^>]*?)\s*/?>")
SOURCE = re.compile(r'src="(?P<source>[^"]+\.(?:png|svg))"')
BOX = re.compile(r'<svg[^>]*viewBox="0 0 (?P<width>[\d.]+) (?P<height>[\d.]+)"')


def shrink(pages: dict[Path, str]) -> None:
    """Write each PNG of the pages again where that makes it smaller, and give its element width, height and laziness."""
    sizes: dict[Path, tuple[int, int]] = {}
    for path, text in pages.items():
        top = range(text.find("<article"), end_of_top(text))
        pages[path] = PICTURE.sub(
            lambda match, path=path, top=top: sized(match, path, sizes, lazy=match.start() not in top), text
        )


def end_of_top(text: str) -> int:
    """Where the second section of a page begins: a picture before it may be what a reader sees first."""
    headings = [match.start() for match in re.finditer("<h2", text)]
    return headings[1] if len(headings) > 1 else len(text)


def sized(match: re.Match[str], page: Path, sizes: dict[Path, tuple[int, int]], *, lazy: bool) -> str:
    """The element with what a browser must know before the picture is there."""
    attributes = match["attributes"]
    source = SOURCE.search(attributes)
    file = (page.parent / source["source"]).resolve() if source else None
    if file is None or "width=" in attributes or "://" in attributes or not file.is_file():
        return match[0]
    if file not in sizes:
        sizes[file] = drawn_size(file) if file.suffix == ".svg" else with_fewer_colours(file)
    width, height = sizes[file]
    waits = ' loading="lazy"' if lazy else ""
    return f'<img {attributes} width="{width}" height="{height}"{waits} decoding="async">'


def drawn_size(file: Path) -> tuple[int, int]:
    """Width and height of an SVG, in its own units: a browser needs their ratio."""
    box = BOX.search(file.read_text(encoding="utf-8"))
    if box is None:
        raise ValueError(f"{file.name} has no viewBox from 0 0, so that a page can't keep room for it")
    return round(float(box["width"])), round(float(box["height"]))


def with_fewer_colours(file: Path) -> tuple[int, int]:
    """Width and height; the file has a palette afterwards, where that is smaller."""
    with Image.open(file) as picture:
        size, few = picture.size, None
        opaque = picture.mode == "RGB" or (picture.mode == "RGBA" and picture.getextrema()[3] == (255, 255))
        if opaque:
            few = picture.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    if few is not None:
        smaller = file.with_suffix(".palette")
        few.save(smaller, "PNG", optimize=True)
        if smaller.stat().st_size < file.stat().st_size:
            smaller.replace(file)
        else:
            smaller.unlink()
    return size
