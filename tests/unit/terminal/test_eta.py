"""How long a run will still take: exact where its trials behave as assumed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import builders
from your_ai.planning.plan import Trial
from your_ai.search.grid import Grid
from your_ai.search.search import Objective, SearchOptions
from your_ai.terminal.eta import seconds_left, show_duration, trials_ahead


def trial(index: int, params: str) -> Trial:
    return builders.trial(index, f"m{index}", params)


SMALL, MIDDLE, LARGE = trial(1, "1B"), trial(2, "2B"), trial(3, "10B")
GRID = Grid((1, 2, 4), (8, 16), (1, 2))


def searching(*, exhaustive: bool = False) -> SearchOptions:
    return SearchOptions(GRID, Objective.CAPACITY, exhaustive)


def test_before_the_first_trial_nothing_is_known() -> None:
    assert seconds_left([], [SMALL]) is None


def test_time_grows_with_the_model() -> None:
    assert seconds_left([(SMALL, 3 + 10)], [MIDDLE, LARGE]) == pytest.approx(3 + 20 + 3 + 100)


def test_time_grows_with_the_tokens() -> None:
    twice = SMALL.with_configuration(replace(SMALL.configuration, batch_size=4))
    assert seconds_left([(SMALL, 3 + 10)], [twice]) == pytest.approx(3 + 20)


def test_the_latest_trials_tell_how_fast() -> None:
    done = [(SMALL, 1003.0), (SMALL, 3 + 10), (MIDDLE, 3 + 20)]
    assert seconds_left(done, [LARGE]) == pytest.approx(103)


def test_a_trial_shorter_than_a_start_takes_no_negative_time() -> None:
    assert seconds_left([(SMALL, 0.5)], [LARGE]) == 3


def test_a_run_without_a_search_is_its_trials() -> None:
    run = builders.run(SMALL, MIDDLE, LARGE)
    assert trials_ahead(run, MIDDLE, 1) == [MIDDLE, LARGE]


def test_a_search_is_taken_to_have_the_usual_number_of_trials() -> None:
    run = builders.run(SMALL, MIDDLE, search=searching())
    grid = GRID.around(SMALL.configuration, 2)
    tried, middle = SMALL.with_configuration(grid.at(1, 8, 1)), grid.at(2, 16, 2)
    assert trials_ahead(run, tried, 2) == [
        tried,
        *[SMALL.with_configuration(middle)] * 2,
        MIDDLE,
        *[MIDDLE.with_configuration(middle)] * 3,
    ]
    assert trials_ahead(run, tried, 9)[:2] == [tried, MIDDLE]


def test_an_exhaustive_one_has_them_all() -> None:
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
