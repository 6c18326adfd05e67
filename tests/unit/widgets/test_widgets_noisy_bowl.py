"""The torch functions behind the noisy bowl: against autograd, against many draws of the noise, and against the formula."""

import math

import pytest
import torch
import traitlets

from mamlkit.widgets import NoisyBowl, cosine_rates, noisy_descent
from mamlkit.widgets.noisy_bowl import START, _normal_numbers


def test_cosine_by_hand():
    rates = cosine_rates(0.06, 0.02, 4)
    root = math.sqrt(0.5)
    assert rates.tolist() == pytest.approx([0.06, 0.04 + 0.02 * root, 0.04, 0.04 - 0.02 * root], abs=1e-15)
    assert cosine_rates(0.03, 0.03).tolist() == pytest.approx([0.03] * 300, abs=1e-15)


def test_path_is_gradient_descent_on_gradients_with_noise():
    rates = cosine_rates(0.1, 0.01)
    found = noisy_descent(rates, 1.5, seed=3)
    x = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    for t, epsilon in enumerate(_normal_numbers(3, 300)):
        torch.testing.assert_close(found["path"][t], x.detach())
        loss = 0.5 * x.square().sum() + 1.5 * epsilon @ x  # the tilt of this step's tasks
        x = (x - rates[t] * torch.autograd.grad(loss, x)[0]).detach().requires_grad_()
    torch.testing.assert_close(found["path"][-1], x.detach())
    torch.testing.assert_close(found["distance"], found["path"].square().sum(1).sqrt())


def test_root_mean_square_is_that_of_many_runs():
    rates = cosine_rates(0.06, 0.0)
    squares = torch.stack([noisy_descent(rates, 2.0, seed)["distance"].square() for seed in range(200)])  # (200, 301)
    mean, error = squares.mean(0), squares.std(0) / 200**0.5
    expected = noisy_descent(rates, 2.0, 0)["rms"].square()
    assert ((mean - expected).abs()[1:] < 4.5 * error[1:]).all()


@pytest.mark.parametrize("rate", [0.01, 0.06, 0.5])
def test_floor_is_where_a_long_run_rests(rate):
    found = noisy_descent([rate] * 3000, 2.0, 0)
    assert found["rms"][-1].item() == pytest.approx(found["floor"][-1].item(), rel=1e-6)
    assert found["floor"][0].item() == pytest.approx(math.sqrt(2 * rate * 4 / (2 - rate)))


def test_without_noise_the_constant_rate_ends_nearer():
    for first in (0.003, 0.01, 0.03, 0.1):
        constant, cosine = (noisy_descent(cosine_rates(first, last), 0.0, 0) for last in (first, 0.0))
        assert constant["distance"][-1] < cosine["distance"][-1]
        torch.testing.assert_close(constant["distance"], constant["rms"])


def test_normal_numbers_look_normal():
    numbers = _normal_numbers(5, 20_000)
    assert numbers.mean(0).abs().max() < 0.03 and (numbers.std(0) - 1).abs().max() < 0.03
    assert (numbers[:, 0] * numbers[:, 1]).mean().abs() < 0.03
    assert (numbers.abs() < 1).double().mean().item() == pytest.approx(math.erf(0.5**0.5), abs=0.01)


def test_figure_says_what_it_shows_and_names_wrong_settings():
    figure = NoisyBowl(first=0.01, last=0.002, noise=1.0, seed=4)
    assert repr(figure) == "NoisyBowl(first=0.01, last=0.002, noise=1.0, seed=4)"
    runs = figure.runs()
    torch.testing.assert_close(runs["constant"], noisy_descent([0.01] * 300, 1.0, 4))
    torch.testing.assert_close(runs["cosine"], noisy_descent(cosine_rates(0.01, 0.002), 1.0, 4))
    for wrong in ({"first": -0.1}, {"last": 0.2}, {"noise": 5.0}, {"seed": -1}):
        with pytest.raises(traitlets.TraitError):
            NoisyBowl(**wrong)
    for rates in ([2.0], [-0.1], 0.1):
        with pytest.raises(ValueError, match=r"rates \(T,\) from 0 to below 2"):
            noisy_descent(rates, 1.0, 0)


def test_front_end_stands_alone():
    """No import and no address of another host in what the page runs."""
    figure = NoisyBowl()
    assert "export default" in figure._esm
    for text in (figure._esm, figure._css):
        assert "import " not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
