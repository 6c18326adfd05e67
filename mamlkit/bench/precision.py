"""How far from float64 a computation in float32 ends up, in one pass through the network and in the meta-gradient.

Every engine gives the plain loop's numbers in float64. In float32, in which people train, equal formulas need not be equally
exact: what counts is the error beside the plain loop's own. An error is relative, of the norm over all numbers, and the truth is
the plain loop in float64 on the same float32 images and weights. An error that crosses a kink (of a ReLU, of a max-pool) makes a
much larger one in the meta-gradient, for any engine, so that single seeds are noisy there: medians over many seeds are reported.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from mamlkit.bench.implementations import make, without_statistics
from mamlkit.bench.workloads import WORKLOADS, Workload
from mamlkit.data.glyphs import glyphs
from mamlkit.engines.conv4 import Conv4AllAtOnce
from mamlkit.tasks import TaskBatch

__all__ = [
    "CASES",
    "META_SEEDS",
    "PASS",
    "SEEDS",
    "cases_of",
    "column",
    "errors_of_a_pass",
    "errors_of_the_meta_gradient",
    "measure_float32",
    "seeds_of",
]

PASS = ("outputs", "gradient", "hessian_vector")
ENGINES = {"loop": "loop", "all_at_once": "mamlkit", "recomputed": "mamlkit-lean"}
SEEDS = {"W4": 3}  # of a pass; ten of the others; its images take a second each
META_SEEDS = 80  # of a meta-gradient: kinks spread those of a pooled network over three decades
CASES: dict[str, tuple[Workload, str]] = {
    "W2": (replace(WORKLOADS["W2"], tasks=2), "noise"),
    "W3": (replace(WORKLOADS["W3"], tasks=1), "noise"),
    "W4": (replace(WORKLOADS["W4"], tasks=1), "noise"),
    "W5": (replace(WORKLOADS["W5"], tasks=4), "noise"),
    "W2 on glyphs": (replace(WORKLOADS["W2"], tasks=4, queries=5), "glyphs"),
    "W5 on glyphs": (replace(WORKLOADS["W5"], tasks=4, queries=5), "glyphs"),
}
"""Networks and images by name; few tasks, as each has an error of its own."""


def seeds_of(name: str) -> range:
    """The seeds of a case or a workload."""
    return range(SEEDS.get(name, 10))


def cases_of(name: str, seed: int) -> tuple[Workload, TaskBatch]:
    """A case with this seed's weights, and its tasks in float32."""
    workload, data = CASES[name]
    workload = replace(workload, seed=seed)
    if data == "noise":
        return workload, workload.batch(torch.float32)
    drawn = glyphs("train", ways=workload.ways, shots=workload.shots, queries=workload.queries, rotations=True)
    return workload, drawn.sample(workload.tasks, torch.Generator().manual_seed(seed))


def errors_of_a_pass(workload: Workload, tasks: TaskBatch) -> dict[str, dict[str, float]]:
    """The errors of the support outputs, of the gradient of the support loss, and of its Hessian times a random vector.

    Returns:
        For ``"plain"``, task by task, and for ``"together"``, all tasks in one call: the three errors, by the names in ``PASS``.
    """
    truth = _pass(workload, tasks, torch.float64, together=False)
    found = {name: _pass(workload, tasks, torch.float32, together=name == "together") for name in ("plain", "together")}
    return {name: {part: _error(each[part], truth[part]) for part in PASS} for name, each in found.items()}


def _pass(workload: Workload, tasks: TaskBatch, dtype: torch.dtype, *, together: bool) -> dict[str, list[Tensor]]:
    model = without_statistics(workload.model().to(dtype))
    count, x, labels = tasks.num_tasks, tasks.support_x.to(dtype), tasks.support_y
    copies = {name: value.detach().expand(count, *value.shape) for name, value in model.named_parameters()}
    copies = {name: value.clone().requires_grad_() for name, value in copies.items()}  # (tasks, *shape)
    if together:
        outputs = functional_call(Conv4AllAtOnce().network(model), copies, (x,))  # (tasks, support, ways)
    else:
        each = [functional_call(model, {n: v[t] for n, v in copies.items()}, (x[t],)) for t in range(count)]
        outputs = torch.stack(each)  # (tasks, support, ways)
    loss = torch.stack([F.cross_entropy(own, y) for own, y in zip(outputs, labels, strict=True)]).sum()  # ()
    leaves = list(copies.values())
    gradient = torch.autograd.grad(loss, leaves, create_graph=True)
    draw = torch.Generator().manual_seed(workload.seed)
    vector = [torch.randn(leaf.shape, generator=draw).to(dtype) for leaf in leaves]
    product = torch.autograd.grad(gradient, leaves, vector)
    return {"outputs": [outputs], "gradient": list(gradient), "hessian_vector": list(product)}


def errors_of_the_meta_gradient(
    workload: Workload, tasks: TaskBatch, mode: str, implementations: Sequence[str], device: str = "cpu"
) -> dict[str, float]:
    """The error of each implementation's meta-gradient, over all meta-parameters together."""

    def gradient(implementation: str, dtype: torch.dtype) -> dict[str, Tensor]:
        converted = TaskBatch(*(part.to(dtype) if part.is_floating_point() else part for part in tasks))
        return dict(make(implementation, workload, mode, dtype, device, converted)()[1])

    truth = gradient("loop", torch.float64)
    errors = {}
    for implementation in implementations:
        found = gradient(implementation, torch.float32)
        errors[implementation] = _error([found[name] for name in truth], list(truth.values()))
    return errors


def column(name: str, mode: str, implementations: Sequence[str], device: str) -> dict[str, float]:
    """The median error of each implementation's meta-gradient on a workload with two tasks; a compiled one has one seed."""
    found: dict[str, list[float]] = {}
    for seed in seeds_of(name):
        workload = replace(WORKLOADS[name], tasks=2, seed=seed)
        chosen = [i for i in implementations if seed == 0 or i != "mamlkit-compiled"]
        errors = errors_of_the_meta_gradient(workload, workload.batch(torch.float32), mode, chosen, device)
        for implementation, error in errors.items():
            found.setdefault(implementation, []).append(error)
    return {implementation: _two_digits(statistics.median(errors)) for implementation, errors in found.items()}


def measure_float32(cases: Sequence[str], inner_steps: Sequence[int] = (1, 5)) -> list[dict[str, object]]:
    """The rows of the table of errors, also printed: medians over seeds, for each case, each K and each engine."""
    rows: list[dict[str, object]] = []
    for name in cases:
        passes = [errors_of_a_pass(*cases_of(name, seed)) for seed in seeds_of(name)]
        for steps in inner_steps:
            metas = [
                errors_of_the_meta_gradient(replace(workload, inner_steps=steps), tasks, "maml", list(ENGINES.values()))
                for workload, tasks in (cases_of(name, seed) for seed in range(META_SEEDS))
            ]
            for engine, implementation in ENGINES.items():
                kind = "plain" if engine == "loop" else "together"
                row: dict[str, object] = {"case": name, "inner_steps": steps, "engine": engine}
                row |= {part: _median([each[kind] for each in passes], part) for part in PASS}
                rows.append(row | {"meta_gradient": _median(metas, implementation)})
                parts = "  ".join(f"{part} {rows[-1][part]:7.1e}" for part in (*PASS, "meta_gradient"))
                print(f"{name:14} K={steps:<2} {engine:12} {parts}", flush=True)
    return rows


def _median(errors: Sequence[Mapping[str, float]], key: str) -> float:
    return _two_digits(statistics.median(each[key] for each in errors))


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _error(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    difference, size = (
        torch.cat([part.detach().flatten() for part in parts]).norm()
        for parts in ([a.double() - b for a, b in zip(found, truth, strict=True)], truth)
    )
    return (difference / size).item()
