"""The torch function behind the figure of a meta-training, against a loop of its own, and what the figure refuses."""

import pytest
import torch
import traitlets

from mamlkit import mlp
from mamlkit.widgets import MetaTraining, errors_in_training

STARTS = {0: mlp(seed=1).state_dict(), 400: mlp(seed=2).state_dict(), 70_000: mlp(seed=3).state_dict()}
POINTS = [-4.0, -3.0, -2.2, -1.0, 0.0, 0.3, 1.0, 2.5, 3.0, 4.8]


def network(p, x):
    w1, b1, w2, b2, w3, b3 = p
    return torch.relu(torch.relu(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3


def test_errors_against_a_loop_of_its_own():
    errors = errors_in_training(STARTS, 3.0, 0.5, POINTS)
    assert errors.shape == (3, 6) and errors.dtype == torch.float64
    x = torch.tensor(POINTS, dtype=torch.float64)[:, None]
    line = torch.linspace(-5, 5, 201, dtype=torch.float64)[:, None]
    for found, start in zip(errors, STARTS.values(), strict=True):
        p = [value.double().requires_grad_() for value in start.values()]
        for k in range(6):
            error = (network(p, line) - 3 * (line - 0.5).sin()).square().mean()
            assert found[k].item() == pytest.approx(error.item(), rel=1e-10)
            loss = (network(p, x) - 3 * (x - 0.5).sin()).square().mean()
            slopes = torch.autograd.grad(loss, p)
            p = [(w - 0.01 * g).detach().requires_grad_() for w, g in zip(p, slopes, strict=True)]


def test_figure_says_what_it_shows_and_agrees_with_its_function():
    figure = MetaTraining(STARTS, moment=1, inner_steps=2, amplitude=3.0, phase=0.5, points=POINTS)
    assert repr(figure) == "MetaTraining(3 starts, outer step 400, inner_steps=2)"
    torch.testing.assert_close(figure.errors(), errors_in_training(STARTS, 3.0, 0.5, POINTS))


def test_names_of_the_parameters_do_not_matter():
    renamed = {step: dict(zip("abcdef", start.values(), strict=True)) for step, start in STARTS.items()}
    assert MetaTraining(renamed).weights == MetaTraining(STARTS).weights


@pytest.mark.parametrize("starts", [{}, {0: STARTS[0]}, {400: STARTS[400], 0: STARTS[0]}])
def test_starts_that_are_no_training_are_refused(starts):
    with pytest.raises(ValueError, match=r"^expected at least two starts, by outer step in rising order, got"):
        MetaTraining(starts)


def test_a_different_network_is_refused():
    other = {step: mlp((1, 20, 20, 1), seed=step).state_dict() for step in (0, 1)}
    with pytest.raises(ValueError, match=r"^expected the parameters of a 1-40-40-1 network"):
        MetaTraining(other)


@pytest.mark.parametrize(
    "settings", [{"moment": 3}, {"moment": -1}, {"inner_steps": 6}, {"amplitude": 6.0}, {"points": [0.0]}]
)
def test_values_outside_the_bounds_are_refused(settings):
    with pytest.raises(traitlets.TraitError):
        MetaTraining(STARTS, **settings)
