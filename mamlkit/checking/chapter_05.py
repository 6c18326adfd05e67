"""Checks of chapter 5, few shots of images. Each compares with the truth, then with the typical mistakes, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mamlkit.algorithms import maml
from mamlkit.checking._cases import attempt_with_copies, expect, judge
from mamlkit.checking._report import as_tensor, close, correct, wrong
from mamlkit.learners import Learner
from mamlkit.models import conv4

__all__ = [
    "check_alone",
    "check_episode",
    "check_half_width",
    "check_leaks",
    "check_parameters",
    "check_prototypes",
]

CLASSES, DRAWINGS = 9, 6
MIRRORED = 3  # the test class of 5.3 with mirrored copies, which are no leak


def check_episode(answer: Callable[..., Any]) -> None:
    """Exercise 5.1, an episode out of a tensor of classes.

    Args:
        answer: ``episode(images, ways, shots, queries, generator)``, with ``images`` ``(classes, drawings, 1, height,
            width)``, giving support_x, support_y, query_x, query_y.
    """
    exercise, ways, shots, queries = "5.1", 4, 2, 3
    # A constant image says by its value which class (whole part) and which drawing (tenths) it is.
    value = torch.arange(float(CLASSES))[:, None] + torch.arange(float(DRAWINGS)) / 10  # (classes, drawings)
    images = value[..., None, None, None].expand(-1, -1, 1, 3, 3)  # (classes, drawings, 1, 3, 3)
    drawn = []
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        done, result = attempt_with_copies(exercise, answer, images, ways, shots, queries, generator)
        if not done:
            return
        if isinstance(result, Tensor) or not isinstance(result, Sequence) or len(result) != 4:
            return wrong(exercise, "Four tensors were expected: support_x, support_y, query_x, query_y.")
        flaw, tables = _read_episode(result, ways, shots, queries)
        if flaw:
            return wrong(exercise, flaw)
        drawn.append(tables)
    if flaw := _flaw_over_draws(drawn):
        return wrong(exercise, flaw)
    again = [answer(images.clone(), ways, shots, queries, torch.Generator().manual_seed(0)) for _ in range(2)]
    if any(not torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(*again, strict=True)):
        return wrong(
            exercise, "Two generators of one seed gave two episodes: draw with generator=generator everywhere."
        )
    correct(exercise, "New classes, new numbers and new drawings each time, and no image in both sets.")


def check_half_width(answer: Callable[..., Any]) -> None:
    """Exercise 5.2, the half width of the 95 % interval over tasks.

    Args:
        answer: ``half_width(hits)``, with ``hits`` ``(tasks, queries)`` of zeros and ones, giving a number.
    """
    cases = []
    for seed, (tasks, queries) in enumerate(((12, 25), (7, 30), (30, 5))):
        generator = torch.Generator().manual_seed(seed)
        difficulty = 0.2 + 0.7 * torch.rand(tasks, 1, generator=generator)  # tasks differ
        hits = (torch.rand(tasks, queries, generator=generator) < difficulty).double()  # (tasks, queries)
        per_task, single = hits.mean(1), hits.flatten()
        sd, root = per_task.std(), math.sqrt(tasks)
        mistakes = {
            "This treats every query image as an independent draw; average over each task first.":
                1.96 * single.std() / math.sqrt(len(single)),
            "This treats every query image as an independent draw; average over each task first. (And it lacks the 1.96.)":
                single.std() / math.sqrt(len(single)),
            "This is the standard deviation of single hits: no interval at all.": single.std(),
            "This is 1.96 standard deviations of single hits: no interval at all.": 1.96 * single.std(),
            "This is the standard deviation over tasks; divide by the root of their number, and take 1.96 of it.": sd,
            "The root of the number of tasks is missing: this does not shrink with more tasks.": 1.96 * sd,
            "The factor 1.96 is missing: this is one standard error.": sd / root,
            "The whole width is twice the half width.": 2 * 1.96 * sd / root,
            "Divide by the root of the number of tasks, not by the number.": 1.96 * sd / tasks,
            "This divides by the root of the number of query images; the interval is over tasks.":
                1.96 * sd / math.sqrt(queries),
            "This divides by the root of the number of all hits; the spread is over tasks, so count tasks.":
                1.96 * sd / math.sqrt(tasks * queries),
            "The mean is over the wrong axis: each task gives one accuracy, the mean over its query images.":
                1.96 * hits.mean(0).std() / math.sqrt(queries),
            "This is the mean accuracy, not the half width.": per_task.mean(),
            "This is the variance: take its root.": 1.96 * sd**2 / root,
            "The standard deviation of the tasks at hand is a little too small: divide by the number of tasks minus 1.":
                1.96 * per_task.std(correction=0) / root,
            "This is in per cent; return a fraction.": 196 * sd / root,
        }  # fmt: skip
        cases.append(expect((hits,), 1.96 * sd / root, mistakes))
    judge("5.2", answer, cases, "One accuracy a task, then the spread of the tasks.")


def check_leaks(answer: Callable[..., Any]) -> None:
    """Exercise 5.3, test classes whose drawings are in training, as they are or turned.

    Args:
        answer: ``leaks(train, test)``, both ``(classes, drawings, 1, size, size)`` uint8, giving the numbers of the test
            classes that leak, in any container.
    """
    exercise = "5.3"
    train, test, turns = _split_with_leaks()
    leaking = sorted(turns)
    for left, right, truth in ((train, test, leaking), (train, test[[0, 3]], []), (train[:2], test, [])):
        done, result = attempt_with_copies(exercise, answer, left, right)
        if not done:
            return
        given = _numbers(result, len(right))
        if given is None:
            return wrong(exercise, f"Numbers of test classes were expected, this is {type(result).__name__}.")
        if given == truth:
            continue
        if not truth:
            return wrong(exercise, f"These two share nothing, and this finds {given}.")
        return wrong(exercise, _why_other_leaks(given, turns))
    correct(exercise, "A turned copy is a copy, whichever drawing it is.")


def check_alone(answer: Callable[..., Any]) -> None:
    """Exercise 5.4, the scores of one query image beside the support set.

    Args:
        answer: ``scores_alone(learner, support_x, support_y, image)``, with ``image`` ``(1, height, width)``, giving
            ``(ways,)``, the network's own: no softmax.
    """
    exercise = "5.4"
    generator = torch.Generator().manual_seed(5)
    for ways, seed in ((5, 0), (3, 1)):
        model = conv4(ways, image_size=20, filters=6, downsample="stride", seed=seed).double()
        learner = maml(model, inner_steps=2, inner_lr=0.4)
        support_x = torch.rand(ways, 1, 20, 20, generator=generator, dtype=torch.float64)
        image = torch.rand(1, 20, 20, generator=generator, dtype=torch.float64)
        arguments = (learner, support_x, torch.arange(ways), image)
        done, result = attempt_with_copies(exercise, answer, *arguments)
        if not done:
            return
        given, truth = as_tensor(result), _alone(*arguments)
        if given is None:
            return wrong(exercise, f"{ways} scores were expected, this is {type(result).__name__}.")
        if close(given, truth) and given.shape == truth.shape:
            continue
        return wrong(exercise, _why_other_scores(given, truth, *arguments))
    correct(exercise, "No other query image was asked, and nothing was used that a user would not have.")


def check_parameters(answer: Callable[..., Any]) -> None:
    """Exercise 5.5, the number of parameters of the max-pooling network.

    Args:
        answer: ``count(ways, filters, image_size, channels)``, giving a number.
    """
    cases = []
    for ways, filters, size, channels in ((5, 16, 28, 1), (20, 64, 28, 1), (5, 32, 84, 3)):
        model = conv4(ways, filters=filters, image_size=size, channels=channels)
        truth = sum(p.numel() for p in model.parameters())
        last, up, first, later = size // 16, math.ceil(size / 16), 9 * channels * filters, 9 * filters**2
        head = filters * last * last * ways
        mistakes = {
            "The convolutions have no bias here: 4 x filters too many.": truth + 4 * filters,
            "Batch norm has a scale and a shift for each channel: 2 x filters in each block.": truth - 8 * filters,
            "Batch norm has two parameters for each channel, a scale and a shift.": truth - 4 * filters,
            "Batch norm's running mean and variance are no parameters: nothing learns them by gradient.": truth + 8 * filters,
            "The linear layer has a bias, one for each class.": truth - ways,
            "The linear layer is missing.": truth - head - ways,
            "The last map is not 1 x 1 for this size: halve the image's size four times.": truth - head + filters * ways,
            "A pool of 2 halves rounding down: 7 becomes 3, and 3 becomes 1.": truth - head + filters * up * up * ways,
            "Only the first convolution reads the image's channels; the others read the filters of the block before.":
                truth - 3 * later + 3 * first,
            "The first convolution reads the image's channels, not as many as there are filters.": truth - first + later,
            "Each kernel is 3 x 3: nine weights for each pair of channels.": truth - (first + 3 * later) * 8 // 9,
            "The first convolution reads every channel of the image: 9 x channels x filters.": truth - first + 9 * filters,
            "The last map has two sides: its size counts squared.": truth - head + filters * last * ways,
            "There are four convolutions, the first and three more.": truth + later,
            "There are four convolutions; one of the later ones is missing.": truth - later,
        }  # fmt: skip

        def explain(
            given: Tensor, inputs: tuple[int, ...] = (ways, filters, size, channels), truth: int = truth
        ) -> str:
            return (
                f"With the inputs {', '.join(map(str, inputs))}, {truth} is right, and this gives {given.item():.12g}."
            )

        cases.append(expect((ways, filters, size, channels), truth, mistakes, explain))
    if not judge("5.5", answer, cases, None):
        return
    ways, filters = 10**14, 2  # a linear layer that no memory holds; what counts it without making it is not disturbed
    truth = 9 * filters + 27 * filters**2 + 8 * filters + filters * ways + ways
    try:
        given = as_tensor(answer(ways, filters, 16, 1))
    except Exception:  # a network of this size fails in one way or another
        given = None
    if given is None or not close(given, torch.tensor(truth, dtype=torch.float64)):
        return wrong("5.5", "The numbers are right, but the network was made. Count it from its sizes, layer by layer.")
    correct("5.5", "Most of the weights are in the three later convolutions.")


def _read_episode(
    result: Sequence[Any], ways: int, shots: int, queries: int
) -> tuple[str | None, dict[str, list[tuple[int, int, int]]]]:
    """What is wrong with one episode by itself, and its points as (number, class, drawing), for each set."""
    tables: dict[str, list[tuple[int, int, int]]] = {}
    for name, x, y, each in (("support", *result[:2], shots), ("query", *result[2:], queries)):
        pixels, labels = as_tensor(x), as_tensor(y)
        if pixels is None or labels is None:
            return f"{name}_x and {name}_y must be tensors.", {}
        if pixels.ndim == 5 and pixels.shape[:2] == (ways, each):
            return f"{name}_x still has an axis of classes: put all its images on one axis, with flatten(0, 1).", {}
        if labels.ndim == 2 and labels.shape == (ways, each):
            return f"{name}_y still has an axis of classes: one number for each image, on one axis.", {}
        points = ways * each
        if pixels.ndim != 4 or len(pixels) != points:
            return f"{name}_x should have shape ({points}, 1, height, width), it has {tuple(pixels.shape)}.", {}
        if labels.shape != (points,):
            return f"{name}_y should have shape ({points},), it has {tuple(labels.shape)}.", {}
        codes = (pixels[:, 0, 0, 0] * 10).round().long()
        tables[name] = list(zip(labels.long().tolist(), (codes // 10).tolist(), (codes % 10).tolist(), strict=True))
    everything = tables["support"] + tables["query"]
    for name, each in (("support", shots), ("query", queries)):
        numbers, classes = [n for n, _, _ in tables[name]], [c for _, c, _ in tables[name]]
        if numbers == classes and len(set(classes)) > 1 and set(numbers) != set(range(ways)):
            return (
                "The targets are the classes' numbers in the data set: number them 0 to ways - 1 within the task.",
                {},
            )
        if len(set(classes)) != ways:
            other = f"{len(set(classes))} classes are in the {name} set, expected {ways} different ones."
            return other + (" Draw the classes without repetition." if len(set(classes)) < ways else ""), {}
        if not set(numbers) <= set(range(ways)):
            return (
                f"The targets should be numbers from 0 to {ways - 1}, they reach from {min(numbers)} to {max(numbers)}.",
                {},
            )
        if any(numbers.count(n) != each for n in range(ways)) or any(classes.count(c) != each for c in set(classes)):
            return f"Each class should have {each} images in the {name} set.", {}
        if len({(n, c) for n, c, _ in tables[name]}) != ways:
            return (
                f"In the {name} set the targets and the images do not match: one number stands for several classes.",
                {},
            )
    if {c for _, c, _ in tables["support"]} != {c for _, c, _ in tables["query"]}:
        return "The query set has other classes than the support set.", {}
    if len({(n, c) for n, c, _ in everything}) != ways:
        return "A class has one number in the support set and another in the query set.", {}
    images = [(c, d) for _, c, d in everything]
    if len(set(images)) != len(images):
        both = {(c, d) for _, c, d in tables["support"]} & {(c, d) for _, c, d in tables["query"]}
        return "An image is in both sets." if both else "An image is there twice: draw without repetition.", {}
    return None, tables


def _flaw_over_draws(drawn: Sequence[dict[str, list[tuple[int, int, int]]]]) -> str | None:
    """What is wrong with many episodes together: something that should be drawn stays the same."""
    numberings = [dict(sorted({(n, c) for n, c, _ in tables["support"]})) for tables in drawn]
    if len({frozenset(numbering.values()) for numbering in numberings}) == 1:
        return "Every episode has the same classes: draw them anew."
    if all(list(numbering.values()) == sorted(numbering.values()) for numbering in numberings):
        return "The numbers follow the order of the data set, so an early class is usually 0: number the classes at random."
    if len({d for tables in drawn for _, _, d in tables["support"]}) < DRAWINGS:
        return "The support images are always the same drawings of a class: draw them anew."
    rows = []
    for tables in drawn:
        own: dict[int, list[int]] = {}
        for _, c, d in tables["support"]:
            own.setdefault(c, []).append(d)
        rows.append({tuple(sorted(row)) for row in own.values()})
    if all(len(row) == 1 for row in rows):
        return "All classes of an episode use the same drawings: draw for each class by itself."
    return None


def _split_with_leaks() -> tuple[Tensor, Tensor, dict[int, int]]:
    """Training and test classes; for each leaking test class by how many quarter turns its copy is turned."""
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(0, 256, (6, 4, 1, 5, 5), generator=generator, dtype=torch.uint8)
    test = torch.randint(0, 256, (7, 5, 1, 5, 5), generator=generator, dtype=torch.uint8)
    turns = {1: 0, 2: 1, 4: 2, 5: 0, 6: 3}
    places = {
        1: (4, 0, 0),
        2: (3, 2, 1),
        4: (2, 4, 3),
        5: (5, 3, 2),
        6: (2, 1, 0),
    }  # training class, drawings of test and train
    for number, (source, to, drawing) in places.items():
        test[number, to] = train[source, drawing].rot90(turns[number], (-2, -1))
    test[MIRRORED, :2] = torch.stack([train[1, 2].flip(-1), train[4, 1].flip(-2)])
    return train, test, turns


def _numbers(result: Any, classes: int) -> list[int] | None:
    """Class numbers in ascending order, from a list, set, dict, tensor or mask; ``None`` where that cannot be done."""
    if isinstance(result, (set, frozenset, dict)):
        result = list(result)
    tensor = as_tensor(result)
    if tensor is None or tensor.ndim != 1:
        return None
    mask = (isinstance(result, Tensor) and result.dtype == torch.bool) or (
        isinstance(result, (list, tuple)) and len(result) == classes and all(isinstance(x, bool) for x in result)
    )
    if mask and tensor.shape == (classes,):
        return [int(i) for i in tensor.nonzero().flatten()]
    return sorted({int(x) for x in tensor.flatten()})


def _why_other_leaks(given: list[int], turns: dict[int, int]) -> str:
    truth = sorted(turns)
    unturned, missed, extra = [n for n in truth if turns[n] == 0], set(truth) - set(given), set(given) - set(truth)
    if given == [2, 3, 4, 5]:
        return "These are the numbers of the training classes; the test classes are asked for."
    if given == unturned:
        return "Turned copies are missed: compare with the drawing turned by 90, 180 and 270 degrees as well."
    if not given:
        return "Nothing was found. Compare every drawing of a test class with every drawing of every training class."
    if given == [1]:
        return "Only a copy at the same place was found: compare every drawing with every drawing."
    if not extra and all(turns[n] != 2 for n in given):
        return "The turn by 180 degrees is missed."
    if not extra and (all(turns[n] != 3 for n in given) or all(turns[n] != 1 for n in given)):
        return "One direction of the quarter turn is missed: turn by 90, 180 and 270 degrees."
    if extra and not missed and extra == {MIRRORED}:
        return f"Test class {MIRRORED} has mirrored copies only, and they are no leak here: turn, do not mirror."
    if extra and not missed:
        return f"Test class {min(extra)} has no drawing in common with training, turned or not."
    return f"Test class {min(missed)} leaks and is not found." if missed else f"Expected {truth}, got {given}."


def _alone(learner: Learner, support_x: Tensor, support_y: Tensor, image: Tensor) -> Tensor:
    adapted = learner.adapt(support_x, support_y)[-1]
    with torch.no_grad():
        return learner.predict(torch.cat([image[None], support_x]), adapted)[0]  # (ways,)


def _why_other_scores(
    given: Tensor, truth: Tensor, learner: Learner, support_x: Tensor, support_y: Tensor, image: Tensor
) -> str:
    ways, path = len(support_x), learner.adapt(support_x, support_y)
    if close(given, truth):
        return f"The numbers are right, the shape is {tuple(given.shape)}: one image was asked for, so take its row, ({ways},)."
    if close(given, truth.softmax(0)) or close(given, truth.log_softmax(0)):
        return "These are probabilities, or their logarithms; return the network's own scores, without a softmax."
    batch = torch.cat([image[None], support_x])  # (1 + ways, 1, height, width)
    with torch.no_grad():
        together = learner.predict(batch, path[-1])  # (1 + ways, ways)
        others = {
            "The image is answered alone, with its own statistics: put the support images into the batch.":
                learner.predict(image[None], path[-1])[0],
            "The network has not adapted: these are the scores with the initialisation.": learner.predict(batch, path[0])[0],
            "The network has not adapted, and the image stands alone in the batch.": learner.predict(image[None], path[0])[0],
            "The network took one inner step; adapt returns the whole path; return the scores at its last entry.":
                learner.predict(batch, path[1])[0],
            "The support images are in the batch twice; put each in once.":
                learner.predict(torch.cat([batch, support_x]), path[-1])[0],
            "These are the scores of a support image: take the row in which the image is.": together[-1],
            "These are the scores of the first support image: take the row in which the image is.": together[1],
        }  # fmt: skip
    if given.numel() == 1 and ways > 1:
        if given.item() == together[0].argmax().item():
            return "This is the class; return the scores of all classes, before the argmax."
        return f"{ways} scores were expected, this is one number."
    if given.squeeze().shape == together.shape:
        return "These are the scores of the whole batch: return the row of the image alone."
    for message, scores in others.items():
        if any(close(given, wrong_one) for wrong_one in (scores, scores.softmax(0))):
            return message
    if given.squeeze().shape != (ways,):
        return f"{ways} scores were expected, this has shape {tuple(given.shape)}."
    return "These are not the scores of the image beside the support images, with the adapted parameters."


def check_prototypes(answer: Callable[..., Any]) -> None:
    """Exercise 5.6, the scores of ProtoNet for any number of shots.

    Args:
        answer: ``prototype_scores(support, support_y, query, ways)``, with features ``(points, D)`` and the support in any
            order, giving ``(query points, ways)``.
    """
    exercise, cases = "5.6", []
    for seed, (ways, shots, queries) in enumerate(((3, 4, 5), (4, 2, 7))):
        generator = torch.Generator().manual_seed(seed)
        support_y = torch.arange(ways).repeat(shots)[torch.randperm(ways * shots, generator=generator)]
        points = torch.randn(ways * shots + queries, 6, generator=generator, dtype=torch.float64)
        support, query = points[: ways * shots], points[ways * shots :]  # (points, D) each
        member = torch.nn.functional.one_hot(support_y, ways).double().T  # (ways, points)
        prototypes = member @ support / shots  # (ways, D)

        def score(means: Tensor, query: Tensor = query) -> Tensor:
            return -(query[:, None] - means).square().sum(-1)  # (query points, ways)

        truth, single = score(prototypes), score(support)
        own = [single[:, row.bool()] for row in member]  # (query points, shots) for each class
        mistakes = {
            "The support set is taken to be sorted by class: use support_y to find the images of a class.":
                score(support.view(ways, shots, -1).mean(1)),
            "The support set is taken to come in rounds of one image per class: use support_y.":
                score(support.view(shots, ways, -1).mean(0)),
            "The prototype is the mean of a class's features, not their sum.": score(member @ support),
            "The sign is missing: the nearest class needs the highest score.": -truth,
            "The distances are not squared.": -(-truth).sqrt(),
            "The distances are not squared, and the sign is missing.": (-truth).sqrt(),
            "This is the distance to the nearest support image; take the distance to the mean of the class.":
                torch.stack([part.max(1).values for part in own], 1),
            "This is the mean of the distances; take the distance to the mean. (They differ by the spread of the class.)":
                torch.stack([part.mean(1) for part in own], 1),
            "The squares are averaged over the features; a squared distance is their sum.": truth / 6,
            "These are inner products; the squared distance is asked for.": query @ prototypes.T,
            "This lacks the squared length of f(x): the ranking is right, the distance is not.":
                truth + query.square().sum(1, keepdim=True),
            "These are probabilities; the cross-entropy takes the softmax itself.": truth.softmax(1),
            "These are logarithms of probabilities; the cross-entropy takes the softmax itself.": truth.log_softmax(1),
            "The axes have changed places: one row per query point, one column per class.": truth.T,
        }  # fmt: skip
        cases.append(expect((support, support_y, query, ways), truth, mistakes))
    if not judge(exercise, answer, cases, None):
        return
    support, support_y, query, ways = cases[0].arguments
    inputs = [support.clone().requires_grad_(), query.clone().requires_grad_()]
    scores = answer(inputs[0], support_y.clone(), inputs[1], ways)
    if not isinstance(scores, Tensor) or not scores.requires_grad:
        return wrong(exercise, "The numbers are right, but no gradient reaches the features: nothing could be learned.")
    reached = torch.autograd.grad(scores.square().sum(), inputs, allow_unused=True)
    if any(gradient is None for gradient in reached):
        return wrong(exercise, "No gradient reaches the support features: the prototypes must stay in the graph.")
    correct(exercise, "A mean per class, whatever the order, and a gradient for both sets.")
