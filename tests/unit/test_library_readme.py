"""mamlkit/README.md: what it names is there, its minutes are honest, its defaults are the defaults."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import mamlkit

PACKAGE = Path(mamlkit.__file__).parent
TEXT = (PACKAGE / "README.md").read_text(encoding="utf-8")
LINES_A_MINUTE = 10


def named(section):
    """What the rows of a section name, each as ``module.name``."""
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def found(name):
    module, *path = name.split(".")
    place = importlib.import_module(f"mamlkit.{module}")
    for part in path:
        place = getattr(place, part)
    return place.fget if isinstance(place, property) else place


@pytest.mark.parametrize("title, minutes", re.findall(r"^## (.*), (\d+) minutes", TEXT, re.MULTILINE))
def test_the_minutes_are_those_of_the_lines(title, minutes):
    section = TEXT.split(f"## {title}, ")[1].split("\n## ")[0]
    first_table = section.split("\n\n| part ")[0]
    names = named(first_table)
    lines = sum(len(inspect.getsource(found(name)).splitlines()) for name in names)
    assert len(names) >= 5 and lines / LINES_A_MINUTE == pytest.approx(int(minutes), rel=0.3)


def test_every_part_is_where_the_table_says_and_has_that_default():
    rows = re.findall(r"^\| [^|`]+ \| `([\w.]+)` \| `(\w+)` \| `(\w+)=(.*?)` \|", TEXT, re.MULTILINE)
    assert len(rows) == 6
    for place, plugged_in, name, default in rows:
        assert callable(found(place))
        taken = inspect.signature(getattr(mamlkit, plugged_in)).parameters[name]
        assert repr(taken.default) == default.replace('"', "'"), name


def test_modules_are_all_named_once():
    rest = named(TEXT.split("## The rest")[1].replace("/`", ".d`"))
    assert len(rest) == len(set(rest))
    modules = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("_")} | {"__main__.py"}
    folders = {f"{path.parent.name}.d" for path in PACKAGE.glob("*/__init__.py")}
    elsewhere = {name.split(".")[0] + ".py" for name in named(TEXT.split("## The rest")[0])}
    assert set(rest) | elsewhere == modules | folders
