"""How the meta-gradient is computed where the plain way is too slow or too large. ``README.md`` says what is where."""

from mamlkit.engines.choice import ENGINES, choose_engine

__all__ = ["ENGINES", "choose_engine"]
