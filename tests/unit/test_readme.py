"""The README's lines run."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import mamlkit

ROOT = Path(__file__).resolve().parents[2]


def test_five_lines(monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in source.splitlines() if line.strip()]) == 5
    endless = mamlkit.TaskStream.__iter__
    monkeypatch.setattr(mamlkit.TaskStream, "__iter__", lambda stream: itertools.islice(endless(stream), 3))
    names: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), names)
    assert isinstance(names["loss"], float) and 0 < names["loss"] < 100


def test_paths_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    local = re.findall(r"\]\((?!https?:)([^)#]+)\)", text) + re.findall(r"^\| `([\w./]+)` \|", text, re.MULTILINE)
    assert len(local) > 5
    for path in local:
        assert (ROOT / path).exists(), path
