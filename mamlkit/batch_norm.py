"""Batch norm that knows which inner step it is in: Antoniou et al., 2019, arXiv:1810.09502, section 4 (BNWB and BNRS).

The features of a network change from inner step to inner step, so MAML++ gives each step its own scale and shift, and its own
running statistics. Any model with ``nn.BatchNorm*`` layers works: when it is called in step k, row k replaces their tensors.
Steps beyond K, at evaluation, take the row of step K.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mamlkit.arguments import expect_at_least, expect_kind, expect_switch
from mamlkit.functional import batch_norm_layers, key_of, name_of, parameters_of

__all__ = ["PerStepBatchNorm"]


class PerStepBatchNorm(nn.Module):
    """Weights and statistics for every batch-norm layer of a model, one row for each inner step.

    Args:
        model: with at least one batch-norm layer.
        steps: K.
        weights: give each step its own scale gamma and shift beta, unless these are frozen; meta-learned and not adapted.
        statistics: give each step its own running mean and variance, collected from the query passes of meta-training.

    Raises:
        ValueError: if there is no batch-norm layer, or one that lacks what each step is to have.
    """

    def __init__(self, model: nn.Module, steps: int, *, weights: bool, statistics: bool) -> None:
        super().__init__()
        self.steps = expect_at_least("steps", steps, 1)
        if not any([expect_switch("weights", weights), expect_switch("statistics", statistics)]):
            raise ValueError("expected weights or statistics, or both, got neither")
        layers = batch_norm_layers(expect_kind("model", model, nn.Module))
        if not layers:
            raise ValueError(f"expected a model with batch-norm layers, got {type(model).__name__} without any")
        self._rows = nn.ParameterDict()
        for name, layer in layers.items():
            if weights:
                if not layer.affine:
                    raise ValueError(f"expected batch norm {name!r} to have weights (affine=True), got none")
                for part, value in parameters_of(layer).items():  # what is frozen stays so
                    self._rows[key_of(f"{name}.{part}")] = nn.Parameter(_rows(value, steps))  # (steps, channels)
            if statistics:
                if layer.running_mean is None or layer.running_var is None:
                    raise ValueError(f"expected batch norm {name!r} to track running statistics, got one that does not")
                if layer.momentum is None:
                    raise ValueError(
                        f"expected batch norm {name!r} with a momentum, got the mean over all batches (None)"
                    )
                self.register_buffer(
                    key_of(f"{name}.running_mean"), _rows(layer.running_mean, steps)
                )  # (steps, channels)
                self.register_buffer(
                    key_of(f"{name}.running_var"), _rows(layer.running_var, steps)
                )  # (steps, channels)

    @property
    def weight_names(self) -> set[str]:
        """Names of the model's parameters that the rows stand in for."""
        return {name_of(key) for key in self._rows}

    @property
    def has_statistics(self) -> bool:
        """Whether each step has its own running mean and variance."""
        return bool(self._buffers)

    def weights(self, step: int) -> dict[str, Tensor]:
        """Scale and shift of inner step ``step`` (from 0), each ``(channels,)``, by the model's names."""
        row = min(step, self.steps - 1)
        return {name_of(key): rows[row] for key, rows in self._rows.items()}

    def statistics(self, step: int) -> dict[str, Tensor]:
        """Running mean and variance of inner step ``step``: views, so that batch norm adds to them in place."""
        row = min(step, self.steps - 1)
        return {name_of(key): rows[row] for key, rows in self._buffers.items() if rows is not None}

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"steps={self.steps}, weights={bool(self._rows)}, statistics={self.has_statistics}"


def _rows(value: Tensor, steps: int) -> Tensor:
    return value.detach().expand(steps, *value.shape).clone(memory_format=torch.contiguous_format)
