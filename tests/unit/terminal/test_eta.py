"""The position in a run, and the estimate of the time left."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from tests.support import builders
from your_ai.planning.plan import Trial
from your_ai.search.grid import Axes
from your_ai.search.search import Objective, SearchOptions
from your_ai.terminal.eta import (
    Duration,
    expected_seconds,
    position,
    show_duration,
    show_end,
    trials_ahead,
)


def trial(index: int, params: str) -> Trial:
    return builders.trial(index, f"m{index}", params)


SMALL, MIDDLE, LARGE = trial(1, "1B"), trial(2, "2B"), trial(3, "10B")
AXES = Axes((1, 2, 4), (8, 16), (1, 2))
GRID = AXES.around(SMALL.configuration, 2)


def searching(*, exhaustive: bool = False) -> SearchOptions:
    return SearchOptions(AXES, Objective.CAPACITY, exhaustive)


def took(trial: Trial, step_seconds: float) -> Duration:
    return Duration(trial, 7 + step_seconds, step_seconds)


def test_the_time_is_unknown_before_the_first_result() -> None:
    assert expected_seconds([], [SMALL]) is None
    assert expected_seconds([], []) == 0


def test_the_time_of_steps_is_proportional_to_parameters() -> None:
    assert expected_seconds([took(SMALL, 10)], [MIDDLE, LARGE]) == pytest.approx(7 + 20 + 7 + 100)


def test_pauses_between_trials_are_expected() -> None:
    found = expected_seconds([took(SMALL, 10)], [MIDDLE, LARGE], cooldown=60.0)
    assert found == pytest.approx(7 + 20 + 7 + 100 + 2 * 60)


def test_the_time_of_steps_is_proportional_to_tokens() -> None:
    twice = SMALL.with_configuration(replace(SMALL.configuration, batch_size=4))
    assert expected_seconds([took(SMALL, 10)], [twice]) == pytest.approx(7 + 20)


def test_only_the_last_two_trials_count() -> None:
    done = [took(SMALL, 1000), took(SMALL, 10), took(MIDDLE, 20)]
    assert expected_seconds(done, [LARGE]) == pytest.approx(7 + 100)


def test_trials_ahead_without_a_search() -> None:
    run = builders.run(SMALL, MIDDLE, LARGE)
    assert trials_ahead(run, MIDDLE, 1) == [MIDDLE, LARGE]


def test_a_search_is_expected_to_take_the_median_number_of_trials() -> None:
    run = builders.run(SMALL, MIDDLE, search=searching())
    tried, middle = SMALL.with_configuration(GRID.smallest), GRID.middle
    assert trials_ahead(run, tried, 2) == [
        tried,
        *[SMALL.with_configuration(middle)] * 2,
        MIDDLE,
        *[MIDDLE.with_configuration(middle)] * 3,
    ]
    assert trials_ahead(run, tried, 9)[:2] == [tried, MIDDLE]


def test_an_exhaustive_search_takes_the_whole_grid() -> None:
    run = builders.run(SMALL, search=searching(exhaustive=True))
    assert len(trials_ahead(run, SMALL, 1)) == GRID.size


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "1 s"),
        (59, "59 s"),
        (61, "1 min"),
        (3540, "59 min"),
        (3600, "1 h 00 min"),
        (5400, "1 h 30 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        ("2026-01-01T14:32:59", "at 14:32"),
        ("2026-01-01T23:59:00", "at 23:59"),
        ("2026-01-02T00:00:00", "Fri 00:00"),
        ("2026-01-07T06:10:00", "Wed 06:10"),
        ("2026-01-08T06:10:00", "8 Jan 06:10"),
    ],
)
def test_the_day_is_shown_unless_it_is_today(end: str, shown: str) -> None:
    thursday = datetime.fromisoformat("2026-01-01T13:00:00")
    assert show_end(datetime.fromisoformat(end), thursday) == shown


def test_position_in_a_run_of_several_models() -> None:
    assert position(builders.run(SMALL, MIDDLE), MIDDLE, None) == ["model 2 of 2"]
    assert position(builders.run(SMALL), SMALL, None) == []


def test_position_in_a_search() -> None:
    run = builders.run(SMALL, command="optimize", search=searching())
    assert position(run, SMALL, 3) == [f"trial 3 of at most {GRID.size}"]
    whole = builders.run(SMALL, command="optimize", search=searching(exhaustive=True))
    assert position(whole, SMALL, 3) == [f"trial 3 of {GRID.size}"]


@pytest.mark.parametrize(("rank", "extra"), [(8, 0), (64, 1)])
def test_position_counts_the_models_own_trial_once(rank: int, extra: int) -> None:
    own = replace(SMALL.configuration, lora_rank=rank)
    run = builders.run(SMALL.with_configuration(own), MIDDLE, search=searching())
    assert position(run, SMALL, 2) == ["model 1 of 2", f"trial 2 of at most {GRID.size + extra}"]


def test_models_that_need_no_worker_take_no_time() -> None:
    heavy = replace(LARGE.model, weights_bytes=LARGE.request.budget_bytes + 1)
    too_large = replace(LARGE, model=heavy)
    run = builders.run(SMALL, MIDDLE, too_large, search=searching())
    names = {ahead.model.name for ahead in trials_ahead(run, SMALL, 1)}
    assert names == {SMALL.model.name, MIDDLE.model.name}
