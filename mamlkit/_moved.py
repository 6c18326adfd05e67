"""Old addresses. Modules that moved into a room are still found where they were: ``from mamlkit.sinusoids import Sinusoids``."""

from __future__ import annotations

import importlib
import sys

__all__ = ["MOVED", "NAMES", "keep_old_addresses"]

MOVED = {
    "adjoint": "engines.adjoint",
    "batched_conv4": "engines.conv4.grouped",
    "cache": "data.cache",
    "compiling": "engines.compiled",
    "episodes": "data.episodes",
    "first_block": "engines.conv4.first_block",
    "fused_block": "engines.conv4.block",
    "glyphs": "data.glyphs",
    "images": "data.images",
    "omniglot": "data.omniglot",
    "patches": "engines.conv4.strided",
    "sinusoids": "data.sinusoids",
    "validation": "arguments",
}
NAMES = (  # what the second module exports used to be in the first
    ("learners", "algorithms"),
    ("meta_gradient", "engines"),
    ("functional", "randomness"),
    ("functional", "watches"),
)


def keep_old_addresses() -> None:
    """Give each module its old name too; ``mamlkit.glyphs`` and ``mamlkit.omniglot`` stay functions."""
    package = sys.modules["mamlkit"]
    for old, new in MOVED.items():
        module = importlib.import_module(f"mamlkit.{new}")
        sys.modules[f"mamlkit.{old}"] = module
        vars(package).setdefault(old, module)
    for old, new in NAMES:
        module = importlib.import_module(f"mamlkit.{new}")
        vars(sys.modules[f"mamlkit.{old}"]).update({name: getattr(module, name) for name in module.__all__})
