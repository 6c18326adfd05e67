"""Scripts after the text: what a page shows must not wait for them, and what it does not use it does not load.

The small files that are left become one: each would cost a page a turn of its own in the line of things to fetch.
"""

from __future__ import annotations

import re
from pathlib import Path

import united

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

FILE = re.compile(r'[ \t]*<script defer src="(?P<source>[^"?]*_static/[^"?]+)(?:\?v=[^"]*)?"></script>\n?')

# A script of the page's own that uses what a deferred file has made: a module waits for it, in the page's order.
AFTER_FILES = "DOCUMENTATION_OPTIONS"

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
    """Move a page's scripts from its head to its end, in their order and deferred, without those that it can't use."""
    for path, text in pages.items():
        for theirs, own in OWN_SEARCH.items() if path.name == "search.html" else ():
            text = text.replace(theirs, own)
        head, tag, rest = text.replace(UNDECIDED, DECIDED, 1).partition("</head>")
        moved: list[str] = []

        def take(match: re.Match[str], page: str = text, name: str = path.name, moved: list[str] = moved) -> str:
            if "data-cfasync" in match["attributes"]:
                return match[0]  # sets the colour scheme before anything is painted
            if is_used(match["attributes"], page, name):
                moved.append(deferred(match))
            return ""

        head = PRELOAD.sub("", SCRIPT.sub(take, head))
        pages[path] = head + tag + rest.replace(BEHIND, "".join(moved) + BEHIND, 1)


def unite(pages: dict[Path, str], out: Path) -> None:
    """Write the files that a page asks for as one to ``_static``, in their order; pages that ask for the same ones share it."""
    static = out / "_static"
    names: dict[tuple[Path, ...], str] = {}
    used = set()
    for path, text in pages.items():
        found = [match for match in FILE.finditer(text) if not any(name in match[0] for name in ONLY_SEARCH)]
        files = tuple((path.parent / match["source"]).resolve() for match in found)
        if len(files) > 1:
            if files not in names:
                texts = (file.read_text(encoding="utf-8") for file in files)
                names[files] = united.write(static, "\n;\n".join(texts), "js")
            source = united.address(path, static, names[files])
            for match in found[1:]:
                text = text.replace(match[0], "", 1)
            pages[path] = text.replace(found[0][0], f'    <script defer src="{source}"></script>\n', 1)
        used |= set(re.findall(r"_static/(book\.[0-9a-f]{12}\.js)", pages[path]))
    for old in static.glob("book.*.js"):
        if old.name not in used:
            old.unlink()


def deferred(script: re.Match[str]) -> str:
    """The same script, run once the page is read: a browser that is still reading does not stop to fetch it."""
    if "src=" in script["attributes"]:
        return script[0] if "defer" in script["attributes"] else script[0].replace("<script", "<script defer", 1)
    return script[0].replace("<script", '<script type="module"', 1) if AFTER_FILES in script["body"] else script[0]


def is_used(attributes: str, page: str, name: str) -> bool:
    """Whether a page of this name needs a script with these attributes."""
    if any(script in attributes for script in NEVER):
        return False
    if any(script in attributes for script in ONLY_SEARCH):
        return name == "search.html"
    return all(mark in page for script, mark in ONLY_WITH.items() if script in attributes)
