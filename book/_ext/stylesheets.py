"""One stylesheet for all pages, with the rules that some page or script can use, and a font with the icons that are left.

A theme brings rules for thousands of icons and components. A rule stays if each class and id in one of its selectors is a word
somewhere in the pages' HTML or in a script, which may add it later.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import tinycss2

import united
from fonts import write_subset

LINK = re.compile(r'[ \t]*<link(?=[^>]*rel="stylesheet")[^>]*href="(?P<href>[^"?]+)[^"]*"[^>]*>\n?')
ONE = re.compile(r'[ \t]*<link rel="stylesheet" href="[^"]*_static/book\.[0-9a-f]{12}\.css"[^>]*>\n?')
WORD = re.compile(r"[\w-]+")
NAME = re.compile(r"[.#]((?:\\.|[\w-])+)")
URL = re.compile(r"url\((['\"]?)(?!data:|#)([^'\")]+)\1\)")
ICON_FONTS = {"Font Awesome 6 Free": "fa-solid-900.ttf", "Font Awesome 6 Brands": "fa-brands-400.ttf"}


def unite(pages: dict[Path, str], out: Path) -> None:
    """Replace the stylesheets that every page asks for by one, which is written to ``_static``."""
    static = out / "_static"
    memory = static / "stylesheets.txt"  # which they were: a second build may write no page again
    sheets = list(dict.fromkeys(sheet for path, text in pages.items() for sheet in linked(path, text)))
    if sheets:
        memory.write_text("\n".join(os.path.relpath(sheet, static) for sheet in sheets), encoding="utf-8")
    elif memory.exists():
        sheets = [(static / line).resolve() for line in memory.read_text(encoding="utf-8").splitlines()]
    else:
        return
    if (formulas := static / "formulas.css").exists():
        sheets.append(formulas)  # see formulas.py
    texts = [*pages.values(), *(file.read_text(encoding="utf-8") for file in scripts(static))]
    words = {word for text in texts for word in WORD.findall(text)}
    rules = [rule for sheet in sheets for rule in rules_of(sheet, static)]
    css = with_icons("".join(kept(rules, words)), static)
    for old in static.glob("book.*.css"):
        old.unlink()
    name = united.write(static, css, "css")
    for path, text in pages.items():
        link = f'<link rel="stylesheet" href="{united.address(path, static, name)}">\n'
        pages[path] = LINK.sub("", ONE.sub("", text)).replace("</title>", f"</title>{link}", 1)


def linked(path: Path, text: str) -> list[Path]:
    """The stylesheets of a page, in order."""
    found = [(path.parent / match["href"]).resolve() for match in LINK.finditer(ONE.sub("", text))]
    return [sheet for sheet in found if sheet.exists()]


def scripts(static: Path) -> list[Path]:
    """Scripts that may put a class on an element: all but MathJax, which has words for everything, and the icons' drawings."""
    return [file for file in static.rglob("*.js") if "mathjax" not in file.parts and file.name != "fontawesome.js"]


def rules_of(sheet: Path, static: Path) -> list:
    """The rules of a stylesheet and of those it imports, with addresses as seen from ``_static``."""
    text = sheet.read_text(encoding="utf-8")
    place = os.path.relpath(sheet.parent, static).replace(os.sep, "/")
    text = URL.sub(lambda match: f'url("{os.path.normpath(f"{place}/{match[2]}")}")', text)
    rules = []
    for rule in tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True):
        if rule.type == "at-rule" and rule.lower_at_keyword == "import":
            address = next(token.value for token in rule.prelude if token.type in ("string", "url"))
            rules += rules_of((sheet.parent / address).resolve(), static)
        else:
            rules.append(rule)
    return rules


def kept(rules: list, words: set[str]) -> list[str]:
    """The rules that can apply to a page with these words, as text."""
    found = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [s.strip() for s in split(tinycss2.serialize(rule.prelude)) if can_apply(s, words)]
            if selectors:
                found.append(f"{','.join(selectors)}{{{squeezed(rule.content)}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports") and rule.content is not None:
            inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
            if body := "".join(kept(inner, words)):
                found.append(f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{body}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword != "charset":
            found.append(rule.serialize())
    return found


def split(selectors: str) -> list[str]:
    """At the commas outside of parentheses."""
    parts, depth = [""], 0
    for letter in selectors:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def can_apply(selector: str, words: set[str]) -> bool:
    """Whether each class and id that the selector asks for is a word of the pages; what it excludes may be missing."""
    asked = re.sub(r":(?:not|is|where|has)\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\]", "", selector)
    return all(name.replace("\\", "") in words for name in NAME.findall(asked))


def squeezed(content: list) -> str:
    """Declarations without comments and needless spaces."""
    return re.sub(r"\s+", " ", tinycss2.serialize([token for token in content if token.type != "comment"])).strip()


def with_icons(css: str, static: Path) -> str:
    """Point the icons' font faces to subsets with the characters that the stylesheet still names."""
    css = re.sub(r"\\(e[0-9a-f]{3}|f[0-8][0-9a-f]{2})(?![0-9a-f])\s?", lambda match: chr(int(match[1], 16)), css)
    characters = {ord(letter) for letter in css if "\ue000" <= letter <= "\uf8ff"}  # for private use: icons
    target = static / "icons"
    target.mkdir(exist_ok=True)

    def face(match: re.Match[str]) -> str:
        family = match["family"].replace("\\", "").strip("\"' ")
        source = static / "vendor/fontawesome/webfonts" / ICON_FONTS.get(family, "")
        if not source.is_file() or ("400" in match[0] and "Brands" not in family):
            return ""  # a face of which no icon is used
        write_subset(source, target / f"{source.stem}.woff", characters)
        weight = 400 if "Brands" in family else 900
        return (
            f'@font-face{{font-display:block;font-family:"{family}";font-weight:{weight};'
            f'src:url("icons/{source.stem}.woff") format("woff")}}'
        )

    return re.sub(r"@font-face\s*\{[^}]*?font-family:(?P<family>[^;}]*Awesome[^;}]*)[^}]*\}", face, css)
