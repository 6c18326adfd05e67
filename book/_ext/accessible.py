"""Sphinx extension: names and roles that screen readers need and the theme leaves out."""

from __future__ import annotations

from sphinx.application import Sphinx

IN_THE_TEXT = {
    # The bibliography's entries are the items of a list; the role they come with was withdrawn from the standard.
    ' role="doc-biblioentry"': ' role="listitem"',
    # Who says aloud what a fold says, "Show the code", must be understood.
    ' aria-label="Toggle hidden content"': "",
}


def mend_text(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Replace what the parts that write the text get wrong."""
    for theirs, ours in IN_THE_TEXT.items() if "body" in context else ():
        context["body"] = context["body"].replace(theirs, ours)


def name_arrows(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Say what the arrows in the list of pages do."""
    generate = context.get("generate_toctree_html")
    if generate:
        named = '<summary aria-label="Pages below the one before">'
        context["generate_toctree_html"] = lambda *a, **k: str(generate(*a, **k)).replace("<summary>", named)


def setup(app: Sphinx) -> dict:
    """Change the page before it is written, after the theme (priority 500) has filled the context."""
    app.connect("html-page-context", mend_text, priority=900)
    app.connect("html-page-context", name_arrows, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
