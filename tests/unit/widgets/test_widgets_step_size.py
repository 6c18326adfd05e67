"""The torch function behind the figure of the step size, against a Hessian written out and a loop of its own."""

import pytest
import torch
import traitlets

from mamlkit import mlp, pretrained
from mamlkit.widgets import StepSize, curvature_and_losses

START = mlp().state_dict() | pretrained("sinusoid-maml")
POINTS = [-4.0, -3.0, -2.2, -1.0, 0.0, 0.3, 1.0, 2.5, 3.0, 4.8]


def network(flat, x):
    w1, b1, w2, b2, w3, b3 = flat.split([40, 40, 1600, 40, 40, 1])
    hidden = torch.relu(torch.relu(x @ w1.view(1, 40) + b1) @ w2.view(40, 40).T + b2)
    return hidden @ w3.view(40, 1) + b3


def test_curvature_is_the_largest_eigenvalue_and_losses_those_of_plain_descent():
    found = curvature_and_losses(START, 0.02, 3.0, 0.5, POINTS)
    flat = torch.cat([value.double().flatten() for value in START.values()])
    x, line = (
        torch.tensor(POINTS, dtype=torch.float64)[:, None],
        torch.linspace(-5, 5, 201, dtype=torch.float64)[:, None],
    )

    def loss(p):
        return (network(p, x) - 3 * (x - 0.5).sin()).square().mean()

    eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))
    assert found["curvature"] == pytest.approx(eigenvalues[eigenvalues.abs().argmax()].item(), rel=1e-3)
    for k in range(11):
        assert found["support"][k].item() == pytest.approx(loss(flat).item(), rel=1e-9)
        error = (network(flat, line) - 3 * (line - 0.5).sin()).square().mean()
        assert found["line"][k].item() == pytest.approx(error.item(), rel=1e-9)
        flat = flat - 0.02 * torch.func.grad(loss)(flat)


def test_figure_says_what_it_shows_and_agrees_with_its_function():
    figure = StepSize(START, alpha=0.02, amplitude=3.0, phase=0.5, points=POINTS)
    assert repr(figure) == "StepSize(alpha=0.02, amplitude=3.0, phase=0.5)"
    torch.testing.assert_close(figure.values(), curvature_and_losses(START, 0.02, 3.0, 0.5, POINTS))


def test_a_different_network_is_refused():
    with pytest.raises(ValueError, match=r"^expected the parameters of a 1-40-40-1 network"):
        StepSize(mlp((1, 20, 20, 1)).state_dict())


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"alpha": 0.07}, {"amplitude": 6.0}, {"points": [0.0]}])
def test_values_outside_the_bounds_are_refused(settings):
    with pytest.raises(traitlets.TraitError):
        StepSize(START, **settings)
