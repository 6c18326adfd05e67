"""Sphinx extension: names and roles that screen readers need and the theme leaves out."""

from __future__ import annotations

from sphinx.application import Sphinx


def replace_roles(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """The bibliography's entries are the items of a list; the role they come with was withdrawn from the standard."""
    if "body" in context:
        context["body"] = context["body"].replace(' role="doc-biblioentry"', ' role="listitem"')


def name_arrows(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Say what the arrows in the list of pages do."""
    generate = context.get("generate_toctree_html")
    if generate:
        named = '<summary aria-label="Pages below the one before">'
        context["generate_toctree_html"] = lambda *a, **k: str(generate(*a, **k)).replace("<summary>", named)


def setup(app: Sphinx) -> dict:
    """Change the page before it is written, after the theme (priority 500) has filled the context."""
    app.connect("html-page-context", replace_roles, priority=900)
    app.connect("html-page-context", name_arrows, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
