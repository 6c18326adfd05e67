"""What the search looks through: the places of a page with their text and code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from docutils import nodes

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import search  # noqa: E402


@pytest.mark.parametrize(
    ("tex", "letters"),
    [
        (r"\theta_i^{(K)}", "θ_i^(K)"),
        (r"\tfrac12 h", "1/2 h"),
        (r"\frac{a}{b}", "a/b"),
        (r"\mathcal L^{\text{s}}", "L^s"),
        (r"\lambda \le 1", "λ ≤ 1"),
    ],
)
def test_a_formula_in_letters(tex, letters):
    assert search.squeezed(search.in_letters(tex)) == letters


def test_a_section_has_its_own_text_and_its_open_code():
    page = nodes.section("", nodes.title("", "Page"), nodes.paragraph("", "First."), ids=["page"])
    inner = nodes.section(
        "",
        nodes.title("", "Inner"),
        nodes.bullet_list("", nodes.list_item("", nodes.paragraph("", "Point."))),
        ids=["inner"],
    )
    inner += nodes.container("", nodes.literal_block("", "open = 1"), nb_element="cell_code")
    inner += nodes.container(
        "", nodes.literal_block("", "secret = 1"), nb_element="cell_code", classes=["tag_solution"]
    )
    inner += nodes.container("", nodes.literal_block("", "printed"), nb_element="cell_code_output")
    page += inner
    document = nodes.document(None, None, "", page)
    assert list(search.sections(document)) == [("page", "Page", "First.", ""), ("inner", "Inner", "Point.", "open = 1")]
