"""Single tensors, or several in tuples and dicts: what a model takes and gives.

A model with one input gets a tensor. One with several gets a tuple, which is passed by position, ``model(*x)``, or a dict,
which is passed by name, ``model(**x)``; an argument that is itself a tuple or dict is nested inside. What a model gives may be
such a tree too, and so may targets: the loss gets them as they are. All tensors have the same leading axes, and what is said of a
tensor elsewhere holds for each of them.

Classes of outputs count as trees once torch knows them: ``torch.export.register_dataclass(Output)``. Those of Hugging Face do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path, tree_map, tree_map_only, tree_unflatten

__all__ = [
    "Several",
    "Tree",
    "called_with",
    "each",
    "first",
    "joined",
    "leaves",
    "mapped",
    "named_leaves",
    "same_form",
]

#: A tensor, or a tuple or dict of tensors, of tuples, of dicts.
Tree = Any
#: A tree that is not a single tensor.
Several = tuple[Any, ...] | Mapping[str, Any]


def leaves(tree: Tree) -> list[Tensor]:
    """The tensors of a tree."""
    if isinstance(tree, Tensor):
        return [tree]
    return [value for value in tree_flatten(tree)[0] if isinstance(value, Tensor)]


def named_leaves(name: str, tree: Tree) -> list[tuple[str, Any]]:
    """The leaves of a tree, tensors or not, each with where it stands: ``"inputs['mask']"``."""
    if isinstance(tree, Tensor) or not isinstance(tree, (tuple, Mapping)):
        return [(name, tree)]
    return [(f"{name}{keystr(path)}", value) for path, value in tree_flatten_with_path(tree)[0]]


def first(tree: Tree) -> Tensor:
    """The first tensor of a tree, for what all its tensors have in common."""
    return tree if isinstance(tree, Tensor) else leaves(tree)[0]


def mapped(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """The tree with each tensor replaced by what the function makes of it."""
    return function(tree) if isinstance(tree, Tensor) else tree_map_only(Tensor, function, tree)


def each(tree: Tree) -> Iterator[Tree]:
    """The trees along the leading axis: one per task, if it counts tasks."""
    if isinstance(tree, Tensor):
        return iter(tree)
    values, form = tree_flatten(tree)
    count = first(tree).shape[0]
    rows = zip(*(value if isinstance(value, Tensor) else [value] * count for value in values), strict=True)
    return (tree_unflatten(row, form) for row in rows)


def joined(join: Callable[[list[Tensor]], Tensor], trees: Sequence[Tree]) -> Tree:
    """One tree made of many, by ``torch.stack`` or ``torch.cat``; other values are kept if they are the same in all of them."""
    if isinstance(trees[0], Tensor):
        return join(list(trees))

    def one(*values: Any) -> Any:
        if isinstance(values[0], Tensor):
            return join(list(values))
        plain = isinstance(values[0], (bool, int, float, str))
        return values[0] if plain and all(value == values[0] for value in values) else None

    return tree_map(one, *trees)


def called_with(x: Tree) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that a model gets, by position and by name."""
    if isinstance(x, Mapping):
        return (), dict(x)
    return (tuple(x) if isinstance(x, tuple) else (x,)), {}


def same_form(a: Tree, b: Tree) -> bool:
    """Whether two trees have the same structure."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor)
    places = ({name for name, _ in named_leaves("", tree)} for tree in (a, b))
    return type(a) is type(b) and next(places) == next(places)
