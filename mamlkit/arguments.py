"""One clear error, before any work: what was expected, and what came."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from mamlkit.trees import Tree, each, first, joined, leaves, mapped, named_leaves, same_form

__all__ = [
    "expect_at_least",
    "expect_device",
    "expect_fraction",
    "expect_model",
    "expect_one_of",
    "expect_points",
    "expect_rate",
    "expect_same_tasks",
    "expect_tensors",
    "tensors_of_tasks",
]


Kind = TypeVar("Kind")


def expect_at_least(name: str, value: int, minimum: int) -> int:
    """A whole number no smaller than ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} to be a whole number, got {describe(value)}")
    if value < minimum:
        raise ValueError(f"expected {name} >= {minimum}, got {value}")
    return value


def expect_rate(name: str, value: float, *, zero: bool = False) -> float:
    """A finite positive number (``zero=True`` lets 0 pass too)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected {name} to be a number, got {describe(value)}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"expected {name} to be a finite number {'>=' if zero else '>'} 0, got {value}")
    return float(value)


def expect_fraction(name: str, value: float) -> float:
    """A number from 0 to below 1."""
    if expect_rate(name, value, zero=True) >= 1:
        raise ValueError(f"expected {name} < 1, got {value}")
    return float(value)


def expect_seed(name: str, value: int) -> int:
    """A whole number from 0 to 2^63 - 1: what torch's generators take, with no two of them alike."""
    if expect_at_least(name, value, 0) >= 2**63:
        raise ValueError(f"expected {name} < 2**63, got {value}")
    return value


def expect_switch(name: str, value: bool) -> bool:
    """True or False: a string such as "no" would count as true."""
    if not isinstance(value, bool):
        raise TypeError(f"expected {name} to be True or False, got {describe(value)}")
    return value


def expect_kind(name: str, value: Kind, kind: type | tuple[type, ...], hint: str = "") -> Kind:
    """An object of this type, not the type itself."""
    if not isinstance(value, kind) or isinstance(value, type):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        words = " or ".join(one.__name__ for one in kinds)
        raise TypeError(f"expected {name} to be of type {words}, got {describe(value)}{hint}")
    return value


def expect_function(name: str, value: Any, of: str) -> None:
    """A function of two arguments; its signature is checked if it has one."""
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"expected {name} to be a function of {of}, got {describe(value)}")
    try:
        signature = inspect.signature(value)
    except (ValueError, TypeError):  # written in C
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise TypeError(f"expected {name} to be a function of {of}, got {describe(value)}: {error}") from None


def expect_parameters(model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Tensors by name that can replace parameters of a model: of the same shapes and types, and at least one."""
    expect_kind("parameters", parameters, (Mapping,))
    own = dict(model.named_parameters())
    expect_names(list(own), list(parameters))
    if not parameters:
        raise ValueError(f"expected parameters by name, such as {', '.join(list(own)[:2])}, got none")
    for name, value in parameters.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"expected parameter {name!r} to be a tensor, got {describe(value)}")
        if (value.shape, value.dtype) != (own[name].shape, own[name].dtype):
            here, there = (f"{tuple(end.shape)} of {end.dtype}" for end in (own[name], value))
            raise ValueError(f"expected parameter {name!r} of the model's shape {here}, got {there}")


def expect_rates(rates: Any, parameters: Mapping[str, Tensor]) -> None:
    """Step sizes by name: of known parameters, each a finite number or a tensor that fits the parameter."""
    if not isinstance(rates, Mapping) or not rates:
        raise ValueError(f"expected step sizes by parameter name, at least one, got {describe(rates)}")
    expect_names(list(parameters), list(rates))
    for name, rate in rates.items():
        shape = parameters[name].shape
        if isinstance(rate, Tensor):
            if rate.shape not in ((), shape):
                raise ValueError(
                    f"expected a step size of shape () or {tuple(shape)} for {name!r}, got {tuple(rate.shape)}"
                )
        elif isinstance(rate, bool) or not isinstance(rate, (int, float)) or not math.isfinite(rate):
            raise ValueError(f"expected a finite number as step size of {name!r}, got {describe(rate)}")


@contextlib.contextmanager
def explained(*parts: tuple[str, Tree]) -> Iterator[None]:
    """If torch fails inside, say which shapes and types it got."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        if type(error) is not RuntimeError or reason.startswith("expected ") or not _OF_SHAPES.search(reason):
            raise
        found = [pair for name, tree in parts for pair in named_leaves(name, tree) if isinstance(pair[1], Tensor)]
        came = ", ".join(f"{place} {tuple(value.shape)} of {value.dtype}" for place, value in found[:6])
        raise RuntimeError(
            f"expected inputs and targets that the model and the loss take, got {came}{', ...' * (len(found) > 6)}: {reason:.150}"
        ) from error


_OF_SHAPES = re.compile("shape|size|dtype|dimension|[0-9]-?D|channels|scalar type", re.IGNORECASE)


def expect_one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """One of a few words."""
    if value not in allowed:
        raise ValueError(f"expected {name} to be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def expect_device(name: str) -> str:
    """A device that torch can compute on here."""
    try:
        torch.ones(1, device=name).item()
    except (
        RuntimeError,
        AssertionError,
    ):  # torch was built without it, the machine lacks it, or there is no such device
        raise ValueError(f"expected a device that torch can compute on here, got {name!r}") from None
    return name


def expect_model(model: nn.Module) -> nn.Module:
    """A module with at least one parameter that can be learned."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected model to be a torch.nn.Module, got {describe(model)}")
    wrapped = (torch.jit.ScriptModule, nn.DataParallel, nn.parallel.DistributedDataParallel)
    if found := [type(module).__name__ for module in model.modules() if isinstance(module, wrapped)]:
        raise TypeError(
            f"expected a module that torch.func.functional_call can call, got {found[0]}: pass the one inside"
        )
    if any(is_lazy(value) for value in (*model.parameters(), *model.buffers())):
        raise ValueError(
            f"expected a model whose layers know their sizes, got {type(model).__name__} with lazy ones: call it once first"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"expected a model with parameters to learn, got {type(model).__name__} with none")
    return model


def expect_points(name: str, x: Tree, y: Tree) -> None:
    """Inputs and targets of one set of points: ``(points, *input)`` and ``(points, *output)``, or trees of such tensors."""
    for part, tree in (("inputs", x), ("targets", y)):
        for place, value in expect_tensors(f"the {name} {part}", tree):
            if value.ndim == 0:
                raise ValueError(f"expected {place} to have an axis of points, got a tensor without axes")
            _expect_equal("points", f"the {name} {part}", place, value.shape[0], first(tree).shape[0])
    inputs, targets = first(x), first(y)
    if inputs.shape[0] == 0:
        raise ValueError(f"expected at least one {name} point, got an empty set of shape {tuple(inputs.shape)}")
    if inputs.shape[0] != targets.shape[0]:
        raise ValueError(
            f"expected one {name} target per input, got {inputs.shape[0]} inputs and {targets.shape[0]} targets"
        )


def expect_tensors(name: str, tree: Tree) -> list[tuple[str, Tensor]]:
    """The tensors of a tree, each with its place; there must be at least one, and nothing else."""
    found = named_leaves(name, tree)
    for place, value in found:
        if not isinstance(value, Tensor):
            hint = "; convert with dict()" if isinstance(value, Mapping) else ""
            raise TypeError(f"expected {place} to be a tensor, got {describe(value)}{hint}")
    if not found:
        raise ValueError(f"expected {name} to hold a tensor, got an empty {type(tree).__name__}")
    return found


def _expect_equal(what: str, name: str, place: str, count: int, counted: int) -> None:
    if count != counted:
        raise ValueError(f"expected the same number of {what} in all of {name}, got {counted} and, in {place}, {count}")


def expect_same_tasks(tasks: Sequence[Tree]) -> None:
    """The four parts of a task batch: equal task counts, at least one task, and sound points in each task."""
    if not isinstance(tasks, (list, tuple)) or len(tasks) != 4:
        what = f"{len(tasks)} parts" if isinstance(tasks, (list, tuple)) else type(tasks).__name__
        raise TypeError(f"expected a TaskBatch (support_x, support_y, query_x, query_y), got {what}")
    support_x, support_y, query_x, query_y = tasks
    for name, x, y in (("support", support_x, support_y), ("query", query_x, query_y)):
        for part, tree in (("inputs", x), ("targets", y)):
            for place, value in expect_tensors(f"the {name} {part}", tree):
                if value.ndim < 2:
                    place = place.removeprefix("the ")
                    raise ValueError(f"expected {place} of shape (tasks, points, ...), got {tuple(value.shape)}")
                _expect_equal("tasks", f"the {name} {part}", place, value.shape[0], first(tree).shape[0])
    counts = [first(part).shape[0] for part in (support_x, support_y, query_x, query_y)]
    if len(set(counts)) > 1:
        raise ValueError(
            "expected the same number of tasks in support inputs, support targets, query inputs and query targets, "
            f"got {', '.join(map(str, counts))}"
        )
    if counts[0] == 0:
        raise ValueError("expected at least one task, got an empty batch")
    expect_points("support", *(mapped(_first_task, part) for part in (support_x, support_y)))
    expect_points("query", *(mapped(_first_task, part) for part in (query_x, query_y)))
    if not same_form(support_x, query_x):
        raise ValueError(f"expected support and query inputs of one form, got {_form(support_x)} and {_form(query_x)}")
    for (place, support), (_, query) in zip(named_leaves("", support_x), named_leaves("", query_x), strict=True):
        if support.shape[2:] != query.shape[2:]:
            raise ValueError(
                f"expected support and query inputs{place} of one shape, got {tuple(support.shape[2:])} and "
                f"{tuple(query.shape[2:])}"
            )


def _first_task(value: Tensor) -> Tensor:
    return value[0]


def _form(tree: Tree) -> str:
    places = [place for place, _ in named_leaves("", tree)]
    return f"{type(tree).__name__} {', '.join(places[:4])}{', ...' if len(places) > 4 else ''}".strip()


def expect_on_model(model: nn.Module, *parts: tuple[str, Tree], any_type: bool = False) -> None:
    """Tensors on the model's device, floating-point ones of its type (``any_type=True``, for autocast, lets others pass).

    The model's type is that of what is learned; the types of frozen parts pass too. Whole numbers always do.
    """
    parameters = list(model.parameters())
    like = next(parameter for parameter in parameters if parameter.requires_grad)
    devices = {parameter.device for parameter in parameters}
    types = {parameter.dtype for parameter in parameters}
    types |= {parameter.dtype.to_real() for parameter in parameters if parameter.is_complex()}
    for name, tree in parts:
        for place, value in named_leaves(name, tree):
            if value.device not in devices:
                raise ValueError(f"expected {place} on the model's device {like.device}, got {value.device}")
            if any_type or not (value.is_floating_point() or value.is_complex()):
                continue
            if value.dtype not in types:
                ids = ", whole numbers such as ids with .long()" if _looks_up(model) else ""
                raise TypeError(
                    f"expected {place} of the model's type {like.dtype}, got {value.dtype}; convert with .to(){ids}"
                )
            if name.endswith("inputs") and value.dtype in _WHOLE and _looks_up(model):
                _expect_values_not_ids(place, value)


_WHOLE = {torch.bfloat16: 2**8, torch.float16: 2**11}  # up to here this type has every whole number


def _looks_up(model: nn.Module) -> bool:
    return any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for module in model.modules())


def _expect_values_not_ids(name: str, value: Tensor) -> None:
    if (
        not value.is_meta
        and value.numel()
        and value.max() > _WHOLE[value.dtype]
        and bool((value == value.round()).all())
    ):
        raise TypeError(
            f"expected {name} that are ids as torch.int64, got {value.dtype}, which has not every whole number above "
            f"{_WHOLE[value.dtype]}"
        )


def expect_names(known: Sequence[str], names: Sequence[str]) -> None:
    """Parameter names that the model has."""
    if unknown := [str(name) for name in names if name not in known]:
        raise ValueError(f"expected parameter names out of {_some(known)}, got {', '.join(map(repr, unknown[:3]))}")


def _some(names: Sequence[str], most: int = 8) -> str:
    """The names, or some of those of a large model."""
    return ", ".join(names if len(names) <= most else [*names[: most // 2], "...", *names[-most // 2 :]])


_SAME_SHAPE = (
    F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy_with_logits, F.binary_cross_entropy,
    F.poisson_nll_loss, F.kl_div, F.soft_margin_loss, F.multilabel_soft_margin_loss,
)  # fmt: skip
_SAME_SHAPE_MODULES = (
    nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss, nn.BCELoss,
    nn.PoissonNLLLoss, nn.KLDivLoss, nn.SoftMarginLoss, nn.MultiLabelSoftMarginLoss,
)  # fmt: skip


def checked_loss(loss: Callable[[Tree, Tree], Tensor]) -> Callable[[Tree, Tree], Tensor]:
    """The same loss, which first checks what it gets and then what it gives: only shapes and types, so this costs nothing."""
    expect_function("loss", loss, "outputs and targets")
    same_shape = loss in _SAME_SHAPE or isinstance(loss, _SAME_SHAPE_MODULES)
    classes = loss is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss)

    def call(outputs: Tree, targets: Tree) -> Tensor:
        if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
            return of_several(outputs, targets)
        shape, given = tuple(outputs.shape), tuple(targets.shape)
        if same_shape and shape != given:  # broadcasting would make a wrong loss of it, without an error
            raise ValueError(f"expected targets of the outputs' shape {shape}, got {given}")
        if classes and (len(shape) < 2 or shape[1] == 1):
            raise ValueError(
                "expected outputs (points, classes) with two classes or more for cross-entropy, got outputs of shape "
                f"{shape}; for real values pass loss=F.mse_loss, for one logit F.binary_cross_entropy_with_logits"
            )
        if classes and (shape != given or not targets.is_floating_point()):
            if targets.dtype != torch.int64:
                raise TypeError(
                    f"expected class numbers of type torch.int64, got {targets.dtype}; convert with .long()"
                )
            if given != shape[:1] + shape[2:]:
                raise ValueError(f"expected one class number per output of shape {shape}, got targets of shape {given}")
        column = shape == (*given, 1) or given == (*shape, 1)
        watch = column and max(shape) > 1 and not torch.compiler.is_compiling()
        try:
            with _NoBroadcasting(outputs, targets) if watch else contextlib.nullcontext():
                value = loss(outputs, targets)
        except (IndexError, RuntimeError) as error:
            if "out of bounds" in str(error) or "out of range" in str(error):
                explain_labels(loss, outputs, targets)
            raise
        return _one_number(value)

    def of_several(outputs: Tree, targets: Tree) -> Tensor:
        of_tensors = same_shape or classes
        if not leaves(outputs) or (of_tensors and not isinstance(outputs, Tensor)):
            hint = "; pass loss=lambda outputs, targets: ..., of the part that counts"
            if not leaves(outputs):
                hint = (
                    "; torch.export.register_dataclass makes a dataclass known" if hasattr(outputs, "__dict__") else ""
                )
            raise TypeError(f"expected the model to return a tensor, got {type(outputs).__name__}{hint}")
        if of_tensors:
            raise TypeError(f"expected one tensor as targets of this loss, got {type(targets).__name__}")
        return _one_number(loss(outputs, targets))

    call.__wrapped__ = loss  # type: ignore[attr-defined]
    return call


def _one_number(value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != ():
        raise ValueError(f"expected loss to give one number, the mean over points, got {_shape_of(value)}")
    if not value.is_floating_point():
        raise TypeError(f"expected loss to give a real number, got {value.dtype}")
    return value


class _NoBroadcasting(TorchFunctionMode):
    """Outputs ``(n, 1)`` and targets ``(n,)`` would broadcast to ``(n, n)``, and the loss would be a number without a meaning."""

    def __init__(self, outputs: Tensor, targets: Tensor) -> None:
        super().__init__()
        self.shapes = tuple(outputs.shape), tuple(targets.shape)
        self.of = {id(outputs): 0, id(targets): 1}
        self.kept = [outputs, targets]  # so that no other tensor gets their ids

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Follow both through functions that keep their shapes, and check where they meet."""
        result = func(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        met = {self.of[id(value)] for value in tensors if id(value) in self.of}
        if len(met) == 2:
            both = torch.broadcast_shapes(*self.shapes)
            if getattr(func, "__module__", "") == "torch.nn.functional" or _shape(result) == both:
                raise ValueError(
                    f"expected a loss that brings outputs and targets to one shape, got one that broadcasts {self.shapes[0]} "
                    f"against {self.shapes[1]}"
                )
        elif met and isinstance(result, Tensor) and tuple(result.shape) == self.shapes[index := met.pop()]:
            self.of[id(result)] = index
            self.kept.append(result)
        return result


def _shape(value: object) -> object:
    return value.shape if isinstance(value, Tensor) else None


def expect_classes(targets: Tensor, classes: int, ignored: int = -100) -> None:
    """Class numbers from 0 to ``classes - 1``, or the one that is ignored."""
    odd = targets[(targets != ignored) & ((targets < 0) | (targets >= classes))]
    if len(odd):
        found = ", ".join(map(str, odd.unique().tolist()[:3]))
        raise ValueError(f"expected class numbers from 0 to {classes - 1}, as many as outputs, got {found}")


def explain_labels(loss: object, outputs: Tensor, targets: Tensor) -> None:
    """After a failure, say in one line which labels have no output, if that can be seen."""
    whole = not (targets.is_floating_point() or targets.is_complex())
    if (
        whole
        and outputs.ndim > 1
        and targets.device.type == "cpu"
        and not torch._C._functorch.is_batchedtensor(targets)
    ):
        expect_classes(targets, outputs.shape[1], getattr(loss, "ignore_index", -100))


def expect_gradients() -> None:
    """A place where gradients can be taken: inner steps need them, at evaluation too."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError("expected a place where gradients can be taken, got torch.inference_mode()")


def _shape_of(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else describe(value)


def tensors_of_tasks(parts: Mapping[str, Tree | Sequence[Tree]]) -> list[Tree] | list[list[Tree]]:
    """The parts of some tasks: trees with a leading task axis, or lists with one tree per task where tasks differ in shape.

    A list has one tensor, tuple or dict per task; a tensor or a dict has the axis already.
    """
    for name, value in parts.items():
        given = (
            isinstance(value, (list, tuple)) and value and all(isinstance(v, (Tensor, tuple, Mapping)) for v in value)
        )
        if not (isinstance(value, (Tensor, Mapping)) or given):
            raise TypeError(f"expected {name} to be a tensor or a list of tensors, one per task, got {describe(value)}")
        if given and not all(same_form(item, value[0]) for item in value):
            forms = ", ".join({_form(item): 0 for item in value})
            raise ValueError(f"expected {name} of one form for every task, got {forms}")
    if all(isinstance(value, (Tensor, Mapping)) or len(set(map(_shapes, value))) == 1 for value in parts.values()):
        return [v if isinstance(v, (Tensor, Mapping)) else joined(torch.stack, list(v)) for v in parts.values()]
    lists = [_listed(value) for value in parts.values()]
    if len(set(map(len, lists))) > 1:
        raise ValueError(
            f"expected the same number of tasks in {', '.join(parts)}, got {', '.join(str(len(part)) for part in lists)}"
        )
    return lists


def _shapes(tree: Tree) -> tuple[torch.Size, ...]:
    return tuple(value.shape for value in leaves(tree))


def _listed(value: Tree | Sequence[Tree]) -> list[Tree]:
    """One tree per task, also from a tree with an axis for tasks."""
    if not isinstance(value, (Tensor, Mapping)):
        return list(value)
    return list(each(value)) if all(tensor.ndim for tensor in leaves(value)) else []


def describe(value: object) -> str:
    """A short name for what came: type and value if that is short, otherwise the type."""
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 40 else type(value).__name__
