"""Sphinx extension: every page of the book asks only the server it came from.

MathJax is copied from an installed package, and the scripts of Thebe (which a theme loads from elsewhere) are dropped.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from sphinx.application import Sphinx

from formulas import find_node, mathjax_folder

# What pages with formulas may ask for: the program, its fonts, rarely used commands, and speech for screen readers.
MATHJAX_PARTS = ["tex-chtml.js", "output/chtml/fonts", "input/tex/extensions", "a11y", "sre"]


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy the part of MathJax that is used into the finished book, once; not where formulas are set by the build itself."""
    target = Path(app.outdir, "_static", "mathjax")
    if exception or app.builder.format != "html" or find_node() or target.exists():
        return
    source = mathjax_folder()
    for part in MATHJAX_PARTS:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (source / part).is_dir() else shutil.copy
        copy(source / part, target / part)


def remove_stale_pages(app: Sphinx, exception: Exception | None) -> None:
    """Remove the pages of sources that are no longer there."""
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir, "book")
        for page in folder.rglob("*.html"):
            if page.relative_to(app.outdir).with_suffix("").as_posix() not in app.env.found_docs:
                page.unlink()


def digest_of_extensions() -> str:
    """Changes when one of the book's extensions does, so that Sphinx then writes every page again."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def drop_thebe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Take the scripts of Thebe off a page: they are loaded from another host even when they are off."""

    def is_thebe(asset: object) -> bool:
        attributes = getattr(asset, "attributes", {})
        return "thebe" in f"{getattr(asset, 'filename', '')} {attributes.get('body', '')}".lower()

    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context.get(kind, []) if not is_thebe(asset)]


def setup(app: Sphinx) -> dict:
    """Connect them to Sphinx."""
    app.add_config_value("digest_of_extensions", digest_of_extensions(), "html")
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", copy_mathjax, priority=900)
    app.connect("build-finished", remove_stale_pages, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
