"""Measure a meta-step of mamlkit against a plain loop and against other libraries: time as a ratio in one run, and peak memory.

    python -m mamlkit.bench --out mamlkit/records/bench.json

Gradients come first: every implementation must give those of the plain loop, in float64 to one part in 10^8, or nothing is
timed. Then the implementations take turns in one process, so that a machine that drifts slows all of them, and a ratio is the
median of the ratios of each turn. Beside it stand how many times as long it takes as a matrix product with as many
multiplications (see ``floors``), and the error of the meta-gradient in float32. Peak memory is that of a fresh process which
takes one meta-step. Libraries that are not installed are left out. The table of errors over many seeds takes hours and is
measured on its own, with ``--errors`` (see ``precision``); a record keeps the one that it has.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mamlkit._files import write_atomically
from mamlkit.algorithms import maml
from mamlkit.bench.floors import PRODUCT_MULTIPLICATIONS, matrix_product, multiplications
from mamlkit.bench.implementations import MODES, Plain, implementations_for, learner_of, make
from mamlkit.bench.precision import CASES, column, measure_float32
from mamlkit.bench.workloads import WORKLOADS, Workload
from mamlkit.data.glyphs import glyphs
from mamlkit.evaluation import evaluate
from mamlkit.learners import Learner
from mamlkit.runs import peak_memory_mb
from mamlkit.tasks import TaskBatch, TaskStream

SHORT = ("W1", "W5", "W6", "W7")  # meta-steps of less than a second: more turns
TOLERANCE = 1e-8  # of a meta-gradient in float64, relative to the plain loop's

_PRODUCT = "matrix product"


def largest_error(implementation: str, workload: Workload, mode: str, device: str) -> float:
    """The largest relative error of a meta-gradient's tensors against the plain loop's, in float64 on a small workload."""
    small = replace(workload, tasks=2, filters=8, inner_steps=3)
    (_, found), (_, truth) = (make(i, small, mode, torch.float64, device)() for i in (implementation, "loop"))
    if found.keys() != truth.keys():
        raise ValueError(f"expected gradients for {', '.join(truth)} from {implementation}, got {', '.join(found)}")
    return max(((found[name] - value).norm() / value.norm().clamp_min(1e-30)).item() for name, value in truth.items())


def take_turns(steps: Mapping[str, Callable[[], object]], rounds: int, device: str) -> dict[str, dict[str, float]]:
    """For each, milliseconds (median) and the ratio to the first (median over rounds)."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn:  # the first warms up
                taken[name].append(time.perf_counter() - started)
    first = next(iter(taken.values()))
    return {
        name: {
            "ms": round(1e3 * statistics.median(seconds), 2),
            "ratio_to_loop": float(f"{statistics.median(a / b for a, b in zip(seconds, first, strict=True)):.4g}"),
        }
        for name, seconds in taken.items()
    }


def peak_mb(name: str, mode: str, implementation: str, inner_steps: int, device: str) -> dict[str, float]:
    """Peak memory of a fresh process that takes one meta-step, and the seconds of that step."""
    arguments = [name, mode, implementation, str(inner_steps), device]
    command = [sys.executable, "-m", "mamlkit.bench", "--peak", *arguments]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return measured


def print_peak(name: str, mode: str, implementation: str, inner_steps: str, device: str) -> None:
    """The part that runs in a fresh process."""
    workload = replace(WORKLOADS[name], inner_steps=int(inner_steps))
    step = make(implementation, workload, mode, torch.float32, device)
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.startswith("cuda") else peak_memory_mb()
    print(json.dumps({"peak_mb": round(peak, 1), "seconds": round(seconds, 2)}))


def plain_evaluation(workload: Workload, model: nn.Module, tasks: TaskBatch) -> Callable[[], object]:
    """Accuracy before adaptation and after each step, task by task, in a plain loop."""
    plain = Plain(workload, "maml", model, tasks)

    def run() -> Tensor:
        hits = []
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            current = {name: value.detach() for name, value in plain.parameters.items()}
            for k in range(plain.steps + 1):
                with torch.no_grad():
                    hits.append((plain.call(current, query_x).argmax(1) == query_y).double().mean())
                if k < plain.steps:
                    current = {name: value.requires_grad_() for name, value in current.items()}
                    inner = plain.loss(plain.call(current, support_x), support_y)
                    slopes = torch.autograd.grad(inner, list(current.values()))
                    pairs = zip(current.items(), slopes, strict=True)
                    current = {name: (value - plain.fixed * slope).detach() for (name, value), slope in pairs}
        return torch.stack(hits).view(len(tasks.query_x), -1).mT  # (steps + 1, tasks)

    return run


def measure_evaluation(device: str) -> list[dict[str, Any]]:
    """600 tasks of W5's shape, evaluated."""
    workload = replace(WORKLOADS["W5"], tasks=600)
    tasks = workload.batch(torch.float32).to(device)
    learner = learner_of(workload, "maml", workload.model().to(device), "auto")
    plain = plain_evaluation(workload, workload.model().to(device), tasks)
    found = evaluate(learner, tasks).accuracies
    truth = plain()
    assert isinstance(truth, Tensor) and found is not None
    if (found.to(truth) - truth).abs().mean() > 0.01:  # single hits may differ by rounding
        raise ValueError("expected the accuracies of the plain loop, got others")
    times = take_turns({"loop": plain, "mamlkit": lambda: evaluate(learner, tasks)}, 1, device)
    return [
        {"workload": "600 tasks of W5", "mode": "evaluation", "implementation": i, "inner_steps": 5, **row}
        for i, row in times.items()
    ]


def measure_loading() -> dict[str, float]:
    """Milliseconds to draw a meta-batch of W5 from glyphs, and to take the meta-step."""
    stream = TaskStream(glyphs("train", ways=5, shots=1, queries=1, rotations=True), WORKLOADS["W5"].tasks)
    step = make("mamlkit", WORKLOADS["W5"], "maml", torch.float32, "cpu")
    times = take_turns({"step": step, "draw": lambda: stream.batch(stream.position)}, 5, "cpu")
    return {"draw_ms": times["draw"]["ms"], "share_of_a_step": times["draw"]["ratio_to_loop"]}


def measure_precision(device: str) -> dict[str, Any]:
    """W5 in bfloat16: how far its meta-gradient is from that in float64, beside float32's, and how much time it takes."""
    workload = WORKLOADS["W5"]
    found: dict[str, Callable[[], Tensor]] = {}
    for name, dtype, autocast in (
        ("float32", torch.float32, None),
        ("bfloat16", torch.float32, torch.bfloat16),
        ("float64", torch.float64, None),
    ):
        learner = maml(workload.model().to(device, dtype), inner_lr=workload.inner_lr, autocast=autocast)
        found[name] = partial(_gradient, learner, workload.batch(dtype).to(device))
    truth = found.pop("float64")()
    error = {f"error_{name}": ((run().double() - truth).norm() / truth.norm()).item() for name, run in found.items()}
    return {**error, "ratio_bfloat16_to_float32": take_turns(found, 3, device)["bfloat16"]["ratio_to_loop"]}


def _gradient(learner: Learner, tasks: TaskBatch) -> Tensor:
    learner.zero_grad(set_to_none=True)
    learner.meta_backward(tasks)
    return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


def measure(names: Sequence[str], rounds: int, device: str, memory: bool) -> list[dict[str, Any]]:
    """The rows of the table."""
    rows = []
    for name in names:
        for mode in MODES:
            chosen = implementations_for(name)
            for implementation in chosen[1:]:
                error = largest_error(implementation, WORKLOADS[name], mode, device)
                if not error < TOLERANCE:
                    raise ValueError(
                        f"expected {implementation} to give the meta-gradient of {name} within {TOLERANCE}, got {error}"
                    )
            workload = WORKLOADS[name]
            steps: dict[str, Callable[[], object]] = {i: make(i, workload, mode, torch.float32, device) for i in chosen}
            steps[_PRODUCT] = partial(matrix_product, device)
            times = take_turns(steps, 5 * rounds if name in SHORT else rounds, device)
            floor = times.pop(_PRODUCT)["ratio_to_loop"] * multiplications(workload, mode) / PRODUCT_MULTIPLICATIONS
            errors = column(name, mode, chosen, device)
            for implementation, taken in times.items():
                row: dict[str, Any] = {"workload": name, "mode": mode, "implementation": implementation}
                row |= {"inner_steps": workload.inner_steps, **taken}
                row["floors"] = float(f"{taken['ratio_to_loop'] / floor:.3g}")
                row["float32_error"], row["peak_mb"] = errors[implementation], None
                if memory:
                    row["peak_mb"] = peak_mb(name, mode, implementation, workload.inner_steps, device)["peak_mb"]
                rows.append(row)
                print_row(rows[-1])
    return rows


def measure_inner_steps(device: str) -> list[dict[str, Any]]:
    """W4 with few and many inner steps: how memory grows with K. Seconds are those of one step in a fresh process."""
    rows: list[dict[str, Any]] = []
    for inner_steps in (1, 50):
        base = None
        for implementation in ("loop", "mamlkit", "mamlkit-lean"):
            found = peak_mb("W4", "maml", implementation, inner_steps, device)
            base = base or found["seconds"]
            row: dict[str, Any] = {"workload": "W4", "mode": "maml", "implementation": implementation}
            row |= {
                "inner_steps": inner_steps,
                "ms": 1e3 * found["seconds"],
                "ratio_to_loop": round(found["seconds"] / base, 4),
            }
            rows.append(row | {"peak_mb": found["peak_mb"]})
            print_row(rows[-1])
    return rows


def print_row(row: Mapping[str, Any]) -> None:
    """Print one line of the table."""
    memory = f"{row['peak_mb']:8.0f} MB" if row.get("peak_mb") else ""
    error = f"error {row['float32_error']:7.1e}" if "float32_error" in row else ""
    floors = f"{row['floors']:6.3g} floors" if "floors" in row else ""
    where = f"{row['workload']:16} {row['mode']:10} K={row['inner_steps']:<3} {row['implementation']:17}"
    print(f"{where} {row['ms']:10.1f} ms  ratio {row['ratio_to_loop']:6.3f} {floors} {error} {memory}", flush=True)


def describe_machine(device: str) -> dict[str, Any]:
    """What a reader has to know about the machine to compare."""
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = model[0] if model else processor
    if device.startswith("cuda"):
        processor = torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability()
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "simd": capability,
        **versions,
    }


def measure_errors(
    machine: Mapping[str, Any], cases: Sequence[str], before: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The errors in float32, as they stand in the record; rows of other cases, measured before, stay."""
    rows = [*(row for row in before if row["case"] not in cases), *measure_float32(cases)]
    return {"machine": machine, "rows": sorted(rows, key=lambda row: list(CASES).index(row["case"]))}


def measure_all(
    names: Sequence[str], rounds: int, device: str, quick: bool, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The record of a whole run, or, of a quick one, only of times; the table of errors is that of the record before."""
    rows = measure(names, rounds, device, memory=not quick)
    record: dict[str, Any] = {
        "command": "make bench",
        "machine": describe_machine(device),
        "rounds": rounds,
        "rows": rows,
    }
    if quick:
        return record
    rows += measure_inner_steps(device)
    rows += (evaluated := measure_evaluation(device))
    for row in evaluated:
        print_row(row)
    if before and "float32" in before:
        record["float32"] = before["float32"]
    record["loading"], record["precision"] = measure_loading(), measure_precision(device)
    print(record["loading"], record["precision"])
    return record


def main() -> None:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where to write the JSON; nothing is written without it")
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS), help="these workloads")
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help=f"turns of each implementation (five times as many for {', '.join(SHORT)})",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="times only: no memory, no evaluation, no K = 50")
    parser.add_argument(
        "--errors",
        nargs="*",
        choices=list(CASES),
        metavar="CASE",
        help=f"only the table of float32 errors, into the record of --out: all of it, or of {', '.join(CASES)}",
    )
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(*options.peak)
        return
    if options.rounds < 1:
        parser.error(f"expected --rounds of at least 1, got {options.rounds}")
    if options.out is not None and not options.out.parent.is_dir():
        parser.error(f"expected --out to name a file in a folder that exists, got {options.out}")
    if options.errors is not None and options.out is not None and not options.out.is_file():
        parser.error(f"expected --out to name a record that --errors can add to, got {options.out}")
    if options.errors is not None:
        record = {} if options.out is None else json.loads(options.out.read_text(encoding="utf-8"))
        before = record.get("float32", {}).get("rows", [])
        record["float32"] = measure_errors(describe_machine("cpu"), options.errors or list(CASES), before)
    else:
        there = options.out is not None and options.out.is_file()
        before = json.loads(options.out.read_text(encoding="utf-8")) if there else None
        record = measure_all(options.only, options.rounds, options.device, options.quick, before)
    if options.out is not None:
        write_atomically(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
