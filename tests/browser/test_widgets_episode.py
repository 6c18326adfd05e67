"""The episode figure, in a page that the book's own chain builds: no kernel, no other host, the network's answers of Python."""

import pytest
import torch
from widget_pages import axe_violations, build_page, open_page, smallest_text

from mamlkit.widgets import episode_answers

SOURCE = """import torch

import mamlkit
from mamlkit.widgets import Episode

generator = torch.Generator().manual_seed(3)
blobs = torch.rand(12, 1, 1, 7, 7, generator=generator) + torch.rand(12, 4, 1, 7, 7, generator=generator)
images = (127 * blobs).to(torch.uint8).repeat_interleave(4, -1).repeat_interleave(4, -2)
tasks = mamlkit.ImageTasks(images, queries=3).sample(3, generator)
learner = mamlkit.maml(mamlkit.conv4(5, filters=8, downsample="stride", seed=0), inner_steps=3, inner_lr=0.4)
names = [[f"blob {task}{c}" for c in range(5)] for task in range(3)]
figure = Episode(learner, tasks, questions=6, names=names)
figure"""


@pytest.fixture(scope="module")
def python():
    """The figure's tasks and the network's answers, computed here."""
    namespace = {}
    exec(SOURCE, namespace)
    figure = namespace["figure"]
    return figure.tasks, episode_answers(namespace["learner"], figure.tasks)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    with build_page(tmp_path_factory.mktemp("episode"), [SOURCE]) as urls:
        yield urls


@pytest.fixture
def page(book, browser):
    with open_page(browser, book["http"]) as page:
        yield page


def answer(page, letters):
    """Choose one class for each query image, by name as a reader of a screen would."""
    for number, letter in enumerate(letters, start=1):
        page.get_by_role("group", name=f"Query image {number}").get_by_label(letter, exact=True).check()


def reveal(page):
    page.get_by_role("button", name="Show the network's answer").click()
    return readout(page)


def readout(page):
    """What the figure shows, in full precision."""
    data = page.eval_on_selector(".mk-readout", "node => ({...node.dataset})")
    return {key: [float(number) for number in value.split(",")] for key, value in data.items()}


def letters(numbers):
    return ["ABCDE"[int(number)] for number in numbers]


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.get_by_text("Episode 1 of 3", exact=True).is_visible()
        assert page.locator(".mk-card canvas").count() == 5
        assert page.locator(".mk-question canvas").count() == 6
        assert page.get_by_role("button", name="Show the network's answer").is_disabled()
        assert not page.locator(".mk-readout").is_visible()


def test_images_are_those_of_python(page, python):
    tasks, _ = python
    drawn = page.eval_on_selector_all(
        ".mk-cards canvas, .mk-questions canvas",
        """nodes => nodes.map((node) => [...node.getContext('2d').getImageData(0, 0, node.width, node.height).data]
            .filter((_, i) => i % 4 === 0))""",
    )
    ink = 255 - torch.tensor(drawn).view(11, 28, 28)
    expected = 255 * torch.cat([tasks.support_x[0], tasks.query_x[0]])[:, 0]
    assert (ink - expected).abs().max() <= 1


def test_answers_and_score_are_those_of_python(page, python):
    tasks, probabilities = python
    score = torch.zeros(3, dtype=torch.int64)  # the reader, the network before, the network after
    for episode in range(3):
        guesses = [(i + episode) % 5 for i in range(6)]
        answer(page, letters(guesses))
        shown = reveal(page)
        before, after = probabilities[:, episode].flatten(1).tolist()
        assert shown["pBefore"] == pytest.approx(before, abs=1e-6)
        assert shown["pAfter"] == pytest.approx(after, abs=1e-6)
        assert shown["right"] == tasks.query_y[episode].tolist()
        given = torch.tensor([guesses, *probabilities[:, episode].argmax(-1).tolist()])  # (3, 6)
        for who, row in zip(("you", "before", "after"), given.tolist(), strict=True):
            assert shown[who] == row
        score += (given == tasks.query_y[episode]).sum(1)
        assert shown["score"] == score.tolist()
        asked = 6 * (episode + 1)
        line = f"you {score[0]} of {asked}, the network {score[1]} of {asked} before and {score[2]} of {asked} after"
        assert line in page.locator(".mk-score").inner_text()
        if episode < 2:
            page.get_by_role("button", name="Next episode").click()
    page.get_by_role("button", name="Start again").click()
    assert page.locator(".mk-score").inner_text() == "No episode is scored yet."
    assert page.locator(".mk-question input:checked").count() == 0


def test_table_says_what_the_bars_say(page, python):
    _, probabilities = python
    answer(page, "AAAAAA")
    reveal(page)
    row = page.locator(".mk-readout tbody tr").first
    label = row.locator("svg").last.get_attribute("aria-label")
    expected = [
        f"{letter} {round(100 * p)} %" for letter, p in zip("ABCDE", probabilities[1, 0, 0].tolist(), strict=True)
    ]
    assert label == ", ".join(expected)
    assert row.locator("td").nth(1).inner_text().startswith("A")


def test_keyboard_alone_and_live_region(page):
    page.locator(".mk-question input").first.focus()
    for _ in range(6):
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")  # from A to B
        page.keyboard.press("Tab")
    assert page.locator(".mk-question input:checked").count() == 6
    page.keyboard.press("Enter")  # the button is next
    assert readout(page)["you"] == [1] * 6
    page.wait_for_function("document.querySelector('.mk-fig [aria-live=polite]').textContent.includes('Score after 1')")
    assert page.evaluate("document.activeElement.textContent").startswith("You got")


def test_answers_stay_when_one_leafs_through(page):
    answer(page, "ABCDE")
    page.get_by_role("button", name="Next episode").click()
    assert page.locator(".mk-question input:checked").count() == 0
    page.get_by_role("button", name="Previous episode").click()
    assert page.locator(".mk-question input:checked").count() == 5


def test_images_in_words(page):
    page.get_by_text("The images in words").click()
    assert page.get_by_text("A: blob 00; B: blob 01").is_visible()


def test_touch(book, browser):
    with open_page(browser, book["http"], width=390, has_touch=True, is_mobile=True) as page:
        for card in page.locator(".mk-question").all():
            choice = card.locator(".mk-choice").nth(2)
            box = choice.bounding_box()
            assert min(box["width"], box["height"]) >= 24
            choice.tap()
        page.get_by_role("button", name="Show the network's answer").tap()
        assert readout(page)["you"] == [2] * 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        for done in (False, True):
            if done:
                answer(page, "ABCDEA")
                reveal(page)
            assert axe_violations(page, ".mk-fig") == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            inner, outer = page.eval_on_selector(".mk-fig", "node => [node.scrollWidth, node.clientWidth]")
            assert inner <= outer
            assert smallest_text(page, ".mk-fig") >= 11
