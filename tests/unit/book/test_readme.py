"""The README's lines run, and its figures are those of the record."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import mamlkit
from mamlkit.bench.implementations import MODES
from mamlkit.bench.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[3]


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
    """Links are whole addresses, since PyPI shows this text too."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not re.findall(r"\]\((?!https?:|#)", text)
    local = re.findall(r"\]\(https://github\.com/[\w-]+/[\w-]+/blob/main/([^)#]+)\)", text)
    local += re.findall(r"^\| `([\w./]+)` \|", text, re.MULTILINE)
    assert len(local) > 5
    for path in local:
        assert (ROOT / path).exists(), path


def test_the_table_of_times_is_what_was_measured():
    record = json.loads((ROOT / "mamlkit" / "records" / "bench.json").read_text(encoding="utf-8"))
    keys = ("workload", "mode", "implementation", "inner_steps")
    ratio = {tuple(row[key] for key in keys): row["ratio_to_loop"] for row in record["rows"]}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (W\d)[^|]*\| (.*?) \|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(WORKLOADS)
    for name, cells in rows:
        expected = [
            " / ".join(f"{ratio[name, mode, library, WORKLOADS[name].inner_steps]:.2f}" for mode in MODES)
            for library in ("higher", "torchopt", "mamlkit")
        ]
        assert cells.split(" | ") == expected
    compiled = [f"{ratio['W1', mode, 'mamlkit-compiled', 5]:.2f}" for mode in MODES]
    assert set(compiled) == set(re.findall(r'engine="compiled"`, ([\d.]+) on W1', text))
    peaks = {r["implementation"]: r["peak_mb"] for r in record["rows"] if r["inner_steps"] == 50}
    found = re.findall(r'engine="recomputed"` peaks at (\d+) MB, the plain loop at (\d+) MB', text)
    assert found == [(f"{peaks['mamlkit-lean']:.0f}", f"{peaks['loop']:.0f}")]
