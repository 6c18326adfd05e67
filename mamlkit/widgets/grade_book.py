r"""The grade book: two trajectories, and what MAML and MAML++ see of each (figure of chapter 6).

Of the query losses after steps 1 to K, an outer loop sees the one number

$$\sum_{k=1}^{K} w_k\, \mathcal L^{q}(\theta^{(k)}).$$

MAML has $w = (0, \dots, 0, 1)$. MAML++ begins with equal weights and anneals them towards the last step. With the scores of a
student in place of the losses, the same sum is the final grade.

The function below takes its weights from ``mamlkit.AnnealedMultiStep``; the figure computes them in the browser. A test holds
the two to the same numbers.
"""

import math
from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from mamlkit.outer_loss import AnnealedMultiStep, FinalStep
from mamlkit.widgets._assets import figure_module, style_sheet

__all__ = ["GradeBook", "grades_seen"]

ANNEALING_EPOCHS = 10
STUDENTS = ((45.0, 95.0, 30.0, 20.0, 75.0), (60.0, 68.0, 72.0, 75.0, 78.0))  # invented
KINDS = ("scores", "losses")


def grades_seen(values: Any, epoch: int = 0) -> dict[str, Tensor]:
    """What MAML and MAML++ see of each trajectory.

    Args:
        values: (rows, K) scores or query losses after steps 1 to K; a tensor, or nested lists (then float64).
        epoch: of MAML++'s annealing, counted from 0 (equal weights); from epoch 10 on only the last step counts.

    Returns:
        A dictionary. Under "weights" are (K,) the weights of MAML++ in this epoch, under "maml" and "maml++" (rows,) what each
        sees.

    Raises:
        ValueError: if values have no rows and columns, or epoch is negative.
    """
    table = torch.as_tensor(values, dtype=None if isinstance(values, Tensor) else torch.float64)  # (rows, K)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"expected values of shape (rows, steps), got {tuple(table.shape)}")
    steps = table.shape[1]
    weights = AnnealedMultiStep(ANNEALING_EPOCHS).weights(steps, epoch).to(table)  # (K,)
    return {"weights": weights, "maml": table @ FinalStep().weights(steps).to(table), "maml++": table @ weights}


class GradeBook(anywidget.AnyWidget):
    """Live figure: drag the scores of two students, or the losses of two tasks, and read what MAML and MAML++ see.

    Args:
        rows: (2, K) the two trajectories, K from 2 to 8; the students of chapter 6 when not given.
        kind: "scores", of which more is better, up to 100; or "losses", of which less is better.
        epoch: of MAML++'s annealing, from 0 to 10.

    Raises:
        ValueError: if rows are not two of equal length, or hold a number that is negative, not finite, or a score above 100.
        traitlets.TraitError: if kind or epoch is another.
    """

    _esm = figure_module("grade_book")
    _css = style_sheet()
    rows = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    kind = traitlets.Enum(KINDS, default_value="scores").tag(sync=True)
    epoch = traitlets.Int(0, min=0, max=ANNEALING_EPOCHS).tag(sync=True)
    top = traitlets.Float(100.0, read_only=True).tag(sync=True)
    annealing = traitlets.Dict(
        default_value={"epochs": ANNEALING_EPOCHS, "floor": AnnealedMultiStep.floor}, read_only=True
    ).tag(sync=True)

    def __init__(self, rows: Any = STUDENTS, kind: str = "scores", epoch: int = 0) -> None:
        table = [[float(value) for value in row] for row in rows]
        if len(table) != 2 or len(table[0]) != len(table[1]) or not 2 <= len(table[0]) <= 8:
            raise ValueError(f"expected two rows of 2 to 8 values, got {[len(row) for row in table]}")
        values = table[0] + table[1]
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"expected finite values >= 0, got {table}")
        if kind == "scores" and max(values) > 100:
            raise ValueError(f"expected scores from 0 to 100, got {max(values)}")
        super().__init__(rows=table, kind=kind, epoch=epoch)
        self.set_trait("top", 100.0 if kind == "scores" else float(max(1, math.ceil(1.1 * max(values)))))

    def grades(self) -> dict[str, Tensor]:
        """What the figure shows now: see grades_seen."""
        return grades_seen(self.rows, self.epoch)

    def __repr__(self) -> str:
        """The figure's settings, the same in every run."""
        return f"GradeBook(kind={self.kind!r}, epoch={self.epoch})"
