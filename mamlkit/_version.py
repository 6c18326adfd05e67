"""Versions; the build reads the first one from here without importing torch."""

import platform

__version__ = "0.2.0"


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    import torch

    return {"mamlkit": __version__, "torch": torch.__version__, "python": platform.python_version()}
