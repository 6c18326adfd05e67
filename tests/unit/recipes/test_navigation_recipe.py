"""The script behind chapter 16: its estimators against each other, against finite differences, and against the chapter."""

from __future__ import annotations

import functools
import json
import shlex
import sys

import pytest
import torch

import mamlkit
from mamlkit.pretrained import pretrained_record
from mamlkit.recipes import navigation


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def start_of(seed, tasks):
    theta = {name: value.detach().requires_grad_() for name, value in navigation.policy_for(seed).named_parameters()}
    return theta, navigation.repeated(theta, tasks)


def test_surrogates_share_the_first_derivative_and_not_the_second():
    theta, weights = start_of(0, 3)
    paths = navigation.roll_out(weights, navigation.goals_from(seeded(1), 3), seeded(2))
    firsts, seconds = [], []
    for version in ("naive", "lvc", "dice"):
        value = navigation.surrogate(version, weights, paths).sum()
        first = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(theta.values()), create_graph=True)])
        firsts.append(first.detach())
        seconds.append(torch.autograd.grad(first.square().sum(), theta["0.weight"])[0])
    for first in firsts[1:]:
        torch.testing.assert_close(first, firsts[0])
    assert not any(torch.allclose(second, seconds[0], rtol=0.01) for second in seconds[1:])
    assert not torch.allclose(seconds[1], seconds[2], rtol=0.01)


def test_the_simulator_has_the_derivative_of_what_happens():
    theta, _ = start_of(3, 1)
    loss, _ = navigation.meta_loss("simulator", theta, seeded(5))
    (exact,) = torch.autograd.grad(loss, theta["2.weight"])
    for place in ((0, 0), (1, 7)):
        ends = []
        for shift in (1e-6, -1e-6):
            moved = {name: value.detach().clone().requires_grad_() for name, value in theta.items()}
            with torch.no_grad():
                moved["2.weight"][place] += shift
            ends.append(navigation.meta_loss("simulator", moved, seeded(5))[0].item())
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(exact[place].item(), rel=1e-3)


def test_all_versions_see_the_same_returns_after_the_step():
    theta, _ = start_of(1, 1)
    found = {v: navigation.meta_loss(v, theta, seeded(4))[1].item() for v in navigation.VERSIONS}
    before = found.pop("ordinary")
    assert (
        all(value == pytest.approx(found["naive"], rel=1e-9) for value in found.values()) and before != found["naive"]
    )


@pytest.fixture
def chapter(run_cells):
    """A function that runs cells of the chapter."""
    return functools.partial(run_cells, "16_policy_gradients.ipynb")


def test_the_chapter_takes_the_steps_of_the_recipe(chapter):
    names = chapter("roll-out", "loss", "meta-step")
    assert (names["SPREAD"], names["RATE"]) == (navigation.SPREAD, navigation.RATE)
    model, goal = names["model"], torch.tensor([0.3, -0.2])
    positions, actions, rewards = names["roll_out"](model, goal, seeded(6))
    gains = navigation.advantages(rewards[None])[0]
    seen = {"action": actions, "gain": gains}
    step = {"loss": names["dice_loss"], "steps": 1, "step_sizes": names["RATE"]}
    ours = mamlkit.adapt(model, positions, seen, **step)[-1]
    paths = navigation.Paths(positions[None], actions[None], rewards[None])
    weights = navigation.repeated(dict(model.named_parameters()), 1)
    theirs = navigation.adapted("dice", weights, paths)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name][0])


def test_dice_and_the_score_term_agree_in_first_order_of_the_inner_rate(chapter):
    names = chapter("bandit-code", "truths", "truths-2", "expected")

    def dice(log_p, reward):
        return reward * (log_p - log_p.detach()).exp()

    def gaps(alpha):
        names["ALPHA"] = alpha
        naive, weighed, scored = (
            names["mean_and_spread"](names["START"], 4, *how)[0]
            for how in ((names["naive"],), (dice,), (names["naive"], 1.0))
        )
        torch.testing.assert_close(scored, names["derivative"](names["objective_2"], 4))  # exact, whatever the rate
        return (weighed - naive).norm().item(), (weighed - scored).norm().item()

    (term, gap), (half_term, half_gap) = gaps(0.02), gaps(0.01)
    assert term / half_term == pytest.approx(2, rel=0.02) and gap / half_gap == pytest.approx(4, rel=0.02)
    assert gap < 0.02 * term

    baseline = names["less_mean"]  # with it the naive arms have no second-order part in any batch
    start = names["START"].expand(3**4, 3).clone().requires_grad_()
    arms = torch.tensor(list(names["product"](range(3), repeat=4)))
    for pay in names["PAY"]:
        log_p = start.log_softmax(-1).gather(1, arms)
        (g,) = torch.autograd.grad((baseline(pay[arms]) * log_p).sum(), start, create_graph=True)
        (second,) = torch.autograd.grad((g * torch.arange(3.0)).sum(), start)
        torch.testing.assert_close(second, torch.zeros_like(second))


def test_more_goals_change_the_goals_only(monkeypatch):
    monkeypatch.setattr(navigation, "MORE_TASKS", navigation.TASKS)
    (plain, one), (more, two) = (navigation.train(3, version, 1) for version in ("dice", "dice_40"))
    assert plain["returns"] == more["returns"] and all(torch.equal(one[name], two[name]) for name in one)


def test_the_same_run_gives_the_same_row():
    (first, one), (again, two), (other, _) = (navigation.train(seed, "dice", 1) for seed in (3, 3, 4))
    assert first == again and all(torch.equal(one[name], two[name]) for name in one)
    assert first["returns"] != other["returns"]


def test_the_recorded_command_is_understood(monkeypatch, tmp_path):
    record, beside = mamlkit.recorded("navigation"), pretrained_record("navigation")
    assert record["command"] == beside["command"]
    seen = []

    def pretend(seed, version, outer_steps):
        seen.append((seed, version))
        return {"outer_steps": outer_steps}, {"x": torch.tensor([float(seed)])}

    monkeypatch.setattr(navigation, "train", pretend)
    monkeypatch.setattr(navigation, "compared", lambda batches: [{"version": v} for v in navigation.VERSIONS[1:]])
    for folder in ("weights", "records"):
        (tmp_path / folder).mkdir()
    arguments = shlex.split(record["command"])[3:]
    arguments[arguments.index("--out") + 1] = str(tmp_path)
    monkeypatch.setattr(sys, "argv", ["navigation", *arguments])
    navigation.main()
    assert [(row["seed"], row["version"]) for row in record["rows"]] == seen
    written = json.loads((tmp_path / "records" / "navigation.json").read_text(encoding="utf-8"))
    same = set(record) - {"command", "rows", "gradients", "versions"}
    assert {name: written[name] for name in same} == {name: json.loads(json.dumps(record[name])) for name in same}
    assert [row["version"] for row in record["gradients"]] == [row["version"] for row in written["gradients"]]
