"""The torch function behind the scaled bowl, against the closed form and against finite differences."""

import pytest
import torch
import traitlets

from mamlkit.widgets import ScaledBowl, bowl_descent
from mamlkit.widgets.scaled_bowl import CURVATURES, THETA

H, START = (torch.tensor(x, dtype=torch.float64) for x in (CURVATURES, THETA))  # (2,) each
SETTINGS = [((0.2, 0.2), 3), ((2.0, 0.125), 1), ((4.0, 0.3), 8), ((1.3, 0.0), 5)]


@pytest.mark.parametrize(("alpha", "inner_steps"), SETTINGS)
def test_numbers_against_the_closed_form(alpha, inner_steps):
    rates = torch.tensor(alpha, dtype=torch.float64)  # (2,)
    factor, shown = 1 - rates * H, bowl_descent(alpha, inner_steps)
    path = torch.stack([factor**k * START for k in range(inner_steps + 1)])  # (K + 1, 2)
    torch.testing.assert_close(shown["steps"], path)
    torch.testing.assert_close(shown["losses"], 0.5 * (H * path**2).sum(1))
    slope = -inner_steps * H**2 * factor ** (2 * inner_steps - 1) * START**2
    torch.testing.assert_close(shown["alpha_gradient"], slope)


@pytest.mark.parametrize("alpha", [0.05, 0.125, 0.28])
def test_one_alpha_has_the_sum_of_both_gradients(alpha):
    shared, each = bowl_descent(alpha, 4)["alpha_gradient"], bowl_descent([alpha, alpha], 4)["alpha_gradient"]
    torch.testing.assert_close(shared, each.sum())
    above, below = (bowl_descent(alpha + d, 4)["losses"][-1].item() for d in (1e-6, -1e-6))
    assert shared.item() == pytest.approx((above - below) / 2e-6, rel=1e-6)


def test_what_the_chapter_says_of_the_bowl():
    best = bowl_descent([1 / h for h in CURVATURES], 1)
    assert best["losses"][-1].item() == pytest.approx(0, abs=1e-20)
    assert best["alpha_gradient"].abs().max().item() < 1e-12
    assert bowl_descent(2.05 / CURVATURES[1], 8)["losses"][-1] > bowl_descent(1 / CURVATURES[1], 8)["losses"][-1]


def test_widget_holds_its_settings_and_names_wrong_ones():
    figure = ScaledBowl(same=False, alpha1=2.0, alpha2=0.1, inner_steps=2)
    torch.testing.assert_close(figure.numbers()["losses"], bowl_descent((2.0, 0.1), 2)["losses"])
    assert repr(figure) == "ScaledBowl(same=False, alpha1=2.0, alpha2=0.1, inner_steps=2)"
    assert repr(ScaledBowl()) == "ScaledBowl(same=True, alpha=0.2, inner_steps=3)"
    assert ScaledBowl(alpha=0.1).numbers()["alpha_gradient"].shape == ()
    for wrong in ({"alpha1": -1.0}, {"alpha2": 0.5}, {"alpha": 1.0}, {"inner_steps": 0}):
        with pytest.raises(traitlets.TraitError):
            ScaledBowl(**wrong)
    with pytest.raises(ValueError, match="at least 1"):
        bowl_descent(0.1, 0)
    with pytest.raises(ValueError, match=r"one number or two, got shape \(3,\)"):
        bowl_descent([0.1, 0.1, 0.1], 1)


def test_front_end_stands_alone():
    """No import and no address of another host in what the page runs."""
    figure = ScaledBowl()
    assert "export default" in figure._esm
    for text in (figure._esm, figure._css):
        assert "import " not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
