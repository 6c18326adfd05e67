"""Ways to test one training: how many query images per class, one checkpoint or several, and who else batch norm sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from mamlkit.configuration import Configuration
from mamlkit.evaluation import evaluate_ensemble, interval
from mamlkit.learners import Learner
from mamlkit.randomness import TEST_SEED
from mamlkit.tasks import TaskBatch, TaskStream

__all__ = ["QUERIES", "answered_alone", "measure_protocols"]

QUERIES = (1, 5)  # a class; one in the test of the MAML and MAML++ authors
CHUNK = 50  # tasks held at a time


def measure_protocols(
    learners: Sequence[Learner], chosen: Configuration, test_tasks: int, steps: int
) -> list[dict[str, Any]]:
    """Test accuracies of the best checkpoint, and of the mean output of all of them, under several protocols.

    Args:
        learners: of a run's checkpoints, best first.
        chosen: the run.
        test_tasks: how many tasks.
        steps: inner steps at test.

    Returns:
        A row for each: ``checkpoints``, ``queries`` per class, ``statistics`` (``"query set"``, transductive, or
        ``"support set and one image"``, inductive), ``accuracy`` and ``ci95`` over tasks.
    """
    rows = []
    for together in [learners[:1], learners][: len(learners)]:  # one checkpoint alone is all of them
        for queries in QUERIES:
            tasks = _test_batch(chosen, queries, test_tasks)
            found = evaluate_ensemble(together, tasks, steps=steps, chunk=CHUNK).accuracies
            assert found is not None  # images have classes
            rows.append(_row(together, queries, "query set", found[-1]))
        alone = answered_alone(together, _test_batch(chosen, QUERIES[0], test_tasks), steps)
        rows.append(_row(together, QUERIES[0], "support set and one image", alone))
    return rows


def answered_alone(learners: Sequence[Learner], tasks: TaskBatch, steps: int) -> torch.Tensor:
    """Accuracy of each task ``(tasks,)`` when no query image sees another: its batch is the support images and itself.

    The mean output of several learners decides, as in ``evaluate_ensemble``.
    """
    hits = []
    for first in range(0, tasks.num_tasks, CHUNK):
        part = tasks.select(slice(first, first + CHUNK))
        queries = part.query_y.shape[1]
        support_x, support_y = (each.repeat_interleave(queries, 0) for each in (part.support_x, part.support_y))
        image = part.query_x.flatten(0, 1).unsqueeze(1)  # (tasks * query, 1, *input)
        label = part.query_y.reshape(-1, 1)  # (tasks * query, 1)
        company = TaskBatch(support_x, support_y, torch.cat([support_x, image], 1), torch.cat([support_y, label], 1))
        each = [learner.query_outputs(company, steps)[-1, :, -1] for learner in learners]  # (tasks * query, ways)
        right = torch.stack(each).mean(0).argmax(1) == label[:, 0]  # (tasks * query,)
        hits.append(right.view(-1, queries).double().mean(1))
    return torch.cat(hits)


def _test_batch(chosen: Configuration, queries: int, test_tasks: int) -> TaskBatch:
    tasks = dataclasses.replace(chosen.tasks, test_queries=queries)
    source = dataclasses.replace(chosen, tasks=tasks).build_tasks("test")
    return TaskStream(source, test_tasks, seed=TEST_SEED).batch(0).to(chosen.device)


def _row(learners: Sequence[Learner], queries: int, statistics: str, accuracies: torch.Tensor) -> dict[str, Any]:
    found = interval(accuracies)
    return {
        "checkpoints": len(learners),
        "queries": queries,
        "statistics": statistics,
        "accuracy": round(found.mean, 5),
        "ci95": round(found.half_width, 5),
    }
