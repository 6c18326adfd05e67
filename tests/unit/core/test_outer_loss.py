"""How query losses are weighed, against the numbers that the authors' code gives, written out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mamlkit

# K = 5, E = 10: epoch -> weights; after epoch 9 only the last step counts
BY_HAND = {
    0: [0.2, 0.2, 0.2, 0.2, 0.2],
    5: [0.1, 0.1, 0.1, 0.1, 0.6],
    9: [0.02, 0.02, 0.02, 0.02, 0.92],
    10: [0.0, 0.0, 0.0, 0.0, 1.0],
    11: [0.0, 0.0, 0.0, 0.0, 1.0],
    99: [0.0, 0.0, 0.0, 0.0, 1.0],
}


@pytest.mark.parametrize("epoch", BY_HAND)
def test_annealed_weights_against_the_table(epoch):
    weights = mamlkit.AnnealedMultiStep(10).weights(5, epoch)
    assert weights.shape == (5,) and weights.tolist() == pytest.approx(BY_HAND[epoch], abs=1e-12)


def test_early_steps_keep_a_floor_until_annealing_ends():
    """E = 100, epoch 99: 1/5 - 99/500 = 0.002 is below 0.03/5 = 0.006."""
    weights = mamlkit.AnnealedMultiStep(100).weights(5, 99)
    assert weights.tolist() == pytest.approx([0.006] * 4 + [0.976], abs=1e-12)


@pytest.mark.parametrize(
    ("epoch", "ranking"), [(0, (1.12, 1.34)), (5, (0.96, 0.97)), (9, (0.832, 0.674)), (10, (0.8, 0.6))]
)
def test_annealing_repairs_the_ranking_of_two_tasks(epoch, ranking):
    """The overshooting task and the slow one of the second explainer: the plain mean prefers the one that ends worse."""
    weights = mamlkit.AnnealedMultiStep(10).weights(5, epoch)
    losses = torch.tensor([[1.2, 0.3, 1.8, 1.5, 0.8], [2.1, 1.8, 1.3, 0.9, 0.6]], dtype=torch.float64)
    assert (losses @ weights).tolist() == pytest.approx(ranking, abs=1e-12)


@given(steps=st.integers(1, 12), epochs=st.integers(1, 40), epoch=st.integers(0, 60))
def test_annealed_weights_sum_to_one_and_move_to_the_last(steps, epochs, epoch):
    annealed = mamlkit.AnnealedMultiStep(epochs)
    now, then = annealed.weights(steps, epoch), annealed.weights(steps, epoch + 1)
    assert now.sum().item() == pytest.approx(1) and (now >= 0).all()
    assert then[-1] >= now[-1] - 1e-12 and (then[:-1] <= now[:-1] + 1e-12).all()


@pytest.mark.parametrize("epoch", [0, 7])
def test_the_other_weights_do_not_change_with_the_epoch(epoch):
    assert mamlkit.FinalStep().weights(3, epoch).tolist() == [0, 0, 1]
    assert mamlkit.MultiStep().weights(4, epoch).tolist() == [0.25] * 4
    assert mamlkit.MultiStep([0.0, 1.0, 2.5]).weights(3, epoch).tolist() == [0, 1, 2.5]
    assert mamlkit.FinalStep().weights(1, epoch).tolist() == mamlkit.MultiStep().weights(1, epoch).tolist() == [1]
