"""The order of the house: who may import whom. Read from the source, imports inside functions included."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mamlkit
from mamlkit._moved import MOVED

PACKAGE = Path(mamlkit.__file__).parent
CORE = (
    "trees", "arguments", "randomness", "ties", "watches", "functional", "tasks", "step_sizes", "directions", "inner_loop",
    "outer_loss", "batch_norm", "models", "task_groups", "meta_gradient", "reptile", "learners", "implicit",
    "algorithms", "prototypes", "neighbours", "evaluation",
)  # fmt: skip
ON_TOP = ("plots", "tables", "widgets", "checking", "recipes", "bench")


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name, lazy=True):
    """Modules of mamlkit that a module imports."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & MODULES.keys()) or {node.module}
    return {module for module in found if module.split(".")[0] == "mamlkit"}


def room_of(module):
    return module.split(".")[1] if "." in module else ""


def test_the_imports_are_read():
    assert imports("mamlkit.reptile") == {"mamlkit.functional", "mamlkit.task_groups", "mamlkit.tasks"}
    assert imports("mamlkit.engines.conv4") == {"mamlkit.engines.conv4.grouped"}
    assert all(imports(name) <= MODULES.keys() for name in MODULES)  # no old address either


def test_there_is_no_circle():
    graph = {name: imports(name, lazy=False) for name in MODULES if name != "mamlkit"}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names them


@pytest.mark.parametrize("name", CORE)
def test_the_core_meets_the_core_and_the_front_of_the_engines(name):
    allowed = {f"mamlkit.{other}" for other in CORE} | ({"mamlkit.engines"} if name == "learners" else set())
    assert imports(f"mamlkit.{name}") <= allowed


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) == "engines"])
def test_engines_know_the_core_and_not_who_uses_them(name):
    users = {f"mamlkit.{user}" for user in ("learners", "algorithms", "evaluation")}
    core = {f"mamlkit.{other}" for other in CORE} - users
    assert {other for other in imports(name) if room_of(other) != "engines"} <= core


def test_conv4_is_known_to_the_choice_and_to_who_measures_its_errors():
    room = {name for name in MODULES if name.startswith("mamlkit.engines.conv4")}
    users = {name for name in MODULES if name not in room and imports(name) & room}
    assert users == {"mamlkit.engines.choice", "mamlkit.bench.precision"}
    for name in ("block", "first_block", "strided"):
        assert not imports(f"mamlkit.engines.conv4.{name}")


@pytest.mark.parametrize("room, also", [("checking", set()), ("widgets", {"mamlkit.pretrained"})])
def test_figures_and_checks_know_the_core_and_the_data(room, also):
    allowed = {f"mamlkit.{name}" for name in CORE} | also
    for name in MODULES:
        if room_of(name) == room:
            assert {other for other in imports(name) if room_of(other) not in (room, "data")} <= allowed, name


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) == "data"])
def test_data_knows_no_model_and_no_learner(name):
    others = {other for other in imports(name, lazy=False) if room_of(other) != "data"}
    assert others <= {"mamlkit.arguments", "mamlkit.tasks", "mamlkit._files"}


@pytest.mark.parametrize("name", [name for name in MODULES if name != "mamlkit" and room_of(name) not in ON_TOP])
def test_what_is_on_top_is_imported_by_nothing_below(name):
    assert not {other for other in imports(name, lazy=False) if room_of(other) in ON_TOP}


def test_nothing_imports_the_command_line():
    programs = {name for name in MODULES if name.endswith(".__main__")}
    assert not [name for name in MODULES if imports(name) & programs]


def test_a_reader_who_meets_the_core_meets_no_fast_path():
    seen, left = set(), [f"mamlkit.{name}" for name in CORE if name != "learners"]
    while left:
        name = left.pop()
        if name not in seen and name != "mamlkit.learners":
            seen.add(name)
            left += imports(name)
    assert not [name for name in seen if room_of(name) == "engines"]


def test_what_draws_is_loaded_when_it_is_asked_for():
    program = """
        import sys, mamlkit
        drawing = {"matplotlib", "ipywidgets"}
        assert not drawing & sys.modules.keys() and "plots" in dir(mamlkit)
        mamlkit.plots, mamlkit.widgets, mamlkit.checking
        assert drawing <= sys.modules.keys()
        mamlkit.plot
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert "AttributeError: module 'mamlkit' has no attribute 'plot'" in result.stderr


@pytest.mark.parametrize("old", MOVED)
def test_old_addresses_still_work(old):
    module = __import__(f"mamlkit.{old}", fromlist=["anything"])
    assert module.__name__ == f"mamlkit.{MOVED[old]}"
    if old not in mamlkit.__all__:  # mamlkit.glyphs and mamlkit.omniglot are functions
        assert getattr(mamlkit, old) is module


def test_names_that_moved_are_where_they_were():
    from mamlkit.functional import Replay, WatchedLoss
    from mamlkit.learners import maml_plus_plus
    from mamlkit.meta_gradient import ENGINES

    assert maml_plus_plus is mamlkit.maml_plus_plus and "auto" not in ENGINES
    assert Replay is mamlkit.randomness.Replay and WatchedLoss is mamlkit.watches.WatchedLoss
