"""One look for every figure: colours that mean the same thing everywhere, sizes that can be read on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from mamlkit.arguments import expect_kind
from mamlkit.evaluation import Evaluation

__all__ = ["COLOURS", "STYLES", "line_style", "plot_adaptation", "plot_learning_curve", "use_style"]

#: One colour per role, with a contrast of at least 3 to 1 against the white of the figures; lines differ in dash too.
COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "inner": "#B8860B",
        "outer": "#7B5BD6",
        "support": "#009E73",
        "query": "#B5478A",
        "maml": "#0072B2",
        "maml++": "#D55E00",
        "fomaml": "#1F9E9E",
        "reptile": "#8A6D3B",
        "scratch": "#777777",
        "pretrained": "#8C564B",
        "truth": "#222222",
        "task A": "#8F1D2C",
        "task B": "#6B7500",
    }
)
#: The dash of a role's line, as matplotlib writes it; solid for a role that is not here.
STYLES: Mapping[str, str] = MappingProxyType(
    {"maml": "-", "maml++": "-", "fomaml": "--", "reptile": "-.", "scratch": ":", "pretrained": "--", "truth": "-"}
)


def use_style() -> None:
    """Set matplotlib up for the book: five inches wide at most, text that stays readable at 390 pixels."""
    plt.rcParams.update(
        {
            "figure.figsize": (5.0, 3.4),
            "figure.dpi": 150,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11.5,
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "lines.linewidth": 2.0,
        }
    )


def plot_adaptation(results: Mapping[str, Evaluation], ax: Axes | None = None, accuracy: bool = False) -> Axes:
    """Mean query loss (or accuracy) after each inner step with its 95 % interval over tasks, one line per learner.

    Args:
        results: by name; a name in ``COLOURS`` gets that colour.
        ax: where to draw; a new figure when not given.
        accuracy: draw accuracies in per cent instead of losses.
    """
    for result in expect_kind("results", results, (Mapping,)).values():
        expect_kind("each result", result, Evaluation)
    ax = ax or plt.subplots()[1]
    for name, result in results.items():
        steps = range(len(result.losses))
        points = [result.accuracy(k) if accuracy else result.loss(k) for k in steps]
        scale = 100 if accuracy else 1
        means = [scale * point.mean for point in points]
        low = [scale * (point.mean - point.half_width) for point in points]
        high = [scale * (point.mean + point.half_width) for point in points]
        (line,) = ax.plot(steps, means, label=name, **line_style(name))
        ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set(xlabel="inner steps", ylabel="query accuracy (%)" if accuracy else "query loss")
    ax.legend()
    return ax


def plot_learning_curve(losses: Sequence[float], ax: Axes | None = None, window: int = 50, name: str = "maml") -> Axes:
    """The meta-loss of each outer step in a faint line, and its running mean over ``window`` steps.

    Args:
        losses: one number per outer step.
        ax: where to draw; a new figure when not given.
        window: how many outer steps the mean covers.
        name: of the learner.

    Raises:
        ValueError: if there are fewer losses than ``window``.
    """
    if not 1 <= window <= len(losses):
        raise ValueError(f"expected 1 <= window <= {len(losses)} losses, got window {window}")
    ax = ax or plt.subplots()[1]
    style = line_style(name)
    ax.plot(losses, color=style.get("color"), alpha=0.2, linewidth=0.8)
    means = [sum(losses[i : i + window]) / window for i in range(len(losses) - window + 1)]
    ax.plot(range(window - 1, len(losses)), means, label=f"{name}, mean of {window} steps", **style)
    ax.set(xlabel="outer steps", ylabel="meta-loss")
    ax.legend()
    return ax


def line_style(name: str) -> dict[str, Any]:
    """Colour and dash of a role, in upper or lower case; empty for an unknown name."""
    role = name.lower()
    return {"color": COLOURS[role], "linestyle": STYLES.get(role, "-")} if role in COLOURS else {}
