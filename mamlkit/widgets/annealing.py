r"""Two trajectories of query losses, weighed as the outer loss of MAML++ weighs them (figure of chapter 7).

In epoch $e$ a trajectory $\ell_1, \dots, \ell_K$ counts as

$$\sum_{k=1}^K w_k(e)\, \ell_k ,$$

with the weights of ``AnnealedMultiStep``. The function below takes them from there; the figure computes them in the browser. A
test holds the two to the same numbers. The trajectories are invented: A overshoots and comes back, B falls slowly and ends lower.
"""

from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from mamlkit.outer_loss import AnnealedMultiStep
from mamlkit.widgets._assets import figure_module, style_sheet

__all__ = ["Annealing", "annealed_losses"]

# The one place of the constants: the figure gets them as traits.
TASK_A, TASK_B, START = (1.2, 0.3, 1.8, 1.5, 0.8), (2.1, 1.8, 1.3, 0.9, 0.6), 2.5
MAX_LOSS, MAX_EPOCH, MAX_EPOCHS = 3.0, 20, 15


def annealed_losses(trajectories: Any, epoch: int, epochs: int) -> Tensor:
    """What the annealed multi-step loss makes of each trajectory in one epoch (Antoniou et al., 2019, section 4).

    Args:
        trajectories: (tasks, K) the query loss of each task after 1, ..., K steps; a tensor, or lists of numbers (then float64).
        epoch: e, from 0.
        epochs: E, after which only the last step counts.

    Returns:
        (tasks,) the weighted losses.

    Raises:
        ValueError: if epoch is negative, epochs is below 1, or the trajectories are not a table.
    """
    losses = torch.as_tensor(trajectories, dtype=None if isinstance(trajectories, Tensor) else torch.float64)
    if losses.ndim != 2:
        raise ValueError(f"expected trajectories of shape (tasks, steps), got {tuple(losses.shape)}")
    weights = AnnealedMultiStep(epochs).weights(losses.shape[1], epoch)  # (K,)
    return losses @ weights.to(losses)


class Annealing(anywidget.AnyWidget):
    """Live figure: move the epoch, or the points of two trajectories, and watch which one the outer loop prefers.

    Args:
        epoch: e, from 0 to 20.
        epochs: E, the epoch from which only the last step counts, from 1 to 15.
        inner_steps: number K of inner steps that are shown and weighed, from 1 to 5.
        task_a: query losses of task A after 1 to 5 steps, each from 0 to 3.
        task_b: query losses of task B.

    Raises:
        traitlets.TraitError: if a value is outside these bounds.
    """

    _esm = figure_module("annealing")
    _css = style_sheet()
    epoch = traitlets.Int(0, min=0, max=MAX_EPOCH).tag(sync=True)
    epochs = traitlets.Int(10, min=1, max=MAX_EPOCHS).tag(sync=True)
    inner_steps = traitlets.Int(5, min=1, max=5).tag(sync=True)
    task_a = traitlets.List(traitlets.Float(min=0.0, max=MAX_LOSS), default_value=list(TASK_A), minlen=5, maxlen=5).tag(
        sync=True
    )
    task_b = traitlets.List(traitlets.Float(min=0.0, max=MAX_LOSS), default_value=list(TASK_B), minlen=5, maxlen=5).tag(
        sync=True
    )
    constants = traitlets.Dict(
        default_value={"start": START, "maxLoss": MAX_LOSS, "maxEpoch": MAX_EPOCH, "floor": AnnealedMultiStep.floor},
        read_only=True,
    ).tag(sync=True)

    def weights(self) -> Tensor:
        """The weights (K,) that the figure shows now."""
        return AnnealedMultiStep(self.epochs).weights(self.inner_steps, self.epoch)

    def losses(self, epoch: int | None = None) -> Tensor:
        """The weighted losses (2,) of A and B in an epoch; the one that the figure shows when not given."""
        shown = [task[: self.inner_steps] for task in (self.task_a, self.task_b)]
        return annealed_losses(shown, self.epoch if epoch is None else epoch, self.epochs)

    def __repr__(self) -> str:
        """The figure's settings, the same in every run."""
        return f"Annealing(epoch={self.epoch}, epochs={self.epochs}, inner_steps={self.inner_steps})"
