"""A table says the same in HTML and in plain text, and its cells can't be taken for HTML."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from mamlkit.tables import Table

TABLE = Table("Loss, K < 5", ["learner", "loss"], [["MAML", "0.31 ± 0.02"], ["<b>", 7]])


def test_as_text():
    assert repr(TABLE).splitlines() == [
        "Loss, K < 5",
        "learner         loss",
        "MAML     0.31 ± 0.02",
        "<b>                7",
    ]


def test_as_html():
    root = ElementTree.fromstring(TABLE._repr_html_())
    assert root.findtext("caption") == "Loss, K < 5"
    assert [cell.text for cell in root.iter("th")] == ["learner", "loss", "MAML", "<b>"]
    assert [cell.get("scope") for cell in root.iter("th")] == ["col", "col", "row", "row"]
    assert [cell.text for cell in root.iter("td")] == ["0.31 ± 0.02", "7"]


@pytest.mark.parametrize("rows", [[], [["MAML"]], [["MAML", 1, 2]]])
def test_rows_that_do_not_fit(rows):
    with pytest.raises(ValueError, match="expected"):
        Table("Loss", ["learner", "loss"], rows)
