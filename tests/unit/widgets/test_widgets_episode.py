"""What the episode figure holds: the images, the labels, and a network's answers against a loop written out here."""

import base64

import pytest
import torch
import traitlets
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from mamlkit import ImageClasses, ImageTasks, conv4, maml, parameters_of
from mamlkit.widgets import Episode, episode_answers


@pytest.fixture(scope="module")
def tasks():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (9, 4, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return ImageTasks(ImageClasses.of(images), ways=5, shots=1, queries=3).sample(4, generator)


@pytest.fixture(scope="module")
def learner():
    return maml(conv4(5, image_size=16, filters=4, downsample="stride", seed=0), inner_steps=2, inner_lr=0.3)


def test_answers_against_a_plain_loop(learner, tasks):
    answers = episode_answers(learner, tasks)
    assert answers.shape == (2, 4, 15, 5)
    torch.testing.assert_close(answers.sum(-1), torch.ones(2, 4, 15))
    model = learner.model.train()
    for i, (support_x, support_y, query_x, _) in enumerate(zip(*tasks, strict=True)):
        theta = parameters_of(model)
        for steps in range(3):
            if steps in (0, 2):
                shown = functional_call(model, theta, (query_x,)).softmax(1)
                torch.testing.assert_close(answers[min(steps, 1), i], shown.detach())
            loss = cross_entropy(functional_call(model, theta, (support_x,)), support_y)
            gradients = torch.autograd.grad(loss, list(theta.values()))
            theta = {name: p - 0.3 * g for (name, p), g in zip(theta.items(), gradients, strict=True)}


def test_figure_holds_what_python_has(learner, tasks):
    figure = Episode(learner, tasks, questions=6, seed=1)
    asked = figure.tasks
    assert asked.query_x.shape == (4, 6, 1, 16, 16)
    assert asked.query_y.tolist() == figure.query_y and asked.support_y.tolist() == figure.support_y
    pixels = torch.frombuffer(bytearray(base64.b64decode(figure.images)), dtype=torch.uint8).view(4, 11, 1, 16, 16)
    torch.testing.assert_close(pixels.float() / 255, torch.cat([asked.support_x, asked.query_x], 1))
    torch.testing.assert_close(torch.tensor(figure.answers), episode_answers(learner, asked), atol=1e-6, rtol=0)
    assert figure.choices == [[-1] * 6] * 4 and figure.revealed == [False] * 4
    assert repr(figure) == "Episode(4 episodes, 5 ways, 6 questions each)"


def test_questions_are_query_images_of_their_task(learner, tasks):
    asked = Episode(learner, tasks, questions=6, seed=1).tasks
    for x, y, all_x, all_y in zip(asked.query_x, asked.query_y, tasks.query_x, tasks.query_y, strict=True):
        found = [[torch.equal(image, other) for other in all_x].index(True) for image in x]
        assert len(set(found)) == 6
        assert y.tolist() == all_y[found].tolist()
    again, other = (Episode(learner, tasks, questions=6, seed=seed).tasks.query_y for seed in (1, 2))
    assert torch.equal(again, asked.query_y) and not torch.equal(other, asked.query_y)


def test_wrong_settings_are_named(learner, tasks):
    colour = tasks._replace(query_x=tasks.query_x.expand(-1, -1, 3, -1, -1))
    with pytest.raises(ValueError, match="1, height, width"):
        Episode(learner, colour)
    with pytest.raises(ValueError, match="at most the 15 query images"):
        Episode(learner, tasks, questions=16)
    with pytest.raises(ValueError, match="questions"):
        Episode(learner, tasks, questions=0)
    with pytest.raises(ValueError, match="names for each of 4 tasks"):
        Episode(learner, tasks, names=[["a"] * 5])
    with pytest.raises(traitlets.TraitError):
        Episode(learner, tasks).episode = -1


def test_front_end_stands_alone(learner, tasks):
    """No import and no address of another host in what the page runs."""
    figure = Episode(learner, tasks)
    assert "export default" in figure._esm
    for text in (figure._esm, figure._css):
        assert "import " not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
