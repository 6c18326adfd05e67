"""A meta-step by mamlkit, by a plain loop, and by other libraries; all give the same gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mamlkit.algorithms import maml, maml_plus_plus
from mamlkit.bench.workloads import Workload
from mamlkit.functional import batch_norm_layers
from mamlkit.learners import Learner
from mamlkit.tasks import TaskBatch

__all__ = ["IMPLEMENTATIONS", "MODES", "Plain", "Step", "implementations_for", "learner_of", "make"]

MODES = ("maml", "maml++")  # the last step's loss and one rate; the mean over all steps and a rate per tensor and step
Step = Callable[[], tuple[Tensor, dict[str, Tensor]]]  # -> the meta-loss and the gradients by name


def mamlkit_step(workload: Workload, mode: str, model: nn.Module, tasks: TaskBatch, engine: str = "auto") -> Step:
    """mamlkit, with this engine."""
    learner = learner_of(workload, mode, model, engine)

    def step() -> tuple[Tensor, dict[str, Tensor]]:
        learner.zero_grad(set_to_none=True)
        loss = learner.meta_backward(tasks)
        named = learner.meta_parameters()
        found = {
            n.removeprefix("model."): p.grad for n, p in named.items() if n.startswith("model.") and p.grad is not None
        }
        rates = [p.grad for n, p in named.items() if n.startswith("step_sizes.") and p.grad is not None]
        return loss, found | ({"rates": torch.stack(rates, 1)} if rates else {})

    return step


def learner_of(workload: Workload, mode: str, model: nn.Module, engine: str) -> Learner:
    """The learner that a mode stands for."""
    shared: dict[str, Any] = {"inner_steps": workload.inner_steps, "inner_lr": workload.inner_lr, "engine": engine}
    shared["loss"] = F.cross_entropy if workload.ways else F.mse_loss
    if mode == "maml":
        return maml(model, **shared)
    return maml_plus_plus(model, multi_step_loss="uniform", per_step_weights=False, **shared)


def without_statistics(model: nn.Module) -> nn.Module:
    """The same module, whose batch norm keeps no statistics from now on: it uses the batch."""
    for layer in batch_norm_layers(model).values():
        layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
    return model


class Plain:
    """What the plain loop and the peers share: a model whose batch norm uses the batch, rates, the weights of the steps."""

    def __init__(self, workload: Workload, mode: str, model: nn.Module, tasks: TaskBatch) -> None:
        without_statistics(model)
        self.model, self.tasks, self.steps, self.mode = model, tasks, workload.inner_steps, mode
        self.parameters = dict(model.named_parameters())
        shape = self.steps, len(self.parameters)
        self.rates = torch.full(shape, workload.inner_lr, dtype=tasks.query_x.dtype, device=tasks.query_x.device)
        self.rates.requires_grad_(mode == "maml++")
        last = [0.0] * (self.steps - 1) + [1.0]
        self.weights = last if mode == "maml" else [1 / self.steps] * self.steps
        self.loss = F.cross_entropy if workload.ways else F.mse_loss
        self.fixed = workload.inner_lr

    def start(self) -> dict[str, Tensor]:
        """theta, by name."""
        return {**self.parameters}

    def rate(self, step: int, number: int) -> Tensor | float:
        """The rate of a tensor in a step."""
        return self.rates[step, number] if self.mode == "maml++" else self.fixed

    def call(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """The model with these parameters."""
        return functional_call(self.model, dict(parameters), (x,))

    def collected(self, loss: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What ``backward`` has left in ``.grad``."""
        found = {name: value.grad for name, value in self.parameters.items() if value.grad is not None}
        return loss, found | ({"rates": self.rates.grad} if self.rates.grad is not None else {})

    def clear(self) -> None:
        """Drop the gradients."""
        for value in (*self.parameters.values(), self.rates):
            value.grad = None


def loop_step(workload: Workload, mode: str, model: nn.Module, tasks: TaskBatch) -> Step:
    """A plain loop: autograd through K steps, one task after the other."""
    plain = Plain(workload, mode, model, tasks)

    def step() -> tuple[Tensor, dict[str, Tensor]]:
        plain.clear()
        total = tasks.query_x.new_zeros(())
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            current, outer = plain.start(), tasks.query_x.new_zeros(())
            for k, weight in enumerate(plain.weights):
                inner = plain.loss(plain.call(current, support_x), support_y)
                slopes = torch.autograd.grad(inner, list(current.values()), create_graph=True)
                pairs = zip(current.items(), slopes, strict=True)
                current = {n: value - plain.rate(k, i) * slope for i, ((n, value), slope) in enumerate(pairs)}
                if weight:
                    outer = outer + weight * plain.loss(plain.call(current, query_x), query_y)
            (outer / tasks.num_tasks).backward()
            total += outer.detach() / tasks.num_tasks
        return plain.collected(total)

    return step


def higher_step(workload: Workload, mode: str, model: nn.Module, tasks: TaskBatch) -> Step:
    """The library ``higher`` (Grefenstette et al., 2019, arXiv:1910.01727)."""
    import higher

    plain = Plain(workload, mode, model, tasks)
    groups = [{"params": [value]} for value in plain.parameters.values()]
    optimiser = torch.optim.SGD(groups, lr=workload.inner_lr)

    def step() -> tuple[Tensor, dict[str, Tensor]]:
        plain.clear()
        total = tasks.query_x.new_zeros(())
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            with higher.innerloop_ctx(model, optimiser, copy_initial_weights=False) as (copy, inner):
                outer = tasks.query_x.new_zeros(())
                for k, weight in enumerate(plain.weights):
                    learned = {"override": {"lr": list(plain.rates[k])}} if mode == "maml++" else {}
                    inner.step(plain.loss(copy(support_x), support_y), **learned)
                    if weight:
                        outer = outer + weight * plain.loss(copy(query_x), query_y)
                (outer / tasks.num_tasks).backward()
                total += outer.detach() / tasks.num_tasks
        return plain.collected(total)

    return step


def torchopt_step(workload: Workload, mode: str, model: nn.Module, tasks: TaskBatch) -> Step:
    """The library TorchOpt (Ren et al., 2023, arXiv:2211.06934); without rates per tensor and step: put in by hand."""
    import torchopt

    plain = Plain(workload, mode, model, tasks)
    optimiser = torchopt.MetaSGD(model, lr=workload.inner_lr) if mode == "maml" else None

    def with_optimiser(task: Sequence[Tensor]) -> Tensor:
        assert optimiser is not None
        support_x, support_y, query_x, query_y = task
        for _ in plain.weights:
            optimiser.step(plain.loss(model(support_x), support_y))
        return plain.loss(model(query_x), query_y)

    def with_updates(task: Sequence[Tensor]) -> Tensor:
        support_x, support_y, query_x, query_y = task
        current, outer = plain.start(), tasks.query_x.new_zeros(())
        for k, weight in enumerate(plain.weights):
            inner = plain.loss(plain.call(current, support_x), support_y)
            slopes = torch.autograd.grad(inner, list(current.values()), create_graph=True)
            updates = {n: -plain.rate(k, i) * slope for i, (n, slope) in enumerate(zip(current, slopes, strict=True))}
            current = torchopt.apply_updates(current, updates, inplace=False)
            outer = outer + weight * plain.loss(plain.call(current, query_x), query_y)
        return outer

    def step() -> tuple[Tensor, dict[str, Tensor]]:
        plain.clear()
        total = tasks.query_x.new_zeros(())
        start = torchopt.extract_state_dict(model, by="reference", detach_buffers=True)
        state = torchopt.extract_state_dict(optimiser, by="reference") if optimiser else None
        for task in zip(*tasks, strict=True):
            outer = with_optimiser(task) if optimiser else with_updates(task)
            (outer / tasks.num_tasks).backward()
            total += outer.detach() / tasks.num_tasks
            torchopt.recover_state_dict(model, start)
            if optimiser is not None and state is not None:
                torchopt.recover_state_dict(optimiser, state)
        return plain.collected(total)

    return step


def engine_step(engine: str) -> Callable[..., Step]:
    """mamlkit with another engine than it would choose."""
    return lambda workload, mode, model, tasks: mamlkit_step(workload, mode, model, tasks, engine)


IMPLEMENTATIONS: dict[str, Callable[..., Step]] = {
    "loop": loop_step,
    "higher": higher_step,
    "torchopt": torchopt_step,
    "mamlkit": mamlkit_step,
    "mamlkit-lean": engine_step("recomputed"),
    "mamlkit-compiled": engine_step("compiled"),
}


def implementations_for(name: str) -> list[str]:
    """Those that are installed; compiling is for the small network, recomputing for the others."""
    left_out = "mamlkit-lean" if name == "W1" else "mamlkit-compiled"
    missing = {peer for peer in ("higher", "torchopt") if find_spec(peer) is None}
    return [i for i in IMPLEMENTATIONS if i != left_out and i not in missing]


def make(
    implementation: str, workload: Workload, mode: str, dtype: torch.dtype, device: str, tasks: TaskBatch | None = None
) -> Step:
    """A meta-step, ready to be taken, on the workload's own tasks or on those given, which are of that type."""
    model = workload.model().to(device=device, dtype=dtype)
    tasks = workload.batch(dtype) if tasks is None else tasks
    return IMPLEMENTATIONS[implementation](workload, mode, model, tasks.to(device))
