"""Faster ways to compute the meta-gradient, and ways with less memory. ``README.md`` says what is where."""

from mamlkit.engines.choice import ENGINES, choose_engine

__all__ = ["ENGINES", "choose_engine"]
