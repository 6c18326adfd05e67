"""What the figure of chapter 12 shows, against the record; and whether each sign that it names is true of one learner alone."""

import statistics

import pytest
import torch
import traitlets

import mamlkit
from mamlkit.widgets import Diagnose, symptoms_of
from mamlkit.widgets.diagnose import PATIENTS, SUSPECTS

RECORD = mamlkit.recorded("find-the-bug")
SYMPTOMS = {name: symptoms_of(name, healthy=name == "right") for name in PATIENTS}
RIGHT = symptoms_of("right")
MIDDLE = {
    name: {key: value[0] if value.ndim == 2 else value for key, value in of.items()} for name, of in SYMPTOMS.items()
}
OWN = {key: value[0] if value.ndim == 2 else value for key, value in RIGHT.items()}


@pytest.mark.parametrize("name", PATIENTS)
def test_curves_are_means_of_the_record(name):
    rows = [row for row in RECORD["rows"] if row["learner"] == name]
    rows = [row for row in rows if (row["seed"] >= RECORD["seeds"]) == (name == "right")]
    assert len(rows) == RECORD["seeds"]
    for symptom in ("training", "steps"):
        columns = list(zip(*(row[symptom] for row in rows), strict=True))
        mean, low, high = SYMPTOMS[name][symptom].tolist()
        assert mean == pytest.approx([statistics.mean(column) for column in columns])
        assert low == [min(column) for column in columns] and high == [max(column) for column in columns]
    assert SYMPTOMS[name]["memory"].tolist() == RECORD["memory"][name]


def far_apart(one, other):
    """Whether two losses differ by more than half of the smaller."""
    return abs(one - other) > 0.5 * min(one, other)


#: What the figure says one would see of each, in numbers: it must hold for that learner and for no other.
SIGNS = {
    "no graph": lambda s: s["memory"][-1] == s["memory"][0],
    "two losses": lambda s: torch.allclose(s["training"], OWN["training"], rtol=1e-2) and s["steps"][5] > 4 * OWN["steps"][5],
    "copy": lambda s: s["training"][-5:].mean() > 0.8 * s["training"][:5].mean(),
    "chain": lambda s: (
        0.8 < s["training"][0] / OWN["training"][0] < 1.25
        and s["training"][-5:].mean() > 1.3 * OWN["training"][-5:].mean()
        and s["steps"][5] < 1.15 * OWN["steps"][5]
        and s["memory"].equal(OWN["memory"])
    ),
    "sum": lambda s: 4 < s["training"][0] / OWN["training"][0] < 6 and 4 < s["training"][-1] / OWN["training"][-1] < 6,
    "leak": lambda s: s["training"][0] < 0.8 * OWN["training"][0] and s["steps"][5] > 1.5 * OWN["steps"][5],
    "right": lambda s: not any(
        far_apart(s[key][-5:].mean(), OWN[key][-5:].mean()) for key in ("training", "steps", "memory")
    ),
}  # fmt: skip


def test_each_sign_is_that_of_one_learner():
    assert list(SIGNS) == [suspect[0] for suspect in SUSPECTS] and sorted(SIGNS) == sorted(PATIENTS)
    for sign, holds in SIGNS.items():
        assert [name for name in PATIENTS if holds(MIDDLE[name])] == [sign]


def test_widget_holds_what_it_shows():
    figure = Diagnose(patient=3)
    assert repr(figure) == "Diagnose(7 learners)"
    assert [SUSPECTS[number][0] for number in figure.answers] == list(PATIENTS)
    assert figure.guesses == [[]] * 7 and figure.patient == 3
    for name, shown in zip(PATIENTS, figure.patients, strict=True):
        for key, values in SYMPTOMS[name].items():
            assert torch.tensor(shown[key]).flatten().tolist() == pytest.approx(values.flatten().tolist(), abs=1e-4)
            assert len(figure.axes[key]) == values.shape[-1]
    for wrong in (-1, 7):
        with pytest.raises(traitlets.TraitError):
            Diagnose(patient=wrong)
    with pytest.raises(ValueError, match=r"^expected one of 'right', .*, got 'other'"):
        symptoms_of("other")


def test_front_end_stands_alone():
    """No import and no address of another host in what the page runs."""
    figure = Diagnose()
    assert "export default" in figure._esm
    for text in (figure._esm, figure._css):
        assert "import " not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
