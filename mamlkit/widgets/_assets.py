"""Read the JavaScript and the style sheet that lie beside the figures."""

from pathlib import Path

FOLDER = Path(__file__).parent


def figure_module(*names: str) -> str:
    """One ES module: the helpers that all figures share, then the figure itself (anywidget takes one string).

    Args:
        names: file names of the figure's JavaScript, without their ending; what it shares with another figure comes first.
    """
    return "\n".join((FOLDER / f"{part}.js").read_text(encoding="utf-8") for part in ("common", *names))


def style_sheet() -> str:
    """The style sheet that all figures share."""
    return (FOLDER / "widgets.css").read_text(encoding="utf-8")
