"""The company figure, in a page that the book's own chain builds: no kernel, no other host, the network's answers of Python."""

import pytest
import torch
from widget_pages import assert_accessible_and_fits, open_page, readout

from mamlkit.widgets import company_answers

SOURCE = """import torch

import mamlkit
from mamlkit.widgets import Company

generator = torch.Generator().manual_seed(3)
blobs = torch.rand(12, 1, 7, 7, generator=generator, dtype=torch.float64)
images = blobs.repeat_interleave(4, -1).repeat_interleave(4, -2)
model = mamlkit.conv4(5, filters=8, downsample="stride", seed=0).double()
classes = [4, 0, 1, 2, 3, 4, 4]
ways = {"the query batch": model, "nothing": lambda x: x.flatten(1)[:, :5]}
figure = Company(ways, images[:5], images[5:], classes)
figure"""
CELLS = [SOURCE]


@pytest.fixture(scope="module")
def python():
    """The images, and the answers of each way to normalise, computed here: (ways, 64, 5)."""
    namespace = {}
    exec(SOURCE, namespace)
    images = namespace["images"]
    return images, torch.stack([company_answers(way, images[5:]) for way in namespace["ways"].values()])


def companion(page, number):
    return page.get_by_role("button", name=f"companion {number},")


def assert_same_as_python(shown, answers, way, row):
    assert shown["way"] == [way] and shown["row"] == [row]
    assert shown["p"] == pytest.approx(answers[way, row].tolist(), abs=5.1e-5)


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, python, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-company canvas").count() == 12
        assert page.locator(".mk-company [aria-pressed=false]").count() == 6
        assert_same_as_python(readout(page), python[1], 0, 0)


def test_images_are_those_of_python(page, python):
    drawn = page.eval_on_selector_all(
        ".mk-company canvas",
        """nodes => nodes.map((node) => [...node.getContext('2d').getImageData(0, 0, node.width, node.height).data]
            .filter((_, i) => i % 4 === 0))""",
    )
    ink = 255 - torch.tensor(drawn).view(12, 28, 28)
    order = [5, *range(5), *range(6, 12)]  # the question, the classes, the companions
    assert (ink - 255 * python[0][order, 0]).abs().max() <= 1


def test_every_company_has_the_answer_of_python(page, python):
    row = 0
    for step in range(1, 64):  # Gray's order: one companion comes or goes at a time, and each company once
        companion(page, (step & -step).bit_length()).click()
        row ^= step & -step
        shown = readout(page)
        assert_same_as_python(shown, python[1], 0, row)
        assert shown["tried"] == [step + 1]
    assert page.get_by_text("companies tried: 64 of 64").is_visible()


def test_company_matters_only_to_the_batch(page, python):
    companion(page, 1).click()
    companion(page, 5).click()
    assert companion(page, 5).get_attribute("aria-pressed") == "true"
    assert page.locator(".mk-picture svg line").count() == 1 + 3  # an axis, and three companies
    assert page.get_by_text("The companions change nothing").count() == 0
    page.get_by_label("nothing", exact=True).check()
    assert_same_as_python(readout(page), python[1], 1, 0b10001)
    assert page.get_by_text("2 companions: ").first.is_visible()
    assert page.get_by_text("The companions change nothing").first.is_visible()
    page.get_by_role("button", name="show all 64 companies").click()
    assert readout(page)["tried"] == [64]
    rows = page.locator(".mk-readout tbody tr").all()  # the numbers: each way to normalise, in this company
    for c, row in enumerate(rows):
        numbers = [float(text) for text in row.locator("td").all_inner_texts()]
        assert numbers == pytest.approx(python[1][:, 0b10001, c].tolist(), abs=0.0051)
    page.get_by_role("button", name="start again").click()
    shown = readout(page)
    assert_same_as_python(shown, python[1], 0, 0)
    assert shown["tried"] == [1]


def test_keyboard_alone_and_live_region(page, python):
    companion(page, 2).focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert_same_as_python(readout(page), python[1], 0, 0b110)
    page.wait_for_function("document.querySelector('.mk-fig [aria-live=polite]').textContent.includes('2 companions')")
    page.get_by_label("the query batch").focus()
    page.keyboard.press("ArrowDown")
    assert_same_as_python(readout(page), python[1], 1, 0b110)


def test_touch_and_one_screen(book, browser, python):
    with open_page(browser, book["http"], width=390, height=844, has_touch=True, is_mobile=True) as page:
        for number in range(1, 7):
            box = companion(page, number).bounding_box()
            assert min(box["width"], box["height"]) >= 24
            companion(page, number).tap()
        assert_same_as_python(readout(page), python[1], 0, 63)
        assert page.locator(".mk-fig").bounding_box()["height"] <= 844


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        companion(page, 3).click()
        page.get_by_role("button", name="show all 64 companies").click()
        assert_accessible_and_fits(page, width)
