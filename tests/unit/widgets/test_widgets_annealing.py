"""The numbers behind the annealing figure: those of its two tasks worked out by hand, and the weights of the library."""

import pytest
import torch
import traitlets

from mamlkit import AnnealedMultiStep
from mamlkit.widgets import Annealing, annealed_losses
from mamlkit.widgets.annealing import TASK_A, TASK_B

# Epoch of E = 10: weighted loss of A and of B, with 4.8 and 6.1 the sums over the first four steps.
BY_HAND = {
    0: ((4.8 + 0.8) / 5, (6.1 + 0.6) / 5),
    5: (0.1 * 4.8 + 0.6 * 0.8, 0.1 * 6.1 + 0.6 * 0.6),
    6: (0.08 * 4.8 + 0.68 * 0.8, 0.08 * 6.1 + 0.68 * 0.6),
    9: (0.02 * 4.8 + 0.92 * 0.8, 0.02 * 6.1 + 0.92 * 0.6),
    10: (0.8, 0.6),
    14: (0.8, 0.6),
}


@pytest.mark.parametrize("epoch", BY_HAND)
def test_losses_by_hand(epoch):
    losses = annealed_losses([TASK_A, TASK_B], epoch, 10)
    assert losses.tolist() == pytest.approx(BY_HAND[epoch], abs=1e-12)


def test_order_changes_in_epoch_six():
    figure = Annealing()
    prefers_a = [bool(losses[0] < losses[1]) for losses in map(figure.losses, range(21))]
    assert prefers_a == [True] * 6 + [False] * 15


@pytest.mark.parametrize(("epoch", "epochs", "steps"), [(0, 10, 5), (9, 10, 5), (3, 4, 2), (29, 30, 3), (7, 7, 1)])
def test_losses_are_those_of_the_outer_loss(epoch, epochs, steps):
    trajectories = torch.rand(4, steps, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)
    expected = (trajectories * AnnealedMultiStep(epochs).weights(steps, epoch)).sum(1)
    torch.testing.assert_close(annealed_losses(trajectories, epoch, epochs), expected)
    assert annealed_losses(trajectories.float(), epoch, epochs).dtype == torch.float32


def test_widget_holds_its_settings_and_names_wrong_ones():
    figure = Annealing(epoch=3, epochs=4, inner_steps=2, task_a=[2.0, 1.0, 0.5, 0.5, 0.5])
    torch.testing.assert_close(figure.weights(), AnnealedMultiStep(4).weights(2, 3))
    torch.testing.assert_close(figure.losses(), annealed_losses([[2.0, 1.0], TASK_B[:2]], 3, 4))
    assert repr(figure) == "Annealing(epoch=3, epochs=4, inner_steps=2)"
    for wrong in ({"epoch": -1}, {"epochs": 0}, {"inner_steps": 6}, {"task_a": [1.0]}, {"task_b": [9.0] * 5}):
        with pytest.raises(traitlets.TraitError):
            Annealing(**wrong)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"shape \(tasks, steps\), got \(5,\)"):
        annealed_losses(TASK_A, 0, 10)
    with pytest.raises(ValueError, match="epoch"):
        annealed_losses([TASK_A], -1, 10)


def test_front_end_stands_alone():
    """No import and no address of another host in what the page runs."""
    figure = Annealing()
    assert "export default" in figure._esm
    for text in (figure._esm, figure._css):
        assert "import " not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
