"""The torch function behind the grade book, against sums by hand and against what the chapter says."""

import pytest
import torch
import traitlets

import mamlkit
from mamlkit.widgets import GradeBook, grades_seen
from mamlkit.widgets.grade_book import STUDENTS


@pytest.mark.parametrize("epoch", [0, 3, 5, 9, 10, 25])
def test_grades_are_weighted_sums(epoch):
    values = torch.rand(3, 5, generator=torch.Generator().manual_seed(epoch))
    seen = grades_seen(values, epoch)
    weights = mamlkit.AnnealedMultiStep(10).weights(5, epoch)
    by_hand = [sum(w * v for w, v in zip(weights.tolist(), row, strict=True)) for row in values.tolist()]
    assert seen["maml++"].tolist() == pytest.approx(by_hand, rel=1e-6)
    assert torch.equal(seen["maml"], values[:, -1])
    assert seen["maml"].dtype == seen["maml++"].dtype == values.dtype


def test_students_of_the_chapter():
    seen = grades_seen(STUDENTS)
    assert seen["maml"].tolist() == [75, 78]
    assert seen["maml++"].tolist() == pytest.approx([53, 70.6])
    assert grades_seen(STUDENTS, 10)["maml++"].tolist() == [75, 78]


def test_widget_holds_its_settings_and_names_wrong_ones():
    figure = GradeBook(rows=[[2.5, 1.2, 0.9], [1, 2, 0.8]], kind="losses", epoch=5)
    assert repr(figure) == "GradeBook(kind='losses', epoch=5)"
    assert figure.top == 3
    torch.testing.assert_close(figure.grades()["maml++"], grades_seen(figure.rows, 5)["maml++"])
    for wrong in ({"kind": "marks"}, {"epoch": 11}, {"epoch": -1}):
        with pytest.raises(traitlets.TraitError):
            GradeBook(**wrong)
    for rows in (
        [[1, 2]],
        [[1, 2], [1]],
        [[1], [2]],
        [[1, float("nan")], [1, 2]],
        [[-1, 2], [1, 2]],
        [[101, 2], [1, 2]],
    ):
        with pytest.raises(ValueError, match="expected"):
            GradeBook(rows=rows)


@pytest.mark.parametrize("values", [[1.0, 2.0], torch.zeros(2, 0), torch.zeros(0, 3)])
def test_grades_of_another_shape(values):
    with pytest.raises(ValueError, match=r"expected values of shape \(rows, steps\)"):
        grades_seen(values)


def test_front_end_stands_alone():
    """No import and no address of another host in what the page runs."""
    figure = GradeBook()
    assert "export default" in figure._esm
    for text in (figure._esm, figure._css):
        assert "import " not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
