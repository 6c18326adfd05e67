"""What the company figure holds: the images, and a network's answers in every company against a loop written out here."""

import base64
import json

import pytest
import torch
import traitlets
from torch.func import functional_call

from mamlkit import conv4, parameters_of
from mamlkit.widgets import Company, company_answers

GENERATOR = torch.Generator().manual_seed(0)
SUPPORT, QUERY = (torch.randint(0, 256, (number, 1, 28, 28), generator=GENERATOR).double() / 255 for number in (5, 4))
CLASSES = [4, 0, 4, 2]
MODEL = conv4(5, filters=4, downsample="stride", seed=0).double()


def alone(images):
    """Each image answered by itself, whatever the company."""
    return images.flatten(1)[:, :5]


def figure(**settings):
    return Company({"batch": MODEL.train(), "alone": alone}, SUPPORT, QUERY, CLASSES, **settings)


def test_answers_against_a_loop_over_companies():
    found = company_answers(MODEL.train(), QUERY)
    assert found.shape == (8, 5)
    theta = parameters_of(MODEL)
    companies = [[], [1], [2], [1, 2], [3], [1, 3], [2, 3], [1, 2, 3]]
    for row, company in enumerate(companies):
        logits = functional_call(MODEL, theta, (torch.cat([QUERY[:1], *(QUERY[[i]] for i in company)]),))
        torch.testing.assert_close(found[row], logits[0].softmax(0).detach())
    assert (found - found[0]).abs().max() > 0.01, "company makes a difference in a network with batch norm"
    by_itself = company_answers(alone, QUERY)
    torch.testing.assert_close(by_itself, by_itself[:1].expand(8, -1))


def test_figure_holds_what_python_has():
    shown = figure(present=[2, 0])
    pixels = torch.frombuffer(bytearray(base64.b64decode(shown.images)), dtype=torch.uint8).view(9, 1, 28, 28)
    torch.testing.assert_close(pixels.double() / 255, torch.cat([SUPPORT, QUERY]))
    assert shown.classes == CLASSES and shown.names == ["batch", "alone"] and shown.present == [0, 2]
    answers = torch.tensor(shown.answers, dtype=torch.float64)
    for found, answer in zip(answers, (MODEL.train(), alone), strict=True):
        torch.testing.assert_close(found, company_answers(answer, QUERY), atol=5.1e-5, rtol=0)
    assert repr(shown) == "Company(3 companions, 2 ways to normalise)"


def test_state_is_small():
    """Seven companions of 28 x 28 pixels and three ways: as much as the figure takes."""
    support, query = torch.rand(5, 1, 28, 28), torch.rand(8, 1, 28, 28)
    shown = Company({name: alone for name in "abc"}, support, query, [0] * 8)
    state = {name: value for name, value in shown.get_state().items() if name not in ("_esm", "_css")}
    assert len(json.dumps(state)) < 60_000


def test_wrong_settings_are_named():
    ways = {"alone": alone}
    with pytest.raises(ValueError, match=r"got support_x \(5, 3, 28, 28\)"):
        Company(ways, SUPPORT.expand(-1, 3, -1, -1), QUERY, CLASSES)
    with pytest.raises(ValueError, match="1 to 7 companions, got 0"):
        Company(ways, SUPPORT, QUERY[:1], CLASSES[:1])
    with pytest.raises(ValueError, match="a class below 5 for each of 4 images"):
        Company(ways, SUPPORT, QUERY, [4, 0, 5, 2])
    with pytest.raises(ValueError, match="a class below 5 for each of 4 images"):
        Company(ways, SUPPORT, QUERY, CLASSES[:3])
    with pytest.raises(ValueError, match=r"from 0 to 2, got \[3\]"):
        Company(ways, SUPPORT, QUERY, CLASSES, present=[3])
    with pytest.raises(traitlets.TraitError):
        figure().present = [-1]


def test_front_end_stands_alone():
    """No import and no address of another host in what the page runs."""
    shown = figure()
    assert "export default" in shown._esm
    for text in (shown._esm, shown._css):
        assert "import " not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
