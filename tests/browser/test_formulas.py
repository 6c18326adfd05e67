"""Formulas set by the build, on a small page of their own: how they break into lines."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import formulas  # noqa: E402

TEXT = "<p>one two three four five six ({}), seven eight nine {}.</p>"
# In every width: how many formulas do not stand on one line with the sign before and after them, where there is one.
PARTED = r"""() => {
    const place = (text, at) => {
        const range = document.createRange();
        range.setStart(text, at);
        range.setEnd(text, at + 1);
        return range.getBoundingClientRect();
    };
    let parted = 0;
    for (let width = 60; width <= 400; width += 2) {
        document.querySelector('p').style.width = `${width}px`;
        for (const formula of document.querySelectorAll('span.math')) {
            const box = formula.querySelector('mjx-math').getBoundingClientRect();
            const { previousSibling: before, nextSibling: after } = formula;
            if (before?.data?.endsWith('(') && place(before, before.length - 1).right > box.left + 1) parted += 1;
            if (/^[.,)]/.test(after?.data) && place(after, 0).left < box.right - 1) parted += 1;
        }
    }
    return parted;
}"""


@pytest.mark.skipif(formulas.find_node() is None, reason="Node is not here: the reader's browser sets the formulas")
def test_a_full_stop_stands_on_the_line_of_its_formula(browser, tmp_path):
    path = tmp_path / "page.html"
    pages = {path: TEXT.format(*(rf'<span class="math">\({tex}\)</span>' for tex in ("K = 5", r"\theta - \alpha g")))}
    formulas.typeset(pages, tmp_path)
    rule = re.search(r"\.joined \{.*?\}", (ROOT / "book" / "_static" / "book.css").read_text(encoding="utf-8")).group()
    page = browser.new_page()
    counts = []
    for own in (rule, ""):
        style = f'<meta charset="utf-8"><link rel="stylesheet" href="formulas.css"><style>{own}</style>'
        path.write_text(style + pages[path], encoding="utf-8")
        page.goto(path.as_uri())
        page.evaluate("() => document.fonts.ready.then(() => true)")
        counts.append(page.evaluate(PARTED))
    page.close()
    assert counts[0] == 0 and counts[1] > 0, "without the rule some lines would begin with a full stop"
