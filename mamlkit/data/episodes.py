"""N-way, few-shot tasks from images of many classes.

A task (an *episode*) draws N classes, gives them the numbers 0 to N-1, and draws S images of each (S shots) for the support
set and other images of the same classes for the query set: Vinyals et al., 2016, arXiv:1606.04080, section 4.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from mamlkit.arguments import describe, expect_at_least, expect_kind, expect_switch
from mamlkit.tasks import TaskBatch

__all__ = ["FewShot", "ImageClasses", "ImageTasks", "for_split"]


@dataclass(frozen=True, eq=False)
class ImageClasses:
    """Images of many classes in one tensor, with the images of a class next to each other.

    Attributes:
        images: uint8 ``(images, channels, height, width)``.
        counts: how many of them each class has, int64 ``(classes,)``.
        names: what each class is called.
        groups: what each class belongs to (a script, an alphabet); empty strings if there is no such thing.
    """

    images: Tensor
    counts: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]

    @staticmethod
    def of(
        images: Tensor | Sequence[Tensor], names: Sequence[str] | None = None, groups: Sequence[str] | None = None
    ) -> ImageClasses:
        """Check images and lay them out.

        Args:
            images: uint8 ``(classes, drawings, channels, height, width)``, or a list with one uint8 tensor
                ``(drawings, channels, height, width)`` per class where classes differ in size.
            names: one per class; ``"0"``, ``"1"``, ... where left out.
            groups: one per class.

        Raises:
            TypeError: if the images are not uint8 tensors.
            ValueError: if shapes do not fit, or there is nothing in them.
        """
        if not isinstance(images, (Tensor, list, tuple)):
            raise TypeError(f"expected images as a tensor or a list of tensors, one per class, got {describe(images)}")
        for part, strings in (("names", names), ("groups", groups)):
            if strings is not None:
                expect_kind(part, strings, (list, tuple))
        for tensor in [images] if isinstance(images, Tensor) else images:
            if not isinstance(tensor, Tensor) or tensor.dtype != torch.uint8:
                got = tensor.dtype if isinstance(tensor, Tensor) else describe(tensor)
                raise TypeError(f"expected images as uint8 tensors with values from 0 to 255, got {got}")
        if isinstance(images, Tensor):
            if images.ndim != 5 or 0 in images.shape:
                raise ValueError(
                    f"expected images of shape (classes, drawings, channels, height, width), got {tuple(images.shape)}"
                )
            counts = [images.shape[1]] * images.shape[0]
            flat = images.flatten(0, 1)  # (images, channels, height, width)
        else:
            shapes = {tuple(tensor.shape[1:]) for tensor in images}
            if not shapes or any(tensor.ndim != 4 or 0 in tensor.shape for tensor in images):
                came = ", ".join(str(tuple(tensor.shape)) for tensor in images[:3]) or "an empty list"
                raise ValueError(f"expected a tensor (drawings, channels, height, width) for each class, got {came}")
            if len(shapes) > 1:
                raise ValueError(f"expected images of one size, got {', '.join(map(str, sorted(shapes)[:3]))}")
            counts = [len(tensor) for tensor in images]
            flat = torch.cat(list(images))  # (images, channels, height, width)
        names = [str(number) for number in range(len(counts))] if names is None else names
        groups = [""] * len(counts) if groups is None else groups
        if not len(names) == len(groups) == len(counts):
            raise ValueError(
                f"expected one name and one group per class, got {len(names)} names and {len(groups)} groups "
                f"for {len(counts)} classes"
            )
        return ImageClasses(flat, torch.tensor(counts, device="cpu"), tuple(names), tuple(groups))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def first(self) -> Int64[Tensor, " classes"]:
        """Where in ``images`` each class begins, ``(classes,)``."""
        return self.counts.cumsum(0) - self.counts

    def of_class(self, number: int) -> UInt8[Tensor, "drawings channels height width"]:
        """All images of one class: ``(drawings, channels, height, width)``."""
        self._expect_number(number)
        begin = int(self.first[number])
        return self.images[begin : begin + int(self.counts[number])]

    def select(self, numbers: Sequence[int]) -> ImageClasses:
        """Only these classes, in this order."""
        for number in expect_kind("numbers", numbers, (list, tuple, range)):
            self._expect_number(number)
        return ImageClasses(
            torch.cat([self.of_class(number) for number in numbers] or [self.images[:0]]),
            self.counts[list(numbers)],
            tuple(self.names[number] for number in numbers),
            tuple(self.groups[number] for number in numbers),
        )

    def _expect_number(self, number: int) -> None:
        if expect_at_least("the number of a class", number, 0) >= len(self):
            raise ValueError(f"expected the number of a class from 0 to {len(self) - 1}, got {number}")

    def stacked(self) -> UInt8[Tensor, "classes drawings channels height width"]:
        """One tensor ``(classes, drawings, channels, height, width)``, if all classes have the same number of images."""
        counts = self.counts.unique()
        if len(counts) != 1:
            raise ValueError(f"expected as many images in every class, got {int(counts.min())} to {int(counts.max())}")
        return self.images.unflatten(0, (len(self), -1))


class ImageTasks:
    """Tasks of ``ways`` classes, with ``shots`` support images and ``queries`` query images of each class.

    Every class of a task is in its support set and in its query set, and no image is in both. Inputs are float32 in [0, 1],
    the uint8 values divided by 255. Within a set the images of class 0 come first, then those of class 1, and so on.

    Args:
        images: the classes, as ``ImageClasses`` or as ``ImageClasses.of`` takes them.
        ways: classes per task.
        shots: support images per class.
        queries: query images per class.
        rotations: turn every class by 90, 180 and 270 degrees and count each turn as a class of its own: four times the
            classes (Santoro et al., 2016, arXiv:1605.06065). Only for training: a test on turned classes is another test.

    Raises:
        TypeError: if the images are not uint8.
        ValueError: if there are fewer classes than ways, or a class has fewer than ``shots + queries`` images.
    """

    def __init__(
        self,
        images: ImageClasses | Tensor | Sequence[Tensor],
        *,
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        rotations: bool = False,
    ) -> None:
        self.classes = images if isinstance(images, ImageClasses) else ImageClasses.of(images)
        self.ways = expect_at_least("ways", ways, 2)
        self.shots = expect_at_least("shots", shots, 1)
        self.queries = expect_at_least("queries", queries, 1)
        self.rotations = expect_switch("rotations", rotations)
        if rotations and self.image_shape[1] != self.image_shape[2]:
            raise ValueError(f"expected square images to turn by 90 degrees, got {self.image_shape[1:]}")
        if ways > self.num_classes:
            raise ValueError(f"expected ways to be at most the {self.num_classes} classes there are, got ways={ways}")
        small = [number for number, count in enumerate(self.classes.counts.tolist()) if count < shots + queries]
        if small:
            more = f" (and in {len(small) - 1} more classes)" if len(small) > 1 else ""
            raise ValueError(
                f"expected at least shots + queries = {shots} + {queries} images in every class, "
                f"got {int(self.classes.counts[small[0]])} in class {self.classes.names[small[0]]!r}{more}"
            )
        self._first = self.classes.first
        self._equal = bool((self.classes.counts == self.classes.counts[0]).all())

    @property
    def num_classes(self) -> int:
        """How many classes tasks are drawn from; turned classes count."""
        return len(self.classes) * (4 if self.rotations else 1)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an input."""
        channels, height, width = self.classes.images.shape[1:]
        return channels, height, width

    def fingerprint(self) -> str:
        """A string that differs where an image, a class or a setting does: what a resumed run compares."""
        images, digest = self.classes.images, hashlib.sha256()
        digest.update(self.classes.counts.numpy().tobytes())
        digest.update(images.cpu().contiguous().numpy().data)
        return (
            f"{len(self.classes)} classes, {len(images)} images {tuple(images.shape[1:])} {digest.hexdigest()[:16]}, "
            f"{self.ways} ways, {self.shots} shots, {self.queries} queries{', turned' * self.rotations}"
        )

    def class_name(self, number: int) -> str:
        """The name of class ``number`` of ``sample_with_classes``, with its turn if it has one."""
        if expect_at_least("number", number, 0) >= self.num_classes:
            raise ValueError(f"expected the number of a class from 0 to {self.num_classes - 1}, got {number}")
        turns, number = divmod(number, len(self.classes))
        return self.classes.names[number] + (f" turned by {90 * turns} degrees" if turns else "")

    def sample(self, num_tasks: int, generator: torch.Generator) -> TaskBatch:
        """Draw tasks: inputs ``(tasks, ways * images, channels, height, width)``, targets ``(tasks, ways * images)``."""
        batch, _ = self.sample_with_classes(num_tasks, generator)
        return batch

    def sample_with_classes(
        self, num_tasks: int, generator: torch.Generator
    ) -> tuple[TaskBatch, Int64[Tensor, "tasks ways"]]:
        """As ``sample``, and which class each number of a task stands for: ``(tasks, ways)``."""
        expect_at_least("num_tasks", num_tasks, 1)
        expect_kind("generator", generator, torch.Generator)
        # The largest of equally distributed keys: numbers without repetition, in random order, for all tasks at once.
        keys = torch.rand(num_tasks, self.num_classes, generator=generator, device=generator.device)
        chosen = keys.topk(self.ways).indices.cpu()  # (tasks, ways)
        turns, source = chosen // len(self.classes), chosen % len(self.classes)
        counts = self.classes.counts[source][..., None]  # (tasks, ways, 1)
        longest = int(counts.max())
        keys = torch.rand(num_tasks, self.ways, longest, generator=generator, device=generator.device).cpu()
        if not self._equal:
            keys = keys.masked_fill(torch.arange(longest, device="cpu") >= counts, -1.0)
        drawings = keys.topk(self.shots + self.queries).indices  # (tasks, ways, shots + queries)
        index = self._first[source][..., None] + drawings
        support, query = index[..., : self.shots], index[..., self.shots :]
        batch = TaskBatch(*self._points(support, turns), *self._points(query, turns))
        return batch, chosen

    def _points(
        self, index: Int64[Tensor, "tasks ways images"], turns: Int64[Tensor, "tasks ways"]
    ) -> tuple[Float[Tensor, "tasks points channels height width"], Int64[Tensor, "tasks points"]]:
        images = self.classes.images
        x = images.index_select(
            0, index.flatten().to(images.device)
        )  # (tasks * ways * images, channels, height, width)
        if self.rotations:
            turns = turns.to(x.device).repeat_interleave(index.shape[2])  # (tasks * ways * images,)
            for turn in (1, 2, 3):
                here = (turns == turn).nonzero().squeeze(1)
                x[here] = x[here].rot90(turn, (-2, -1))
        y = torch.arange(self.ways, device=x.device).repeat_interleave(index.shape[2])  # (ways * images,)
        return x.float().div_(255).unflatten(0, (len(index), -1)), y.repeat(len(index), 1)


class FewShot(TypedDict):
    """What every source of images takes besides its own arguments; ``ImageTasks`` describes it."""

    ways: int
    shots: int
    queries: int
    rotations: bool


def for_split(split: str, few_shot: FewShot) -> FewShot:
    """The same for one split: classes are turned only if that is asked for, and only in training."""
    return {**few_shot, "rotations": expect_switch("rotations", few_shot["rotations"]) and split == "train"}
