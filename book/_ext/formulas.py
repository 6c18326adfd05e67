"""Formulas set when the book is built, so that a reader's browser need not load MathJax and wait for it.

MathJax comes from a package, and so does the Node that runs it (Playwright brings one); where there is none, pages keep
MathJax's script. Screen readers get MathML, as in the browser; what is copied is the formula's TeX (see copy_formula.js).
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from fonts import write_subset

# A formula as Sphinx writes it, or as this module did in an earlier build: a page is not written again unless it changed.
FORMULA = re.compile(
    r'<(?P<tag>span|div) class="(?P<classes>math[^"]*)"(?P<rest>(?: id="[^"]*")?)'
    r'(?: data-tex="(?P<set>[^"]*)">.*?<!--formula--></(?P=tag)>'
    r'|>(?P<before>(?:<span class="eqno">.*?</span>)?)(?P<raw>[^<]*)</(?P=tag)>)',
    re.DOTALL,
)
# An inline formula that is set, with what stands right before and after it. Browsers may end a line on either side of a formula.
SET = r'<span class="math[^"]*"(?: id="[^"]*")? data-tex="[^"]*">(?:(?!<!--formula-->).)*<!--formula--></span>'
ENDS = re.compile(rf"(?P<before>[(\[“‘]*)(?P<formula>{SET})(?P<after>[.,;:!?)\]”’…]*)", re.DOTALL)
JOINED = re.compile(r'<span class="joined">((?:(?!<!--joined-->).)*)<!--joined--></span>', re.DOTALL)
LONGEST = (
    20  # characters: a formula of more may be nearly as wide as a phone, and has to leave what follows to the next line
)
SCRIPTS = re.compile(r"\s*<script>window\.MathJax = .*?</script>|\s*<script[^>]*mathjax/tex-chtml\.js[^>]*></script>")


def find_node() -> str | None:
    """The Node of the system, or the one that Playwright brings."""
    spec = find_spec("playwright")
    driver = Path(spec.origin).parent / "driver" if spec and spec.origin else Path()
    bundled = next((str(file) for file in (driver / "node", driver / "node.exe") if file.exists()), None)
    return bundled or shutil.which("node")


def mathjax_folder() -> Path:
    """Where the package with MathJax has it. Raises RuntimeError where it is not installed."""
    spec = find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("MathJax is missing: install sphinx-mathjax-offline (it is in requirements.txt)")
    return Path(spec.origin).parent / "static" / "mathjax"


def typeset(pages: dict[Path, str], static: Path) -> None:
    """Set the formulas of all pages in place, and write their stylesheet and fonts; without Node nothing changes."""
    node = find_node()
    found = [tex_of(match) for text in pages.values() for match in FORMULA.finditer(text)]
    if node is None or not found:
        return
    wanted = list(dict.fromkeys(found))  # (tex, display)
    made = render(wanted, node)
    by_source = dict(zip(wanted, made["html"], strict=True))
    for path, text in pages.items():
        text = FORMULA.sub(lambda match: placed(match, by_source), JOINED.sub(r"\1", text))
        pages[path] = SCRIPTS.sub("", ENDS.sub(joined, text))
    copy_fonts(made["css"], static)


def tex_of(match: re.Match[str]) -> tuple[str, bool]:
    """The TeX of a formula without its delimiters, and whether it stands on a line of its own."""
    text = match["set"] if match["set"] is not None else match["raw"]
    text = html.unescape(text).strip()
    for left, right in ((r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(left) and text.endswith(right):
            text = text[2:-2].strip()
    return text, match["tag"] == "div"


def placed(match: re.Match[str], by_source: dict[tuple[str, bool], str]) -> str:
    """The element with the formula in it; its TeX stays beside it."""
    tex, display = tex_of(match)
    opening = f'<{match["tag"]} class="{match["classes"]}"{match["rest"]} data-tex="{html.escape(tex)}">'
    return f"{opening}{match['before'] or ''}{by_source[tex, display]}<!--formula--></{match['tag']}>"


def joined(match: re.Match[str]) -> str:
    """A formula on one line with its brackets and with the full stop or comma after it."""
    ends = match["before"] or match["after"]
    if not ends or match["formula"].count("<mjx-c ") > LONGEST:
        return match[0]
    return f'<span class="joined">{match[0]}<!--joined--></span>'


def render(formulas: list[tuple[str, bool]], node: str) -> dict:
    """What formulas.mjs says. Raises RuntimeError with its words where it fails."""
    program = [node, str(Path(__file__).with_name("formulas.mjs")), str(mathjax_folder())]
    asked = json.dumps([{"tex": tex, "display": display} for tex, display in formulas])
    answer = subprocess.run(program, input=asked, capture_output=True, text=True, check=False, encoding="utf-8")
    if answer.returncode:
        raise RuntimeError(f"MathJax could not set the formulas: {answer.stderr.strip()[-500:]}")
    return json.loads(answer.stdout)


def copy_fonts(css: str, static: Path) -> None:
    """The stylesheet, and the fonts that it names, with the characters that it writes."""
    fonts = mathjax_folder() / "output/chtml/fonts/woff-v2"
    target = static / "formulas"
    target.mkdir(exist_ok=True)
    characters = {code for text in re.findall(r'content: "([^"]*)"', css) for code in code_points(text)}
    for name in set(re.findall(r"mathjax/([\w-]+\.woff)", css)):
        write_subset(fonts / name, target / name, characters)
    (static / "formulas.css").write_text(css.replace('"mathjax/', '"formulas/'), encoding="utf-8")


def code_points(text: str) -> set[int]:
    """The characters of a string of CSS, in which ``\\3B1`` stands for alpha."""
    escaped = re.compile(r"\\([0-9A-Fa-f]{1,6}) ?")
    return {int(code, 16) for code in escaped.findall(text)} | {ord(letter) for letter in escaped.sub("", text)}
