"""Sphinx extension: what a host of static files needs: pages for the book's address and for wrong ones, dates in the site map."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx_sitemap import add_html_link

ROOT_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{meta}
<meta http-equiv="refresh" content="0; url={target}">
<link rel="canonical" href="{address}">
<link rel="icon" href="_static/favicon.svg">
</head>
<body><main><h1>{title}</h1><p><a href="{target}">Open the book</a></p></main></body>
</html>
"""
NOT_FOUND = """<section>
<h1>There is no such page</h1>
<p>Its name may have changed. Search the book, or go to a chapter:</p>
<form class="bd-search d-flex align-items-center" action="search.html" method="get">
<i class="fa-solid fa-magnifying-glass"></i>
<input type="search" class="form-control" name="q" placeholder="Search the book" aria-label="Search the book">
</form>
<p></p>
<ul>
{chapters}
</ul>
</section>
"""
CHAPTER = re.compile(r"book/(\d\d_\w+|index)")
FOR_OTHERS = re.compile(r'<meta (?:property="(?:og|article):|name="(?:twitter:|description))[^>]*>')


def write_root_page(app: Sphinx, exception: Exception | None) -> None:
    """Let index.html lead to the book's first page, and say of itself what that page says, to whom a link to it is shown."""
    if exception or app.builder.format != "html" or app.config.root_doc == "index":
        return
    target = f"{app.config.root_doc}.html"
    meta = "\n".join(FOR_OTHERS.findall(Path(app.outdir, target).read_text(encoding="utf-8")))
    title, address = escape(app.config.html_title), app.config.html_baseurl + target
    page = ROOT_PAGE.format(title=title, meta=meta, target=target, address=address)
    Path(app.outdir, "index.html").write_text(page, encoding="utf-8")


def not_found_page(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """The page that a host shows in the place of one that is not there: 404.html."""
    names = sorted(name for name in app.env.found_docs if CHAPTER.fullmatch(name))
    titles = {name: escape(app.env.titles[name].astext()) for name in names}
    links = [f'<li><a href="{app.builder.get_target_uri(name)}">{titles[name]}</a></li>' for name in names]
    yield "404", {"title": "No such page", "body": NOT_FOUND.format(chapters="\n".join(links))}, "page.html"


def root_its_links(app: Sphinx, exception: Exception | None) -> None:
    """A host shows 404.html at any address: its links start at the book's own, not at the one that was asked for."""
    page = Path(app.outdir, "404.html")
    if exception or app.builder.format != "html" or not page.is_file():
        return
    base = f'<base href="{urlsplit(app.config.html_baseurl).path or "/"}"><meta name="robots" content="noindex">'
    text = page.read_text(encoding="utf-8").replace('href="#', 'href="404.html#')
    if "<base " not in text:
        page.write_text(text.replace("<head>", f"<head>{base}", 1), encoding="utf-8")


def keep_dates_to_the_map(app: Sphinx, config: Config) -> None:
    """The extension that asks git for dates would also take the buttons for notebooks from pages that git doesn't know."""
    config.html_last_updated_fmt = None


def do_without_git(app: Sphinx, env: BuildEnvironment) -> None:
    """Where there is no git, no page has a date; the site map expects a pair all the same."""
    dates = getattr(env, "git_last_updated", {})
    dates.update({name: (None, True) for name, found in dates.items() if found is None})


def list_pages_that_stayed(app: Sphinx, exception: Exception | None) -> None:
    """The extension lists the pages that this build wrote; those that had not changed belong on the site map, too."""
    links = getattr(app, "sitemap_links", None)
    if exception or links is None or links.empty():
        return
    written = []
    while not links.empty():
        written.append(links.get())
    for link in written:
        links.put(link)
    for name in sorted(app.env.found_docs - {link.removesuffix(".html") for link, _ in written}):
        add_html_link(app, name, "page.html", {}, None)


def setup(app: Sphinx) -> dict:
    """The root page before pages are made light (see light.py), the links of the other after."""
    app.connect("config-inited", keep_dates_to_the_map, priority=900)
    app.connect("env-updated", do_without_git, priority=900)
    app.connect("html-collect-pages", not_found_page)
    app.connect("build-finished", list_pages_that_stayed, priority=400)  # the map is written at 500
    app.connect("build-finished", write_root_page, priority=900)
    app.connect("build-finished", root_its_links, priority=960)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
