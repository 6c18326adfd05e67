"""Search finds what readers type, on a server and from a file, and only the search page loads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_pages import look

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
# What readers type, and the page that must be the first.
FIRST = {
    "second order": "03_",
    "maml": "02_",
    "what is maml": "02_",
    "colab": "index",
    "license": "index",
    "licence": "index",
}
# And a page that must be among the first three.
QUESTIONS = {
    "first order": "04_",
    "hessian": "03_",
    "memory": "03_",
    "out of memory": "03_",
    "create_graph": "03_",
    "reptile": "04_",
    "fomaml": "04_",
    "inner loop": "02_",
    "support set": "02_",
    "omniglot": "05_",
    "dataset": "05_",
    "few-shot": "05_",
    "confidence interval": "05_",
    "transductive": "05_",
    "overfit": "01_",
    "diverge": "06_",
    "nan": "06_",
    "MSL": "07_",
    "multi-step loss": "07_",
    "learning rate": "08_",
    "learned step sizes": "08_",
    "batch norm": "09_",
    "cosine annealing": "10_",
    "MAML++": "11_",
    "install": "index",
    "initialization": "appendix/glossary",
    "checkpoint": "15_",
    "ModelAgnosticMetaLearning": "appendix/api/learners",
}


@pytest.fixture(scope="module", params=["http", "file"])
def search(request, browser, site):
    """The search page, and a function that types a question and gives the pages found."""
    address = f"{site}/search.html" if request.param == "http" else (HTML / "search.html").as_uri()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    yield page
    context.close()
    assert not problems, problems


def ask(page, question):
    page.locator("main input[name=q]").fill(question)
    return page.eval_on_selector_all("#search-results a.page", "all => all.map((link) => link.getAttribute('href'))")


def test_questions_find_their_page(search):
    found = {question: ask(search, question)[:1] for question in FIRST}
    found |= {question: ask(search, question)[:3] for question in QUESTIONS}
    missed = {
        question: found[question]
        for question, wanted in (FIRST | QUESTIONS).items()
        if not any(page.startswith(f"book/{wanted}") for page in found[question])
    }
    assert not missed
    assert not any("exercises/" in pages[0] for pages in found.values()), "chapters stand above exercises"


def test_a_result_names_the_section_and_marks_the_words(search):
    ask(search, "second order")
    place = search.locator("#search-results li", has_text="3. The hard part").locator("div").first
    assert place.locator("a").get_attribute("href").startswith("book/03_a_gradient_of_gradients.html#what-it-costs")
    assert {word.lower() for word in place.locator("mark").all_inner_texts()} >= {"second", "order"}


@pytest.mark.parametrize("width", [1280, 390])
def test_results_are_accessible_and_fit(browser, site, width):
    assert look(browser, site, "search.html?q=second+order", width) == []


def test_a_question_without_an_answer(search):
    assert ask(search, "zebra") == []
    assert search.locator("#search-results [role=status]").inner_text() == "Nothing found for “zebra”."


def test_every_link_leads_to_a_place(search):
    for question in ("task", "learner", "step", "gradient", "figure"):
        ask(search, question)
        for link in search.eval_on_selector_all("#search-results a", "all => all.map((a) => a.getAttribute('href'))"):
            path, _, anchor = link.partition("#")
            assert not anchor or f'id="{anchor}"' in (HTML / path).read_text(encoding="utf-8"), link


@pytest.mark.parametrize("start", ["http", "file"])
def test_from_a_chapter_to_a_section(browser, site, start):
    page = browser.new_page()
    page.goto(f"{site if start == 'http' else HTML.as_uri()}/book/01_why_learn_to_learn.html")
    page.keyboard.press("Control+k")
    page.locator("dialog input[name=q]").fill("multi-step loss")
    page.keyboard.press("Enter")
    page.locator("#search-results li a", has_text="7. The multi-step loss").first.click()
    page.wait_for_url("**/book/07_the_multi_step_loss.html")
    page.close()


def test_other_pages_load_nothing_of_it():
    script = re.compile(r'src="[^"]*(?:sections|search|searchtools|searchindex|language_data)\.js')
    loading = {path.name for path in HTML.rglob("*.html") if script.search(path.read_text(encoding="utf-8"))}
    assert loading == {"search.html"}
