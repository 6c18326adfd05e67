"""Draw the picture of the front page: book/_static/front-light.svg and front-dark.svg.

    python book/_ext/front.py

Two shipped networks get the same five points of a sinusoid, and take the same one gradient step of 0.01.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.nn import functional as F

import mamlkit
from mamlkit.plots import COLOURS, use_style

STATIC = Path(__file__).resolve().parents[1] / "_static"
X = torch.linspace(-5, 5, 201)[:, None]
POINTS = torch.tensor([[-3.6], [-1.9], [-0.4], [1.4], [3.2]])


def curve(x: Tensor) -> Tensor:
    return mamlkit.sinusoid(x, torch.tensor(3.5), torch.tensor(1.0))


def after_one_step(name: str) -> Tensor:
    """The answers of a shipped network after one inner step on the five points."""
    model = mamlkit.mlp()
    model.load_state_dict(mamlkit.pretrained(name))
    learner = mamlkit.maml(model, loss=F.mse_loss, inner_steps=1, inner_lr=0.01)
    with torch.no_grad():
        return torch.func.functional_call(model, learner.adapt(POINTS, curve(POINTS))[-1], (X,))


def draw(ink: str, maml: str, path: Path) -> None:
    fig, ax = plt.subplots(figsize=(5, 2.6))
    ax.plot(X, curve(X), color=ink, lw=1, ls=":")
    ax.plot(X, after_one_step("sinusoid-pretrained"), color=ink, lw=2, ls="--")
    ax.plot(X, after_one_step("sinusoid-maml"), color=maml, lw=2.6)
    ax.plot(POINTS, curve(POINTS), "o", color=COLOURS["support"], ms=8)
    ax.text(-0.4, 0.4, "trained in the\nordinary way", color=ink, fontsize=12, ha="center", va="center")
    ax.text(1.1, 3.2, "trained to learn", color=maml, fontsize=13, ha="right")
    ax.set(xlim=(-5, 5), ylim=(-4.4, 4.4))
    ax.axis("off")
    fig.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(fig)


if __name__ == "__main__":
    use_style()
    plt.rcParams["svg.hashsalt"] = "front"
    # The blue of MAML on a dark page is that of the live figures, mamlkit/widgets/widgets.css.
    for theme, ink, maml in (("light", "#333333", COLOURS["maml"]), ("dark", "#cccccc", "#56b4f0")):
        draw(ink, maml, STATIC / f"front-{theme}.svg")
