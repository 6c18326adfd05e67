"""The benchmark compares like with like: every implementation computes the same meta-gradient, or nothing is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mamlkit.bench import __main__ as bench
from mamlkit.bench import floors, precision
from mamlkit.bench.implementations import IMPLEMENTATIONS, MODES, implementations_for, without_statistics
from mamlkit.bench.precision import CASES, PASS
from mamlkit.bench.workloads import WORKLOADS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WORKLOADS)
def test_implementations_agree(name, mode, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda program, **options: program)
    size = {"size": 16} if name == "W4" else {}
    for implementation in implementations_for(name)[1:]:
        assert bench.largest_error(implementation, replace(WORKLOADS[name], **size), mode, "cpu") < bench.TOLERANCE


def test_another_gradient_is_not_timed(monkeypatch):
    def first_order(*arguments):
        step = IMPLEMENTATIONS["mamlkit"](*arguments)
        return lambda: (lambda loss, found: (loss, {k: v * 1.001 for k, v in found.items()}))(*step())

    monkeypatch.setitem(IMPLEMENTATIONS, "wrong", first_order)
    monkeypatch.setattr(bench, "implementations_for", lambda name: ["loop", "wrong"])
    with pytest.raises(ValueError, match="expected wrong to give the meta-gradient of W1 within"):
        bench.measure(["W1"], 1, "cpu", memory=False)


def test_ratios_are_of_the_same_turn(monkeypatch):
    clock = iter([0, 9, 9, 19, *(0, 2, 2, 3), *(10, 14, 14, 16), *(20, 21, 21, 24)])  # the first turn warms up
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    found = bench.take_turns({"loop": lambda: None, "other": lambda: None}, 3, "cpu")
    assert found["loop"] == {"ms": 2000.0, "ratio_to_loop": 1.0}
    assert found["other"] == {"ms": 2000.0, "ratio_to_loop": 0.5}  # of 1/2, 2/4 and 3/1


@pytest.mark.parametrize("name", WORKLOADS)
def test_multiplications_of_a_forward_pass_are_those_that_torch_counts(name):
    workload = replace(WORKLOADS[name], tasks=1)
    points = workload.batch(torch.float32).support_x[0]
    with FlopCounterMode(display=False) as counter:
        without_statistics(workload.model())(points)
    assert counter.get_total_flops() == 2 * len(points) * sum(floors._layers(workload))


def test_multiplications_of_a_meta_step():
    once = replace(WORKLOADS["W6"], tasks=1, inner_steps=1)
    first, *others = floors._layers(once)
    support = query = 5
    maml = support * (6 * first + 9 * sum(others)) + query * (2 * first + 3 * sum(others))
    assert floors.multiplications(once, "maml") == floors.multiplications(once, "maml++") == maml
    four = replace(once, tasks=3, inner_steps=4)
    assert floors.multiplications(four, "maml++") == 12 * maml
    assert floors.multiplications(four, "maml") == 12 * maml - 9 * query * (2 * first + 3 * sum(others))


def test_peak_memory_of_a_fresh_process():
    found = bench.peak_mb("W1", "maml", "loop", 1, "cpu")
    assert 50 < found["peak_mb"] < 5000 and found["seconds"] > 0


def test_peak_memory_is_not_that_of_the_parent():
    ballast = torch.ones(2**28)  # 1 GB, more than the meta-step takes
    assert bench.peak_mb("W1", "maml", "loop", 1, "cpu")["peak_mb"] < 900 < ballast.nbytes / 2**20


def test_a_wrong_folder_is_named_before_anything_is_measured(tmp_path):
    out = str(tmp_path / "nowhere" / "bench.json")
    result = subprocess.run([sys.executable, "-m", "mamlkit.bench", "--out", out], capture_output=True, text=True)
    assert result.returncode == 2 and "expected --out to name a file in a folder that exists" in result.stderr


def test_the_record_holds_every_workload():
    record = json.loads((Path(__file__).parents[3] / "mamlkit" / "records" / "bench.json").read_text(encoding="utf-8"))
    assert {"processor", "cores", "threads", "simd", "torch", "python"} == record["machine"].keys()
    ratios = {}
    for row in record["rows"]:
        keys = {"workload", "mode", "implementation", "inner_steps", "ms", "ratio_to_loop"}
        assert keys <= row.keys() <= keys | {"peak_mb", "float32_error", "floors"}
        assert row["ms"] > 0 and row["ratio_to_loop"] > 0 and row.get("peak_mb", 1) > 0 and row.get("floors", 2) > 1
        ratios[row["workload"], row["mode"], row["implementation"], row["inner_steps"]] = row["ratio_to_loop"]
    for name, workload in WORKLOADS.items():
        steps = workload.inner_steps
        for mode in MODES:
            assert ratios[name, mode, "loop", steps] == 1
            assert {(name, mode, each, steps) for each in ("mamlkit", "higher", "torchopt")} <= ratios.keys()
    for implementation in ("loop", "mamlkit", "mamlkit-lean"):
        assert {("W4", "maml", implementation, steps) for steps in (1, 50)} <= ratios.keys()
    assert ("600 tasks of W5", "evaluation", "mamlkit", 5) in ratios
    assert {"draw_ms", "share_of_a_step"} == record["loading"].keys() and "error_bfloat16" in record["precision"]


def test_the_record_says_how_exact_each_engine_is_in_float32():
    record = json.loads((Path(__file__).parents[3] / "mamlkit" / "records" / "bench.json").read_text(encoding="utf-8"))
    errors = {(row["case"], row["inner_steps"], row["engine"]): row for row in record["float32"]["rows"]}
    for name in CASES:
        for steps in (1, 5):
            plain, *others = (errors[name, steps, engine] for engine in ("loop", "all_at_once", "recomputed"))
            assert all(1e-9 < other[part] <= 3 * plain[part] < 1e-4 for other in others for part in PASS)
            assert all(0 < other["meta_gradient"] <= 3 * plain["meta_gradient"] for other in others)


def test_errors_are_added_to_a_record_that_is_there(tmp_path, monkeypatch, capsys):
    file = tmp_path / "bench.json"
    file.write_text('{"rows": [1]}', encoding="utf-8")
    only = {"W5": precision.CASES["W5"]}
    monkeypatch.setattr(precision, "CASES", only)
    monkeypatch.setattr(bench, "CASES", only)
    monkeypatch.setattr(precision, "SEEDS", {"W5": 1})
    monkeypatch.setattr(precision, "META_SEEDS", 1)
    monkeypatch.setattr(sys, "argv", ["bench", "--errors", "--out", str(file)])
    bench.main()
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["rows"] == [1] and len(record["float32"]["rows"]) == 6
    assert capsys.readouterr().out.count("W5") == 6


def test_errors_of_one_case_leave_the_others(tmp_path, monkeypatch):
    other = {"case": "W2", "inner_steps": 1}
    file = tmp_path / "bench.json"
    file.write_text(json.dumps({"float32": {"rows": [{"case": "W5"}, other]}}), encoding="utf-8")
    monkeypatch.setattr(precision, "SEEDS", {"W5": 1})
    monkeypatch.setattr(precision, "META_SEEDS", 1)
    monkeypatch.setattr(sys, "argv", ["bench", "--out", str(file), "--errors", "W5"])
    bench.main()
    rows = json.loads(file.read_text(encoding="utf-8"))["float32"]["rows"]
    assert rows[0] == other and len(rows) == 7 and all(row["case"] == "W5" for row in rows[1:])
