"""The engines that tests go through one by one: all but ``compiled``, which takes half a minute and has tests of its own."""

from mamlkit import engines

ENGINES = sorted(set(engines.ENGINES) - {"compiled"})
