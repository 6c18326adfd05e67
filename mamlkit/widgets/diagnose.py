"""Learners to diagnose from their symptoms, beside a right one (figure of chapter 12).

The curves are those of the record "find-the-bug", which ``python -m mamlkit.recipes.find_the_bug`` made: the meta-loss on the
way, the loss of unseen tasks per inner step, and the numbers that autograd keeps by K. The figure draws them, and judges the
reader's answer.
"""

from __future__ import annotations

from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from mamlkit.pretrained import recorded
from mamlkit.widgets._assets import figure_module, style_sheet

__all__ = ["Diagnose", "symptoms_of"]

#: What may be wrong: its name in the record, in words, what one would see if it were that, and what one sees since it is.
SUSPECTS = (
    (
        "no graph",
        "the inner gradients are constants",
        "the memory would not grow with K",
        "The memory does not grow with K. No graph of the inner steps is kept, so create_graph=True is missing somewhere.",
    ),
    (
        "two losses",
        "training and evaluation have two inner loops",
        "the training loss would be that of the right learner, and yet unseen tasks would adapt far too slowly or too fast",
        "It trains as the right learner does, and its unseen tasks adapt far too slowly: the evaluation takes other steps.",
    ),
    (
        "copy",
        "the gradient goes to a copy of the weights",
        "the training loss would stay where it began",
        "The training loss stays where it began. Tasks start from weights that no outer step has moved.",
    ),
    (
        "chain",
        "a task starts where the one before it ended",
        "the training loss would begin like the right one and end above it, while the evaluation, task by task, hardly shows it",
        "The training loss begins like the right one and ends above it, and the evaluation, task by task, hardly shows it. In a "
        "meta-batch something is carried from task to task.",
    ),
    (
        "sum",
        "the losses of the five tasks are added up",
        "the training loss would be about five times the right one, from the first steps on",
        "The training loss is about five times the right one, from the first steps on. Adam rescales its steps, so that nothing "
        "else is different.",
    ),
    (
        "leak",
        "the query set of training is the support set",
        "the training loss would begin below the right one, and unseen tasks would be worse",
        "The training loss begins below the right one, and unseen tasks are worse: it is judged on the points that it adapts to.",
    ),
    (
        "right",
        "nothing: it is well",
        "the two lines of each picture would end together",
        "The two lines of each picture end together, as far as seeds allow. It is the right learner, with other seeds.",
    ),
)
#: In the order in which a reader meets them.
PATIENTS = ("sum", "no graph", "right", "leak", "copy", "chain", "two losses")


def symptoms_of(learner: str, healthy: bool = False) -> dict[str, Tensor]:
    """What is seen of one learner of the record.

    Args:
        learner: its name in the record, such as ``"right"`` or ``"no graph"``.
        healthy: take the second half of the right learner's seeds, which no other learner shares.

    Returns:
        A dictionary. Under "training" (3, points) and "steps" (3, 2 K + 1) are mean, lowest and highest loss over the seeds;
        under "memory" (values of K,) the numbers kept.

    Raises:
        ValueError: for a learner that is not in the record.
    """
    record = recorded("find-the-bug")
    if learner not in record["learners"]:
        raise ValueError(f"expected one of {', '.join(map(repr, record['learners']))}, got {learner!r}")
    first = record["seeds"] if healthy else 0
    rows = [
        row for row in record["rows"] if row["learner"] == learner and first <= row["seed"] < first + record["seeds"]
    ]
    found = {"memory": torch.tensor(record["memory"][learner], dtype=torch.float64)}
    for symptom in ("training", "steps"):
        values = torch.tensor([row[symptom] for row in rows], dtype=torch.float64)  # (seeds, points)
        found[symptom] = torch.stack([values.mean(0), values.amin(0), values.amax(0)])
    return found


def _numbers(symptoms: dict[str, Tensor]) -> dict[str, Any]:
    return {
        name: [[round(x, 4) for x in row] for row in values.reshape(-1, values.shape[-1]).tolist()]
        for name, values in symptoms.items()
    }


class Diagnose(anywidget.AnyWidget):
    """Live figure: seven learners, one of them well; read their symptoms beside the right learner's, and say what is wrong.

    Args:
        patient: which learner is shown, from 0 to 6.

    Raises:
        traitlets.TraitError: if patient is another.
    """

    _esm = figure_module("diagnose")
    _css = style_sheet()
    patient = traitlets.Int(0, min=0, max=len(PATIENTS) - 1, help="which learner is shown").tag(sync=True)
    guesses = traitlets.List(
        traitlets.List(traitlets.Int()), help="numbers of the suspects named, for each learner"
    ).tag(sync=True)
    suspects = traitlets.List(traitlets.Dict(), read_only=True, help="name, sign and explanation of each bug").tag(
        sync=True
    )
    answers = traitlets.List(traitlets.Int(), read_only=True, help="which suspect it is, for each learner").tag(
        sync=True
    )
    right = traitlets.Dict(read_only=True, help="the right learner's symptoms").tag(sync=True)
    patients = traitlets.List(traitlets.Dict(), read_only=True, help="the symptoms of each learner").tag(sync=True)
    axes = traitlets.Dict(read_only=True, help="outer steps, inner steps, values of K").tag(sync=True)

    def __init__(self, patient: int = 0) -> None:
        record = recorded("find-the-bug")
        names = [suspect[0] for suspect in SUSPECTS]
        half, points = record["block"] / 2, record["outer_steps"] // record["block"]
        super().__init__(patient=patient, guesses=[[] for _ in PATIENTS])
        for trait, value in {
            "suspects": [{"name": name, "sign": sign, "why": why} for _, name, sign, why in SUSPECTS],
            "answers": [names.index(name) for name in PATIENTS],
            "right": _numbers(symptoms_of("right")),
            "patients": [_numbers(symptoms_of(name, healthy=name == "right")) for name in PATIENTS],
            "axes": {
                "training": [half + record["block"] * i for i in range(points)],
                "steps": list(range(2 * record["inner_steps"] + 1)),
                "memory": list(record["memory_steps"]),
            },
        }.items():
            self.set_trait(trait, value)

    def __repr__(self) -> str:
        """What there is to diagnose, the same in every run."""
        return f"Diagnose({len(self.patients)} learners)"
