"""Draw the characters that ship as ``mamlkit.glyphs``: 20 random drawings of each, from matplotlib's fonts.

    python -m mamlkit.recipes.glyph_drawings --out mamlkit/data/glyphs.npz

The file holds ``images``, uint8 ``(classes, 20, 1, 28, 28)`` with ink 255, and for each class its character in ``names`` and its
script in ``groups``. Other versions of Pillow, matplotlib and torch, and other processors, round a few pixels to the next grey
level: that is why the drawings ship. The fonts are DejaVu (Bitstream Vera licence) and STIX (SIL Open Font License 1.1).
"""

from __future__ import annotations

import argparse
import hashlib
import math
import platform
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
import PIL
import torch
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageFont, features
from torch import Tensor
from torch.nn import functional as F

from mamlkit._version import versions
from mamlkit.data.cache import Cached
from mamlkit.data.glyphs import SCRIPTS
from mamlkit.recipes.shipping import save_arrays

_BLOCKS = {
    "Latin": ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x2AF)),
    "Cyrillic": ((0x400, 0x52F),),
    "Greek": ((0x370, 0x3E1), (0x3F0, 0x3FF)),
    "Canadian syllabics": ((0x1401, 0x166C),),
    "Arabic": ((0x621, 0x64A),),
    "Hebrew": ((0x5D0, 0x5EA),),
    "Lao": ((0xE81, 0xEAE), (0xEB0, 0xEB0), (0xEC0, 0xEC4), (0xEDC, 0xEDF)),
    "N'Ko": ((0x7CA, 0x7EA),),
    "Georgian": ((0x10A0, 0x10FF), (0x2D00, 0x2D2D)),
    "Armenian": ((0x531, 0x587),),
    "Tifinagh": ((0x2D30, 0x2D67),),
}
# A consonant and one short vowel: the others add dots that nobody can see in 28 x 28 pixels.
_SYLLABLE = re.compile(
    r"CANADIAN SYLLABICS (CARRIER |SAYISI |BLACKFOOT |NUNAVIK )?(?!\w*W[AEIO])[A-Z]*(?<![AEIO])[AEIO]U?"
)
_FACES = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
)
_SIZE, _DRAWINGS = 28, 20
_FINE = 2 * _SIZE  # drawings are made at twice the size and then averaged down
_EXTENT = 40  # the longer side of an outline, in fine pixels, before it is changed at random
_ALIKE = 0.93  # cosine between two softened outlines from which they count as the same


def fingerprint() -> str:
    """Of all that the drawings of a seed depend on and that is known: another recipe or font renderer makes others."""
    recipe = hashlib.sha256(Path(__file__).read_bytes())
    recipe.update(f"{SCRIPTS} {matplotlib.__version__} {PIL.__version__} {torch.__version__}".encode())
    return recipe.hexdigest()[:16]


@contextmanager
def _float32() -> Iterator[None]:
    """Whatever torch's default type is: in a different one the random numbers would differ, and with them the drawings."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@_float32()
def draw_all(seed: int) -> Cached:
    """Every drawing of every character: ``images``, uint8 ``(classes, 20, 1, 28, 28)``; ``names`` and ``groups`` as notes."""
    faces = [_Face(name) for name in _FACES]
    characters = _characters(faces[0])
    outlines, owner = [], []  # every outline of every character
    for number, (character, _) in enumerate(characters):
        for face in faces:
            outline = face.outline(character)
            if outline is not None:
                outlines.append(outline)
                owner.append(number)
    canvas = torch.stack([_centred(outline, _FINE) for outline in outlines])  # (outlines, fine, fine)
    extents = torch.tensor([[outline.shape[1], outline.shape[0]] for outline in outlines])  # (outlines, 2), in x and y
    generator = torch.Generator().manual_seed(seed)
    which = _outline_of_each_drawing(torch.tensor(owner), len(characters), generator)  # (classes * drawings,)
    parts = [_draw(canvas[part], extents[part], generator) for part in which.split(1024)]
    images = torch.cat(parts).view(len(characters), _DRAWINGS, 1, _SIZE, _SIZE)
    names, groups = zip(*characters, strict=True)
    return Cached({"images": images}, {"names": names, "groups": groups})


class _Face:
    """One font file: the outlines of its characters, and which characters it has."""

    def __init__(self, name: str) -> None:
        self.path = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf")
        self.has = FT2Font(self.path).get_charmap()
        self.font = ImageFont.truetype(self.path, 64, layout_engine=ImageFont.Layout.BASIC)

    def outline(self, character: str) -> Tensor | None:
        """Ink in [0, 1], cut to the ink, ``(height, width)``, the longer side ``_EXTENT``; None where the face lacks it."""
        if ord(character) not in self.has:
            return None
        mask = self.font.getmask(character)
        image = Image.frombytes("L", mask.size, bytes(mask))
        box = image.getbbox()
        if box is None:
            return None
        width, height = box[2] - box[0], box[3] - box[1]
        scale = _EXTENT / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        resized = image.resize(size, Image.Resampling.BILINEAR, box=box)
        return torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8).view(size[1], size[0]) / 255


def _characters(face: _Face) -> list[tuple[str, str]]:
    """The characters and their scripts, without accented letters and without those that look like an earlier one."""
    found, looks = [], []
    for script in (script for split in SCRIPTS.values() for script in split):
        for begin, end in _BLOCKS[script]:
            for character in map(chr, range(begin, end + 1)):
                if unicodedata.category(character) not in ("Lu", "Ll", "Lo") or unicodedata.decomposition(character):
                    continue
                if script == "Canadian syllabics" and not _SYLLABLE.fullmatch(unicodedata.name(character, "")):
                    continue
                outline = face.outline(character)
                if outline is not None:
                    found.append((character, script))
                    looks.append(_centred(outline, 48))
    soft = F.avg_pool2d(torch.stack(looks)[:, None], 2)  # (characters, 1, 24, 24)
    for _ in range(2):
        soft = F.avg_pool2d(soft, 3, 1, 1)
    soft = F.normalize(soft.flatten(1))  # (characters, 576)
    alike = (soft @ soft.T > _ALIKE).tolist()
    kept: list[int] = []
    for number in range(len(found)):
        if not any(alike[number][other] for other in kept):
            kept.append(number)
    return [found[number] for number in kept]


def _centred(outline: Tensor, size: int) -> Tensor:
    height, width = outline.shape
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(outline, (left, size - width - left, top, size - height - top))  # (size, size)


def _outline_of_each_drawing(owner: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """For each class its outlines in random order, over and over until it has ``_DRAWINGS``: ``(classes * drawings,)``."""
    rows = []
    for number in range(classes):
        own = (owner == number).nonzero().squeeze(1)
        rows.append(own[torch.randperm(len(own), generator=generator)].repeat(_DRAWINGS)[:_DRAWINGS])
    return torch.cat(rows)


def _draw(outlines: Tensor, extents: Tensor, generator: torch.Generator) -> Tensor:
    """One random drawing of each outline.

    Args:
        outlines: ``(drawings, fine, fine)``.
        extents: width and height of the ink, in fine pixels, ``(drawings, 2)``.
        generator: decides.

    Returns:
        uint8 ``(drawings, 28, 28)``.
    """
    count = len(outlines)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    ink = outlines[:, None]  # (drawings, 1, fine, fine)
    bold, thin = _bolder(ink), 1 - _bolder(1 - ink)
    weight = uniform(-0.6, 1.0, 1, 1, 1)
    ink = ink + weight.clamp(min=0) * (bold - ink) - weight.clamp(max=0) * (thin - ink)

    # x' = A x + shift takes the outline to the drawing: stretch, then slant, then turn, then scale.
    angle, slant, stretch = uniform(-0.2, 0.2), uniform(-0.3, 0.3), uniform(-0.14, 0.14).exp()
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(count, 2, 2)
    shear = torch.stack([stretch, slant, torch.zeros(count), 1 / stretch], 1).view(count, 2, 2)
    matrix = turn @ shear * uniform(0.8, 1.1, 1, 1)
    reach = (matrix.abs() @ (extents / 2)[..., None]).squeeze(2)  # (drawings, 2), half width and half height
    fit = (0.4 * _FINE / reach.amax(1)).clamp(max=1)  # nothing is cut off at the edge
    matrix, reach = matrix * fit[:, None, None], reach * fit[:, None]
    room = (0.43 * _FINE - reach).clamp(max=0.1 * _FINE)
    shift = uniform(-1.0, 1.0, 2) * room * (2 / _FINE)  # (drawings, 2), in the [-1, 1] of grid_sample

    inverse = torch.linalg.inv(matrix)  # grid_sample asks where each pixel comes from
    affine = torch.cat([inverse, -inverse @ shift[..., None]], 2)  # (drawings, 2, 3)
    grid = F.affine_grid(affine, [count, 1, _FINE, _FINE], align_corners=False)  # (drawings, fine, fine, 2)
    waves = torch.arange(3)[:, None] * (torch.arange(_FINE) + 0.5) * (math.pi / _FINE)  # (3, fine)
    bend = 0.03 * torch.randn(count, 2, 3, 3, generator=generator)  # strengths of slow waves along x and along y
    bend = waves.cos().T @ bend @ waves.cos()  # (drawings, 2, fine, fine)
    drawn = F.grid_sample(ink, grid + bend.permute(0, 2, 3, 1), align_corners=False)  # (drawings, 1, fine, fine)

    soft = F.avg_pool2d(drawn, 3, 1, 1)
    drawn = F.avg_pool2d(drawn + uniform(0.0, 1.0, 1, 1, 1) * (soft - drawn), 2)  # (drawings, 1, 28, 28)
    return (drawn.squeeze(1) * 1.25 * 255).round().clamp(0, 255).to(torch.uint8)  # thin strokes stay dark


def _bolder(ink: Tensor) -> Tensor:
    """The most ink in each pixel and its neighbours: strokes grow by a pixel on either side."""
    for axis in (-2, -1):
        ink = torch.maximum(ink, torch.maximum(ink.roll(1, axis), ink.roll(-1, axis)))
    return ink


def main() -> None:
    """Draw, then write ``FILE.npz`` and the record ``FILE.json`` beside it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="file for the drawings, FILE.npz; its folder must exist"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args()
    if options.out.suffix != ".npz" or not options.out.parent.is_dir():
        parser.error(f"expected --out to be a file FILE.npz in an existing folder, got {options.out}")
    torch.set_num_threads(1)  # the same sums in the same order on every machine with these versions
    drawn, notes = draw_all(options.seed)
    images = drawn["images"].numpy()  # (classes, drawings, 1, 28, 28)
    record = {
        "command": f"python -m mamlkit.recipes.glyph_drawings {shlex.join(sys.argv[1:])}",
        "seed": options.seed,
        "classes": len(images),
        "drawings": _DRAWINGS,
        "size": _SIZE,
        "fonts": "DejaVu (Bitstream Vera licence) and STIX (SIL Open Font License 1.1), as matplotlib brings them",
        "versions": versions()
        | {"matplotlib": matplotlib.__version__, "pillow": PIL.__version__, "freetype": features.version("freetype2")},
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "images_sha256": hashlib.sha256(images.tobytes()).hexdigest(),
    }
    names, groups = (np.array(notes[key]) for key in ("names", "groups"))  # (classes,) each
    save_arrays(options.out, {"images": images, "names": names, "groups": groups}, record)


if __name__ == "__main__":
    main()
