"""The last step of the build: formulas, stylesheets, pictures and scripts of small pages, twice, as in a second build."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import formulas  # noqa: E402
import pictures  # noqa: E402
import scripts  # noqa: E402
import stylesheets  # noqa: E402

FORMULA = r'<p><span class="math notranslate nohighlight">\(a &lt; \alpha\)</span> and text</p>'
SCRIPT = '<script src="_static/mathjax/tex-chtml.js"></script>'
needs_node = pytest.mark.skipif(formulas.find_node() is None, reason="Node is not here: pages keep MathJax's script")


@needs_node
def test_formulas_are_set_with_mathml_and_keep_their_tex(tmp_path):
    pages = {tmp_path / "a.html": FORMULA + SCRIPT, tmp_path / "b.html": "<p>nothing</p>"}
    formulas.typeset(pages, tmp_path)
    text = pages[tmp_path / "a.html"]
    assert "<math" in text and 'data-tex="a &lt; \\alpha"' in text and text.endswith(" and text</p>")
    assert "tex-chtml" not in text and r"\(" not in text
    css = (tmp_path / "formulas.css").read_text()
    assert "mjx-c1D6FC" in css and {file.suffix for file in (tmp_path / "formulas").iterdir()} == {".woff"}
    before = dict(pages)
    formulas.typeset(pages, tmp_path)
    assert pages == before


@needs_node
def test_fonts_of_formulas_have_what_is_written_and_no_more(tmp_path):
    pages = {tmp_path / "a.html": FORMULA}
    formulas.typeset(pages, tmp_path)
    found = TTFont(tmp_path / "formulas" / "MathJax_Math-Italic.woff")
    assert set(found.getBestCmap()) == {ord("a"), ord("\u03b1")}
    whole = TTFont(formulas.mathjax_folder() / "output/chtml/fonts/woff-v2/MathJax_Math-Italic.woff")
    name = whole.getBestCmap()[ord("a")]
    assert found["hmtx"][found.getBestCmap()[ord("a")]] == whole["hmtx"][name]
    for font in (tmp_path / "formulas").iterdir():
        assert TTFont(font).getBestCmap(), f"{font.name} has no character, and browsers refuse it"


def test_escapes_of_css_are_characters():
    assert formulas.code_points(r"\E151\E150") == {0xE151, 0xE150}
    assert formulas.code_points(r"a\3B1 b") == {ord("a"), 0x3B1, ord("b")}


def inline(tex):
    return rf'<span class="math notranslate nohighlight">\({tex}\)</span>'


@needs_node
@pytest.mark.parametrize(
    ("before", "tex", "after", "end"),
    [
        ("so ", "x", ".</p>", "."),
        ("<li>(", "x", "), and", "),"),
        ("is ", "x", " and", None),
        ("is ", "x", "</em>.", None),
        ("for ", "+".join("abcdefghijk"), ". Then", None),  # too long for a phone with more
    ],
)
def test_a_formula_keeps_its_full_stop_on_its_line(tmp_path, before, tex, after, end):
    page = tmp_path / "a.html"
    pages = {page: f"<p>{before}{inline(tex)}{after}{inline('y')}"}
    formulas.typeset(pages, tmp_path)
    pieces = re.findall(r'<span class="joined">(.*?)<!--joined--></span>', pages[page])
    assert [re.sub(r"<span.*</span>", "", piece) for piece in pieces] == (
        [("(" if "(" in before else "") + end] if end else []
    )
    before_again = dict(pages)
    formulas.typeset(pages, tmp_path)
    assert pages == before_again


@needs_node
def test_a_formula_that_is_wrong_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"\\frac"):
        formulas.typeset({tmp_path / "a.html": FORMULA.replace(r"\alpha", r"\frac{1")}, tmp_path)


def test_without_node_pages_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(formulas, "find_node", lambda: None)
    pages = {tmp_path / "a.html": FORMULA + SCRIPT}
    formulas.typeset(pages, tmp_path)
    assert pages == {tmp_path / "a.html": FORMULA + SCRIPT}


def test_one_stylesheet_with_the_rules_that_can_apply(tmp_path):
    (tmp_path / "_static" / "deep").mkdir(parents=True)
    (tmp_path / "_static" / "base.css").write_text(".used { color: red } .unused, .used .late { color: blue }")
    (tmp_path / "_static" / "deep" / "own.css").write_text(
        '@import "../base.css"; @media print { .unused { top: 0 } #here:not(.gone) { background: url(../x.svg) } }'
    )
    (tmp_path / "_static" / "page.js").write_text('element.classList.add("late")')
    page = tmp_path / "book" / "a.html"
    html = '<title>A</title>\n<link rel="stylesheet" href="../_static/deep/own.css?v=1" />\n<p class="used" id="here">'
    pages = {page: html}
    stylesheets.unite(pages, tmp_path)
    (sheet,) = (tmp_path / "_static").glob("book.*.css")
    css = sheet.read_text().replace(" ", "")
    assert css == '.used{color:red}.used.late{color:blue}@mediaprint{#here:not(.gone){background:url("x.svg")}}'
    assert pages[page].count("stylesheet") == 1 and f"../_static/{sheet.name}" in pages[page]
    before = dict(pages)
    stylesheets.unite(pages, tmp_path)
    assert pages == before, "a page that is light stays as it is"
    (tmp_path / "_static" / "base.css").write_text(".used { color: green }")
    stylesheets.unite(pages, tmp_path)
    (sheet,) = (tmp_path / "_static").glob("book.*.css")
    assert "green" in sheet.read_text() and sheet.name in pages[page], "a stylesheet that has changed is read again"


def test_pictures_say_their_size_and_wait_if_they_are_not_near_the_top(tmp_path):
    colours = Image.linear_gradient("L").resize((60, 40))
    Image.merge("RGB", [colours, colours.rotate(180), colours]).save(tmp_path / "a.png")
    size = (tmp_path / "a.png").stat().st_size
    (tmp_path / "c.svg").write_text('<svg width="9pt" viewBox="0 0 360 187.2" version="1.1">')
    near = '<img alt="a" src="a.png" /><h2>One</h2><img src="c.svg" />'
    far = '<h2>Two</h2><img src="a.png"><img alt="b" src="https://example.org/b.png"><img src="c.svg" />'
    pages = {tmp_path / "a.html": f'<img src="c.svg"><article>{near}{far}</article>'}
    pictures.shrink(pages)
    logo, first, second, third, other, last = pictures.PICTURE.findall(pages[tmp_path / "a.html"])
    assert 'width="60" height="40" decoding' in first and 'width="360" height="187" decoding' in second
    assert 'width="60" height="40" loading="lazy"' in third and "lazy" not in other
    assert 'width="360" height="187" loading="lazy"' in last and 'loading="lazy"' in logo
    assert (tmp_path / "a.png").stat().st_size <= size
    before = dict(pages)
    pictures.shrink(pages)
    assert pages == before


def test_scripts_come_last_in_their_order(tmp_path):
    html = (
        '<head><script data-cfasync="false">1</script>\n<script src="a.js"></script>\n<script>let b;</script>\n'
        '<script src="fontawesome.js"></script>\n<script src="_static/searchtools.js"></script>\n</head>'
        "<body>text\n  <!-- Scripts loaded after <body> -->\n<script>z</script></body>"
    )
    pages = {tmp_path / "page.html": html, tmp_path / "search.html": html}
    scripts.put_last(pages)
    head, _, body = pages[tmp_path / "page.html"].partition("</head>")
    assert head == '<head><script data-cfasync="false">1</script>\n'
    assert [body.find(part) for part in ("text", "a.js", "let b", ">z<")] == sorted(
        body.find(part) for part in ("text", "a.js", "let b", ">z<")
    )
    assert "fontawesome" not in body and "searchtools" not in body
    assert (
        "searchtools" not in pages[tmp_path / "search.html"]
        and "_static/sections.js" in pages[tmp_path / "search.html"]
    )
    before = dict(pages)
    scripts.put_last(pages)
    assert pages == before


def test_a_reader_waits_for_no_script(tmp_path):
    theirs = [
        '<script src="options.js"></script>',
        '<script defer="defer" src="b.js"></script>',
        "<script>DOCUMENTATION_OPTIONS.pagename = 'a';</script>",
        "<script>let hint = 'Click';</script>",
        '<script type="application/json">{}</script>',
    ]
    page = tmp_path / "page.html"
    pages = {page: f"<head>{''.join(theirs)}</head><body>{scripts.BEHIND} <body> --></body>"}
    scripts.put_last(pages)
    assert (
        re.findall("<script.*?</script>", pages[page])
        == [
            '<script defer src="options.js"></script>',
            theirs[1],
            """<script type="module">DOCUMENTATION_OPTIONS.pagename = 'a';</script>""",  # after options.js, as before
            *theirs[3:],
        ]
    )


def test_files_become_one_that_pages_share(tmp_path):
    static = tmp_path / "_static"
    (static / "scripts").mkdir(parents=True)
    (static / "a.js").write_text("const a = {\n  b: 1\n}")  # no semicolon, no new line
    (static / "scripts" / "b.js").write_text("(function () { a.b = 2 })() //# sourceMappingURL=b.map")
    (static / "c.js").write_text('"use strict";\na.b += 3;\n')
    (static / "book.0123456789ab.js").write_text("of the last build")
    tags = '<script defer src="{0}a.js?v=1"></script>\n<script>let d;</script>\n<script defer src="{0}scripts/b.js"></script>\n'
    theirs = '<script defer src="{0}theme.js?digest=2"></script>\n'  # the theme's own: it names other files
    pages = {
        tmp_path / "one.html": f"one{tags}{theirs}".replace("{0}", "_static/"),
        tmp_path / "in" / "two.html": f"two{tags}{theirs}".replace("{0}", "../_static/"),
        tmp_path / "more.html": f'more{tags}<script defer src="{{0}}c.js"></script>'.replace("{0}", "_static/"),
        tmp_path / "none.html": "none",
    }
    scripts.unite(pages, tmp_path)
    small, large = sorted(static.glob("book.*.js"), key=lambda file: file.stat().st_size)
    theme = theirs.replace("{0}", "_static/")
    tag = '    <script defer src="{}"></script>\n<script>let d;</script>\n'
    assert list(pages.values()) == [
        f"one{tag.format(f'_static/{small.name}')}{theme}",
        f"two{tag.format(f'../_static/{small.name}')}{theme.replace('_static', '../_static')}",
        f"more{tag.format(f'_static/{large.name}')}",
        "none",
    ]
    assert large.read_text() == "\n;\n".join((static / file).read_text() for file in ("a.js", "scripts/b.js", "c.js"))
    before = dict(pages)
    scripts.unite(pages, tmp_path)
    assert pages == before and small.exists() and large.exists(), "a second build may write no page again"


def test_the_scheme_is_decided_before_anything_is_painted(tmp_path):
    layout = Path(find_spec("pydata_sphinx_theme").origin).parent / "theme" / "pydata_sphinx_theme" / "layout.html"
    assert 'dataset.theme = localStorage.getItem("theme")' in layout.read_text(), "another theme: look at its head"
    page = tmp_path / "page.html"
    pages = {page: f"<head><script data-cfasync>dataset.theme = {scripts.UNDECIDED}</script></head><body></body>"}
    scripts.put_last(pages)
    assert "auto" not in pages[page] and f"dataset.theme = {scripts.DECIDED}" in pages[page]


def test_the_theme_measures_nothing_when_a_page_opens(tmp_path):
    theme = Path(find_spec("pydata_sphinx_theme").origin).parent / "theme" / "pydata_sphinx_theme" / "static"
    script = tmp_path / scripts.THEME
    script.parent.mkdir(parents=True)
    script.write_bytes((theme / "scripts" / script.name).read_bytes())
    before = script.read_text(encoding="utf-8")
    assert len(scripts.MEASURED.findall(before)) == 1, "another theme: look at what it measures now"
    scripts.spare_layout(tmp_path)
    after = script.read_text(encoding="utf-8")
    assert "[].forEach(e=>{e.tabIndex=" in after and not scripts.MEASURED.search(after)
    scripts.spare_layout(tmp_path)
    assert script.read_text(encoding="utf-8") == after
