"""The command of a record that ships, given again to its recipe, which only pretends to train."""

from __future__ import annotations

import json
import shlex
import sys

import mamlkit

CHANGES = {"command", "rows", "versions"}  # from one run of a recipe to the next


def run_again(recipe, name, pretend, monkeypatch, tmp_path):
    """What the recipe writes with ``pretend`` in place of its ``train``; its settings are those of the record that ships."""
    record = mamlkit.recorded(name)
    arguments = shlex.split(record["command"])[3:]
    assert arguments[0] == "--out"
    monkeypatch.setattr(recipe, "train", pretend)
    monkeypatch.setattr(sys, "argv", [name, "--out", str(tmp_path), *arguments[2:], "--processes", "1"])
    recipe.main()
    written = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    for key in set(record) - CHANGES:
        assert written[key] == record[key], key
    return record, written
