"""The data sources by name: the one table that a configuration and the command line read.

A source is a function of a split that gives tasks, and a line in ``SOURCES``. It is called with those options of
``mamlkit.configuration.TaskOptions`` that its signature names, and the command line refuses the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from mamlkit.data.episodes import ImageTasks
from mamlkit.data.glyphs import glyphs
from mamlkit.data.images import image_folder
from mamlkit.data.omniglot import omniglot
from mamlkit.data.sinusoids import Sinusoids

__all__ = ["SOURCES", "options_of", "sources_with"]


def folder(
    split: str,
    *,
    root: Path | None,
    image_size: int,
    colour: bool,
    fractions: tuple[float, float, float],
    ways: int,
    shots: int,
    queries: int,
    rotations: bool,
) -> ImageTasks:
    """``image_folder``, with a root that may be missing on a command line."""
    if root is None:
        raise ValueError("expected a root folder with one folder of images per class, got none")
    return image_folder(
        root,
        split,
        size=image_size,
        colour=colour,
        fractions=fractions,
        ways=ways,
        shots=shots,
        queries=queries,
        rotations=rotations,
    )


def sinusoids(split: str, *, shots: int, queries: int) -> Sinusoids:
    """``Sinusoids``, the same in every split: no two tasks are alike."""
    return Sinusoids(shots, queries)


SOURCES: dict[str, Callable[..., ImageTasks | Sinusoids]] = {
    "glyphs": glyphs,
    "omniglot": omniglot,
    "folder": folder,
    "sinusoids": sinusoids,
}
"""The sources by name: what ``--data`` offers."""


def options_of(name: str) -> set[str]:
    """What the signature of a source names."""
    return set(inspect.signature(SOURCES[name]).parameters)


def sources_with(option: str) -> list[str]:
    """The names of the sources that take an option."""
    return [name for name in SOURCES if option in options_of(name)]
