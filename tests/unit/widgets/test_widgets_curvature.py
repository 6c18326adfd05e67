"""The torch function behind the curvature figure, against the closed form and against finite differences."""

import math

import pytest
import torch
import traitlets

from mamlkit.widgets import Curvature, curvature_arrows
from mamlkit.widgets.curvature import QUERY, SUPPORT, THETA

SETTINGS = [((1.0, 4.0), 0.1, 3), ((0.0, 10.0), 0.3, 1), ((8.0, 2.0), 0.25, 10), ((5.0, 5.0), 0.1, 4)]


@pytest.mark.parametrize(("h", "alpha", "inner_steps"), SETTINGS)
def test_arrows_against_finite_differences(h, alpha, inner_steps):
    curvatures, support, query = (torch.tensor(x, dtype=torch.float64) for x in (h, SUPPORT, QUERY))

    def last(theta):
        for _ in range(inner_steps):
            theta = theta - alpha * curvatures * (theta - support)
        return theta

    def meta_loss(theta):
        return 0.5 * (last(theta) - query).square().sum()

    theta, shifts = torch.tensor(THETA, dtype=torch.float64), 1e-5 * torch.eye(2, dtype=torch.float64)
    slope = torch.stack([(meta_loss(theta + d) - meta_loss(theta - d)) / 2e-5 for d in shifts])
    arrows = curvature_arrows(h, alpha, inner_steps)
    torch.testing.assert_close(arrows["maml"], -slope, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(arrows["fomaml"], query - last(theta))
    torch.testing.assert_close(arrows["factors"], (1 - alpha * curvatures) ** inner_steps)
    assert arrows["steps"].shape == (inner_steps + 1, 2)
    cosine = (arrows["maml"] @ arrows["fomaml"] / arrows["maml"].norm() / arrows["fomaml"].norm()).item()
    assert arrows["angle"].item() == pytest.approx(math.degrees(math.acos(min(1.0, cosine))), abs=1e-5)


def test_what_the_chapter_says_of_angles():
    for inner_steps in (1, 5, 10):
        assert curvature_arrows((4.0, 4.0), 0.1, inner_steps)["angle"].item() < 1e-6
    angles = [curvature_arrows((0.0, 4.0), 0.1, k)["angle"].item() for k in (1, 3, 5)]
    assert angles == sorted(angles) and angles[0] > 1
    assert curvature_arrows((8.0, 8.0), 0.2, 1)["angle"].item() == pytest.approx(180)
    assert curvature_arrows((8.0, 8.0), 0.2, 2)["angle"].item() == pytest.approx(0, abs=1e-6)


def test_widget_holds_its_settings_and_names_wrong_ones():
    figure = Curvature(h1=0.5, h2=9.0, alpha=0.2, inner_steps=4)
    torch.testing.assert_close(figure.arrows()["maml"], curvature_arrows((0.5, 9.0), 0.2, 4)["maml"])
    assert repr(figure) == "Curvature(h1=0.5, h2=9.0, alpha=0.2, inner_steps=4)"
    for wrong in ({"h1": -1.0}, {"h2": 11.0}, {"alpha": 0.5}, {"inner_steps": 0}):
        with pytest.raises(traitlets.TraitError):
            Curvature(**wrong)
    with pytest.raises(ValueError, match="at least 1"):
        curvature_arrows((1.0, 1.0), 0.1, 0)


def test_front_end_stands_alone():
    """No import and no address of another host in what the page runs."""
    figure = Curvature()
    assert "export default" in figure._esm
    for text in (figure._esm, figure._css):
        assert "import " not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
