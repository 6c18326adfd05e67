"""Learners to diagnose, in a page that the book's own chain builds: no kernel, no other host, the curves of the record."""

from itertools import pairwise

import pytest
from widget_pages import assert_accessible_and_fits, open_page, readout

from mamlkit.widgets import symptoms_of
from mamlkit.widgets.diagnose import PATIENTS, SUSPECTS

CELLS = ["from mamlkit.widgets import Diagnose\n\nDiagnose()"]
NAMES = [name for name, *_ in SUSPECTS]
WORDS = dict(zip(NAMES, [words for _, words, *_ in SUSPECTS], strict=True))


def assert_same_as_record(shown, patient):
    expected = symptoms_of(PATIENTS[patient], healthy=PATIENTS[patient] == "right")
    assert shown["patient"] == [patient]
    assert shown["training"] == pytest.approx(expected["training"][0].tolist(), abs=1e-3)
    assert shown["steps"] == pytest.approx(expected["steps"][0].tolist(), abs=1e-3)
    assert shown["memory"] == pytest.approx((expected["memory"] / 1000).tolist(), abs=1e-3)


def say(page, name):
    page.get_by_role("radio", name=WORDS[name], exact=True).check()
    page.get_by_role("button", name="This is it").click()


@pytest.mark.parametrize("address", ["http", "file"])
def test_figure_starts_without_a_kernel(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".mk-diagnose svg[role=img]").count() == 3
        assert page.locator(".mk-diagnose polyline").count() == 6
        shown = readout(page)
        assert_same_as_record(shown, 0)
        assert shown["answer"] == [-1]
        assert page.get_by_role("button", name="This is it").is_disabled()
        label = page.locator(".mk-diagnose svg[role=img]").first.get_attribute("aria-label")
        assert label.startswith("training loss: right learner from ") and "this learner from " in label


def test_every_learner_is_diagnosed(page):
    for patient, name in enumerate(PATIENTS):
        assert_same_as_record(readout(page), patient)
        say(page, name)
        shown = readout(page)
        assert shown["answer"] == [NAMES.index(name)] and shown["found"] == shown["atOnce"] == [patient + 1]
        assert page.get_by_text("Right. " + SUSPECTS[NAMES.index(name)][3], exact=True).first.is_visible()
        if patient + 1 < len(PATIENTS):
            page.get_by_role("button", name="Next learner").click()
    assert page.get_by_role("button", name="Next learner").is_disabled()
    assert page.get_by_text("Diagnosed: 7 of 7, at the first try: 7.").is_visible()
    page.get_by_role("button", name="Start again").click()
    shown = readout(page)
    assert shown["patient"] == shown["found"] == [0]
    assert page.get_by_role("radio").first.is_enabled()


def test_losses_of_all_learners_stand_on_one_logarithmic_axis(page):
    training = page.locator(".mk-diagnose svg[role=img]").first
    seen = set()
    for patient in range(len(PATIENTS)):
        marks = training.evaluate(
            "plot => [...plot.querySelectorAll('text')].map((n) => [n.textContent, n.getAttribute('y')])"
        )
        heights = [float(y) for text, y in marks if text in ("0.25", "1", "4", "16")]
        gaps = [high - low for high, low in pairwise(heights)]
        assert len(gaps) == 3 and gaps == pytest.approx([gaps[0]] * 3, abs=0.2)  # equal factors, equal distances
        seen.add(tuple(heights))
        if patient + 1 < len(PATIENTS):
            page.get_by_role("button", name="Next learner").click()
    assert len(seen) == 1


def test_wrong_guess_is_told_why(page):
    wrong, right = "leak", PATIENTS[0]
    say(page, wrong)
    said = f"No. If that were so, {SUSPECTS[NAMES.index(wrong)][2]}."
    assert page.get_by_text(said, exact=True).first.is_visible()
    page.wait_for_function("text => document.querySelector('[aria-live=polite]').textContent === text", arg=said)
    assert readout(page)["answer"] == [-1]
    say(page, right)
    shown = readout(page)
    assert shown["found"] == [1] and shown["atOnce"] == [0]


def test_keyboard(page):
    page.get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    for _ in range(NAMES.index(PATIENTS[0])):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert readout(page)["found"] == [1]
    assert "Right." in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Tab")  # the first learner has none before it
    page.keyboard.press("Enter")
    assert_same_as_record(readout(page), 1)
    page.get_by_text("The pictures in numbers").focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("table").first.is_visible()


def test_touch(book, browser):
    with open_page(browser, book["http"], width=390, has_touch=True, is_mobile=True) as page:
        page.get_by_text(WORDS[PATIENTS[0]], exact=True).tap()
        page.get_by_role("button", name="This is it").tap()
        assert readout(page)["found"] == [1]
        page.get_by_role("button", name="Next learner").tap()
        assert_same_as_record(readout(page), 1)
        tops = page.eval_on_selector_all(
            ".mk-diagnose svg[role=img]", "all => all.map((n) => n.getBoundingClientRect().top)"
        )
        assert tops[0] < tops[1] == tops[2]  # the first has a line to itself


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(book, browser, scheme, width):
    with open_page(browser, book["http"], width=width, color_scheme=scheme) as page:
        page.get_by_text("The pictures in numbers").click()
        say(page, "leak")
        assert_accessible_and_fits(page, width)
