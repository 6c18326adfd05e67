"""The script behind chapter 8's record: the same runs give the same rows, and the record that ships is whole."""

from __future__ import annotations

from recorded_runs import run_again

from mamlkit.recipes import step_sizes as recipe


def test_the_same_run_gives_the_same_row():
    first, again, other = (recipe.train(seed, None, 2, 3) for seed in (3, 3, 4))
    assert first == again != other
    assert [point["outer_step"] for point in first["course"]] == [1, 2]
    assert all(len(rates) == recipe.INNER_STEPS for rates in first["course"][0]["alpha"].values())
    assert len(first["accuracies"]) == len(first["losses"]) == len(first["thrown_away"]["accuracies"]) == 3
    assert set(first["moved"]) == set(first["course"][0]["alpha"])
    fixed = recipe.train(3, 0.2, 2, 3)
    assert fixed["step_sizes"] == 0.2 and "course" not in fixed


def test_rates_thrown_away_are_those_of_a_run_that_never_learned_them():
    """Before the first outer step both learners are one and the same."""
    learned, fixed = recipe.train(0, None, 0, 3), recipe.train(0, recipe.FIRST_RATE, 0, 3)
    for name in ("accuracies", "losses"):
        assert learned["thrown_away"][name] == learned[name] == fixed[name]


def test_the_record_is_whole_and_its_command_is_understood(monkeypatch, tmp_path):
    seen = []

    def pretend(seed, rate, outer_steps, held_out_tasks):
        seen.append((seed, "learned" if rate is None else rate))
        return {"steps": outer_steps, "tasks": held_out_tasks}

    record, written = run_again(recipe, "step-sizes", pretend, monkeypatch, tmp_path)
    assert seen == [(row["seed"], row["step_sizes"]) for row in record["rows"]]
    assert {tuple(row.values()) for row in written["rows"]} == {(record["outer_steps"], record["held_out_tasks"])}
