"""The library's own ``conv4`` for many tasks in one call. ``README.md`` says what is where."""

from mamlkit.engines.conv4.grouped import CONV4_ENGINES, Conv4AllAtOnce, Conv4Recomputed, knows

__all__ = ["CONV4_ENGINES", "Conv4AllAtOnce", "Conv4Recomputed", "knows"]
