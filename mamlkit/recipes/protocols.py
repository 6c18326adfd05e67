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
    for together in (learners[:1], learners) if len(learners) > 1 else (learners,):
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
    rows = []
    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
        adapted = [learner.adapt(support_x, support_y, steps)[-1] for learner in learners]
        answers = []
        for image in query_x.split(1):  # (1, *input)
            company = torch.cat([support_x, image])  # (support + 1, *input)
            with torch.no_grad():
                pairs = zip(learners, adapted, strict=True)
                outputs = [learner.predict(company, weights, steps)[-1] for learner, weights in pairs]  # (ways,) each
            answers.append(torch.stack(outputs).mean(0).argmax())
        rows.append((torch.stack(answers) == query_y).double().mean())
    return torch.stack(rows)


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
