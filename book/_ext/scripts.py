"""Scripts after the text: what a page shows must not wait for them, and what it does not use it does not load."""

from __future__ import annotations

import re
from pathlib import Path

SCRIPT = re.compile(r"[ \t]*<script(?P<attributes>[^>]*)>(?P<body>.*?)</script>\n?", re.DOTALL)
PRELOAD = re.compile(r'[ \t]*<link rel="preload" as="script"[^>]*>\n?')
BEHIND = "  <!-- Scripts loaded after"  # the theme's own
NEVER = (
    "fontawesome.js",  # draws icons that the stylesheet shows too
    "searchtools.js",
    "searchindex.js",
)
ONLY_SEARCH = ("sections.js", "language_data.js", "search.js")
# In the place of Sphinx's search, which fetches each page that it found: a page that was opened as a file may not.
OWN_SEARCH = {"_static/searchtools.js": "_static/sections.js", '"searchindex.js': '"_static/search.js'}
ONLY_WITH = {
    "design-tabs.js": 'class="sd-tab',
    "togglebutton.js": 'class="toggle',
    "widget_host.js": "widget-view+json",
}

# The theme decides "auto" in a script that now comes last: until then a page would show the pictures of both schemes.
UNDECIDED = 'localStorage.getItem("theme") || "auto";'
DECIDED = (
    '((mode) => mode === "light" || mode === "dark" ? mode : matchMedia("(prefers-color-scheme: dark)").matches'
    ' ? "dark" : "light")(document.documentElement.dataset.mode);'
)

THEME = "_static/scripts/pydata-sphinx-theme.js"
# All that may scroll, which the theme measures when a page opens: scrollers.js does so where the reader is.
MEASURED = re.compile(r'document\.querySelectorAll\(\["pre",[^\]]*\]\.join\(", "\)\)')


def spare_layout(out: Path) -> None:
    """Keep the theme's script from having every page laid out to its end before a reader can use it."""
    script = out / THEME
    before = script.read_text(encoding="utf-8")
    after = MEASURED.sub("[]", before)
    if after != before:
        script.write_text(after, encoding="utf-8")


def put_last(pages: dict[Path, str]) -> None:
    """Move a page's scripts from its head to its end, in their order, without those that it can't use."""
    for path, text in pages.items():
        for theirs, own in OWN_SEARCH.items() if path.name == "search.html" else ():
            text = text.replace(theirs, own)
        head, tag, rest = text.replace(UNDECIDED, DECIDED, 1).partition("</head>")
        moved: list[str] = []

        def take(match: re.Match[str], page: str = text, name: str = path.name, moved: list[str] = moved) -> str:
            if "data-cfasync" in match["attributes"]:
                return match[0]  # sets the colour scheme before anything is painted
            if is_used(match["attributes"], page, name):
                moved.append(match[0].replace(' defer="defer"', ""))
            return ""

        head = PRELOAD.sub("", SCRIPT.sub(take, head))
        pages[path] = head + tag + rest.replace(BEHIND, "".join(moved) + BEHIND, 1)


def is_used(attributes: str, page: str, name: str) -> bool:
    """Whether a page of this name needs a script with these attributes."""
    if any(script in attributes for script in NEVER):
        return False
    if any(script in attributes for script in ONLY_SEARCH):
        return name == "search.html"
    return all(mark in page for script, mark in ONLY_WITH.items() if script in attributes)
