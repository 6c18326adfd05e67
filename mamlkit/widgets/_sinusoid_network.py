"""What the figures of sinusoids share: a start of the 1-40-40-1 network adapted by autograd, its packing, and support points."""

import base64
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import mse_loss

from mamlkit.data.sinusoids import sinusoid
from mamlkit.inner_loop import Parameters, adapt
from mamlkit.models import mlp


def named(start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The six parameters of a start, weight before bias by any names, under the model's own names, in float64."""
    return {name: value.detach().double() for name, value in zip(mlp(seed=0).state_dict(), start.values(), strict=True)}


def adapted_curves(
    start: Mapping[str, Tensor], amplitude: float, phase: float, support_x: Any, *, steps: int, alpha: float
) -> tuple[list[Parameters], Tensor, Tensor]:
    """Inner steps from a start on the sinusoid ``amplitude * sin(x - phase)``, in float64.

    Returns:
        The parameters after 0, 1, ..., K steps; ``(K + 1, 201)`` the outputs over ``line()``; ``(K + 1,)`` their squared error,
        the mean over the line.
    """
    a, b = torch.tensor(amplitude, dtype=torch.float64), torch.tensor(phase, dtype=torch.float64)
    x = line()[:, None]  # (201, 1)
    support_x = torch.as_tensor(support_x, dtype=torch.float64)[:, None]  # (points, 1)
    support_y = sinusoid(support_x, a, b)  # (points, 1)
    model = mlp(seed=0).double()
    path = adapt(
        model, support_x, support_y, loss=mse_loss, steps=steps, step_sizes=alpha, parameters=named(start), order=0
    )
    with torch.no_grad():
        outputs = torch.stack([functional_call(model, dict(step), (x,)) for step in path])  # (K + 1, 201, 1)
    return path, outputs[..., 0], (outputs - sinusoid(x, a, b)).square().mean((1, 2))


def line() -> Tensor:
    """(201,) the inputs from -5 to 5 over which a figure draws and judges."""
    return torch.linspace(-5, 5, 201, dtype=torch.float64)


def packed(start: Mapping[str, Tensor]) -> str:
    """All parameters one after the other as base64 of little-endian float32.

    Raises:
        ValueError: if they are those of a different network.
    """
    expected = [tuple(value.shape) for value in mlp(seed=0).state_dict().values()]
    found = [tuple(value.shape) for value in start.values()]
    if found != expected:
        raise ValueError(f"expected the parameters of a 1-40-40-1 network, of shapes {expected}, got {found}")
    flat = torch.cat([value.detach().flatten() for value in start.values()])
    return base64.b64encode(flat.numpy().astype("<f4").tobytes()).decode("ascii")


def drawn_points(count: int) -> list[float]:
    """The inputs of the support points that a figure begins with."""
    generator = torch.Generator().manual_seed(0)
    return [round(value, 3) for value in (torch.rand(count, generator=generator) * 10 - 5).tolist()]
