"""What all live figures share: buttons that go where the text says, the play, handles, and the look on a phone."""

import pytest
from widget_pages import assert_made_for_a_phone, open_page, readout, set_range

from mamlkit.widgets import curvature_arrows, grades_seen, two_task_arrows

FIGURES = {
    "three starts": "w.ThreeStarts(shots=7)",
    "training": "w.MetaTraining({n: mamlkit.mlp(seed=n).state_dict() for n in (0, 400, 70_000)})",
    "two tasks": "w.TwoTasks()",
    "curvature": "w.Curvature()",
    "grades": "w.GradeBook()",
    "losses": "w.GradeBook(rows=[[2.0, 1.0], [1.5, 1.2]], kind='losses')",
    "step size": 'w.StepSize(mamlkit.mlp().state_dict() | mamlkit.pretrained("sinusoid-maml"))',
    "annealing": "w.Annealing()",
    "bowl": "w.ScaledBowl()",
    "diagnose": "w.Diagnose()",
    "episode": "w.Episode(mamlkit.maml(network, inner_steps=1, inner_lr=0.4), tasks, questions=6)",
    "company": "w.Company(ways, tasks.support_x[0], tasks.query_x[0][cast], tasks.query_y[0][cast])",
    "noise": "w.NoisyBowl()",
}
NUMBER = {name: i for i, name in enumerate(FIGURES)}
CELLS = [
    "import mamlkit\nimport torch\nfrom mamlkit import widgets as w\n\n"
    "tasks = mamlkit.glyphs('test', queries=3).sample(2, torch.Generator().manual_seed(0))\n"
    "network = mamlkit.conv4(5, filters=4, downsample='stride')\n"
    "ways = {'the query batch': network, 'nothing': lambda x: x.flatten(1)[:, :5]}\n"
    "cast = [12, 0, 3, 6, 9, 13, 14]",
    *FIGURES.values(),
]


def figure(page, name):
    return page.locator(".mk-fig").nth(NUMBER[name])


def shown(page, name):
    return readout(page, NUMBER[name])


def slide(page, name, label, value):
    figure(page, name).get_by_label(label, exact=True).evaluate(
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def cosine(u, v):
    dot = sum(a * b for a, b in zip(u, v, strict=True))
    return dot / (sum(a * a for a in u) * sum(b * b for b in v)) ** 0.5


def step_times_curvature(s):
    return s["alpha"][0] * s["curvature"][0]


# For each button: what must be true of what the figure shows then.
PLACES = [
    ("three starts", "five points", lambda s: len(s["points"]) == 5 and s["steps"] == [0]),
    ("three starts", "three on one side", lambda s: s["points"] == [0.5, 2, 4] and s["steps"] == [0]),
    ("three starts", "a single point", lambda s: len(s["points"]) == 1),
    ("training", "400 outer, 5 inner steps", lambda s: (s["moment"], s["steps"]) == ([1], [5])),
    ("training", "70,000 outer, 1 inner step", lambda s: (s["moment"], s["steps"]) == ([2], [1])),
    ("two tasks", "not far apart", lambda s: s["theta"] == [-0.2, -1.3] and cosine(s["maml"], s["fomaml"]) > 0.5),
    ("two tasks", "opposite ways", lambda s: s["theta"] == [1.2, 0.8] and cosine(s["maml"], s["fomaml"]) < -0.99),
    ("curvature", "same direction", lambda s: s["h"] == [4, 4] and s["angle"][0] < 1e-6),
    ("curvature", "drift apart", lambda s: s["h"] == [1, 4] and s["angle"][0] > 10),
    ("curvature", "flat axis kept", lambda s: s["factors"][0] == 1 and s["factors"][1] < 0.1),
    ("curvature", "a sign flips", lambda s: s["h"] == [1, 8] and s["factors"][1] < 0 < s["factors"][0]),
    ("curvature", "opposite ways", lambda s: s["h"] == [8, 8] and s["angle"][0] == pytest.approx(180)),
    ("grades", "exam 4: 100", lambda s: s["rows"][:5] == [45, 95, 30, 100, 75] and s["maml"][0] < s["maml"][1]),
    ("grades", "exam 5: 77", lambda s: s["maml"] == [77, 78] and s["mamlpp"][0] < s["mamlpp"][1]),
    ("grades", "exam 5: 80", lambda s: s["maml"] == [80, 78] and s["epoch"] == [0]),
    ("step size", "walks down", lambda s: 0 < step_times_curvature(s) < 1),
    ("step size", "jumps across", lambda s: 1 < step_times_curvature(s) < 2),
    ("step size", "runs away", lambda s: step_times_curvature(s) > 2),
    ("step size", "α = 0.010", lambda s: s["alpha"] == [0.01]),
    ("annealing", "A ends lower", lambda s: s["change"] == [-1] and s["a"][4] < s["b"][4]),
    ("annealing", "flips early", lambda s: s["change"] == [2] and s["epochs"] == [2]),
    ("annealing", "ends lucky", lambda s: s["K"] == [2] and s["a"][1] < s["b"][1] and s["change"] == [-1]),
    ("bowl", "too short", lambda s: s["slopes"][0] < 0 and s["innerSteps"] == [1]),
    ("bowl", "just right", lambda s: s["alpha"] == [0.13]),
    ("bowl", "overshoots", lambda s: s["slopes"][0] > 0 and s["steps"][3] * s["steps"][1] < 0),
    ("bowl", "one for each axis", lambda s: s["alpha"] == [2, 0.125] and s["losses"][-1] < 1e-9),
    ("bowl", "eight steps", lambda s: s["innerSteps"] == [8] and len(s["alpha"]) == 2),
    ("company", "one of each other class", lambda s: s["row"] == [0b001111]),
    ("company", "its own class", lambda s: s["row"] == [0b110000]),
    ("company", "all 6", lambda s: s["row"] == [0b111111] and s["tried"] == [4]),
    ("company", "alone", lambda s: s["row"] == [0]),
    ("noise", "no noise", lambda s: s["noise"] == [0] and s["constant"][-1] < s["cosine"][-1]),
    ("noise", "the rate stays", lambda s: s["first"] == s["last"] and s["constant"] == s["cosine"]),
    ("noise", "start at 0.01", lambda s: s["first"] == [0.01] and s["constantRms"][-1] < s["cosineRms"][-1]),
    ("noise", "cosine to 0", lambda s: s["last"] == [0] and s["cosineRms"][-1] < s["constantRms"][-1]),
]


def test_buttons_go_where_their_names_say(page):
    for name, words, holds in PLACES:
        figure(page, name).get_by_role("button", name=words, exact=True).click()
        assert holds(shown(page, name)), (name, words, shown(page, name))
    buttons = page.locator(".mk-presets button").count()
    assert buttons == len(PLACES)  # none is left out here


def test_what_the_buttons_show_is_what_python_computes(page):
    figure(page, "two tasks").get_by_role("button", name="opposite ways").click()
    expected = two_task_arrows((1.2, 0.8), 0.4, 5)
    assert shown(page, "two tasks")["maml"] == pytest.approx(expected["maml"].tolist(), rel=1e-6)
    figure(page, "curvature").get_by_role("button", name="a sign flips").click()
    expected = curvature_arrows((1.0, 8.0), 0.13, 1)
    assert shown(page, "curvature")["maml"] == pytest.approx(expected["maml"].tolist(), rel=1e-6)
    figure(page, "grades").get_by_role("button", name="exam 5: 80").click()
    rows = shown(page, "grades")["rows"]
    assert shown(page, "grades")["mamlpp"] == pytest.approx(grades_seen([rows[:5], rows[5:]], 0)["maml++"].tolist())
    figure(page, "bowl").get_by_role("button", name="just right").click()
    shown(page, "bowl")
    assert "as good as it gets" in figure(page, "bowl").locator(".mk-verdict").first.inner_text()


# The play of each figure: its button, its slider, what it moves in the readout, where it ends.
PLAYS = [
    ("three starts", "play the steps", "inner steps", "steps", 10),
    ("training", "play the training", "outer steps", "moment", 2),
    ("two tasks", "play the steps", "inner steps K", "innerSteps", 10),
    ("curvature", "play the steps", "inner steps K", "innerSteps", 10),
    ("grades", "play the epochs", "epoch of MAML++", "epoch", 10),
    ("annealing", "play the epochs", "epoch e", "epoch", 20),
    ("bowl", "play the steps", "inner steps K", "innerSteps", 8),
    ("noise", "play the steps", "step", "step", 300),
]


def test_nothing_moves_until_it_is_pressed_and_one_press_moves_one_figure(page):
    def places():
        return [shown(page, name)[key] for name, _, _, key, _ in PLAYS]

    before = places()
    page.wait_for_timeout(1600)
    assert places() == before
    figure(page, "curvature").get_by_role("button", name="play the steps").click()
    page.wait_for_timeout(1000)
    figure(page, "curvature").get_by_role("button", name="pause").click()
    after = places()
    assert after[3] > before[3] and after[:3] + after[4:] == before[:3] + before[4:]
    page.wait_for_timeout(1000)
    assert places() == after  # a pause is one


@pytest.mark.parametrize(("name", "words", "label", "key", "end"), PLAYS)
def test_play_stops_at_the_end_and_begins_anew(page, name, words, label, key, end):
    slide(page, name, label, end - 1)
    play = figure(page, name).locator(".mk-play")
    assert play.inner_text() == words
    play.click()
    assert play.inner_text() == "pause"
    figure(page, name).get_by_role("button", name=words).wait_for()  # it has stopped by itself
    assert shown(page, name)[key] == [end]
    play.click()
    assert shown(page, name)[key][0] <= 1  # from the start
    play.click()


def test_a_hand_on_the_slider_or_a_button_ends_the_play(page):
    play = figure(page, "two tasks").locator(".mk-play")
    play.click()
    slide(page, "two tasks", "inner steps K", 6)
    assert play.inner_text() == "play the steps"
    play.click()
    figure(page, "two tasks").get_by_role("button", name="not far apart").click()
    assert play.inner_text() == "play the steps"
    page.wait_for_timeout(1000)
    assert shown(page, "two tasks")["innerSteps"] == [3]


def test_keys_play(page):
    figure(page, "bowl").locator(".mk-play").focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(1000)
    page.keyboard.press("Space")
    assert shown(page, "bowl")["innerSteps"][0] > 3


def test_less_motion_is_one_step_a_press(book, browser):
    with open_page(browser, book["http"], reduced_motion="reduce") as page:
        play = figure(page, "curvature").locator(".mk-play")
        for expected in (4, 5):
            play.click()
            assert play.inner_text() == "one step on"
            assert shown(page, "curvature")["innerSteps"] == [expected]
        page.wait_for_timeout(1600)
        assert shown(page, "curvature")["innerSteps"] == [5]
        slide(page, "curvature", "inner steps K", 10)
        play.click()
        assert shown(page, "curvature")["innerSteps"] == [1]


def test_what_can_be_dragged_and_nothing_else_looks_like_it(page):
    found = page.eval_on_selector_all(
        ".mk-fig",
        """all => all.map((figure) => ({
            handles: [...figure.querySelectorAll("[role=slider]")].filter((node) => node.querySelector(".mk-grip path")).length,
            sliders: figure.querySelectorAll("svg [role=slider]").length,
            grips: figure.querySelectorAll(".mk-grip").length,
            grab: [...figure.querySelectorAll("svg *")]
                .filter((node) => getComputedStyle(node).cursor === "grab" && !node.closest("[role=slider]")).length,
        }))""",
    )
    handles = [7, 10, 1, 0, 10, 4, 0, 10, 0, 0, 0, 0, 2]
    assert [one["handles"] for one in found] == handles
    assert [one["sliders"] for one in found] == handles
    assert [one["grips"] for one in found] == handles
    assert all(one["grab"] == 0 for one in found)


def test_figures_are_made_for_a_phone(book, browser):
    with open_page(browser, book["http"], width=390, height=844) as page:
        assert page.locator(".mk-fig").count() == len(FIGURES)
        assert_made_for_a_phone(page)
        fold = figure(page, "curvature").locator(".mk-fold")
        fold.locator("summary").click()
        assert fold.get_by_role("table").first.is_visible()
        set_range(page, 0, 1.0)
        assert fold.get_by_role("table").first.is_visible()  # what a reader opened stays open


def test_tables_are_open_where_there_is_room(page):
    for name in FIGURES:
        if name not in ("diagnose", "episode"):
            assert figure(page, name).get_by_role("table").first.is_visible(), name
