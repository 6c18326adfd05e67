"""Sphinx extension: roles that today's screen readers know."""

from __future__ import annotations

from sphinx.application import Sphinx


def replace_roles(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """The bibliography's entries are the items of a list; the role they come with was withdrawn from the standard."""
    if "body" in context:
        context["body"] = context["body"].replace(' role="doc-biblioentry"', ' role="listitem"')


def setup(app: Sphinx) -> dict:
    """Change the page before it is written."""
    app.connect("html-page-context", replace_roles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
