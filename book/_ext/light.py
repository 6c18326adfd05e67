"""Sphinx extension: light pages, made in one step at the end of the build."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

import formulas
import pictures
import scripts
import stylesheets


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Set formulas, unite stylesheets and scripts, shrink pictures; a page that is light already stays as it is."""
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    before = {path: path.read_text(encoding="utf-8") for path in out.rglob("*.html") if "_static" not in path.parts}
    pages = dict(before)
    formulas.typeset(pages, out / "_static")
    pictures.shrink(pages)
    scripts.put_last(pages)
    scripts.unite(pages, out)
    scripts.spare_layout(out)
    stylesheets.unite(pages, out)
    for path, text in pages.items():
        if text != before[path]:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict:
    """After everything else that the end of a build does (see offline.py)."""
    app.connect("build-finished", lighten, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
