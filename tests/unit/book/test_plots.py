"""Figures draw without a warning, with the colours of their roles and the numbers that they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import oracles
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb

import mamlkit
from mamlkit.plots import COLOURS, STYLES, line_style, plot_adaptation, plot_learning_curve, use_style


@pytest.fixture(autouse=True)
def clean_figures():
    with plt.rc_context():
        yield
    plt.close("all")


def evaluation(steps=3, tasks=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (steps + 1, tasks)
    return mamlkit.Evaluation(torch.rand(shape, generator=generator), torch.rand(shape, generator=generator))


@pytest.mark.parametrize("accuracy", [False, True])
def test_adaptation_shows_means_and_intervals(accuracy):
    use_style()
    results = {"MAML": evaluation(seed=1), "fomaml": evaluation(seed=2), "something else": evaluation(seed=3)}
    axes = plot_adaptation(results, accuracy=accuracy)
    axes.figure.canvas.draw()
    assert [line.get_label() for line in axes.lines] == list(results)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(results)
    for line, band, result in zip(axes.lines, axes.collections, results.values(), strict=True):
        values = (100 * result.accuracies if accuracy else result.losses).numpy()
        expected = [oracles.interval_by_hand(row) for row in values]
        assert np.allclose(line.get_xdata(), range(4))
        assert np.allclose(line.get_ydata(), [mean for mean, _ in expected])
        corners = band.get_paths()[0].vertices
        for step, (mean, half_width) in enumerate(expected):
            heights = corners[corners[:, 0] == step][:, 1]
            assert heights.min() == pytest.approx(mean - half_width) and heights.max() == pytest.approx(
                mean + half_width
            )
    assert to_hex(axes.lines[0].get_color()).upper() == COLOURS["maml"]
    assert to_hex(axes.lines[1].get_color()).upper() == COLOURS["fomaml"]
    assert axes.lines[0].get_linestyle() == "-" and axes.lines[1].get_linestyle() == "--"
    assert axes.get_xlabel() == "inner steps" and ("%" in axes.get_ylabel()) == accuracy


def test_learning_curve_shows_the_running_mean():
    use_style()
    losses = np.random.default_rng(0).random(30).tolist()
    axes = plot_learning_curve(losses, window=10, name="maml")
    axes.figure.canvas.draw()
    raw, mean = axes.lines
    assert np.allclose(raw.get_ydata(), losses)
    assert np.allclose(mean.get_ydata(), np.convolve(losses, np.ones(10) / 10, mode="valid"))
    assert np.allclose(mean.get_xdata(), range(9, 30))  # a mean stands where its window ends
    assert {to_hex(line.get_color()).upper() for line in axes.lines} == {COLOURS["maml"]}


@pytest.mark.parametrize("draw", [lambda ax: plot_adaptation({"maml": evaluation()}, ax=ax),
                                  lambda ax: plot_learning_curve([1.0] * 60, ax=ax)])  # fmt: skip
def test_draws_where_it_is_told_to(draw):
    _, axes = plt.subplots()
    assert draw(axes) is axes
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("window", [1, 5])
def test_a_window_may_be_one_or_everything(window):
    axes = plot_learning_curve([3.0, 1.0, 2.0, 5.0, 4.0], window=window)
    assert len(axes.lines[1].get_ydata()) == 6 - window


def test_line_style_knows_roles_in_any_case():
    assert line_style("MAML++") == {"color": COLOURS["maml++"], "linestyle": "-"}
    assert line_style("unheard of") == {}


def luminance(colour):
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


@pytest.mark.parametrize("role", COLOURS)
def test_every_colour_stands_out_from_white(role):
    """The figures have a white background in both themes; 3:1 is what WCAG asks of graphics."""
    assert 1.05 / (luminance(COLOURS[role]) + 0.05) >= 3


def test_roles_are_told_apart():
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert set(STYLES) <= set(COLOURS)


def test_style_keeps_figures_readable_on_a_phone():
    use_style()
    assert plt.rcParams["figure.figsize"][0] <= 5 and plt.rcParams["font.size"] >= 10
