"""Choosing the measured trial that a training starts from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import builders
from tests.support.builders import trial
from your_ai.errors import UsageError
from your_ai.runs.assembly import assemble
from your_ai.runs.results import Results
from your_ai.search.grid import Axes
from your_ai.search.search import Objective, SearchOptions
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.training.request import choose, known

SEARCH = SearchOptions(Axes((2, 4), (64,), (2,)), Objective.CAPACITY, exhaustive=False)
OVER_BUDGET = Outcome(OutcomeKind.OVER_BUDGET, "needs at least 9 GB")


def searched(*outcomes: Outcome | None) -> Results:
    """Return the results of a search that tried batch sizes 2 and 4."""
    run = builders.run(search=SEARCH)
    trials = (trial(batch_size=size) for size in (2, 4))
    found = (
        builders.result(each, outcome=outcome)
        for each, outcome in zip(trials, outcomes, strict=True)
    )
    return assemble(run, [replace(result, index=1) for result in found])


@pytest.mark.parametrize("name", [None, "tiny", "org/tiny"])
def test_a_model_is_found_by_each_of_its_names(name: str | None) -> None:
    results = builders.results(builders.result())
    assert choose(results, name) == results.results[0]


def test_the_best_configuration_of_a_search_is_chosen() -> None:
    assert choose(searched(None, None), None).config.batch_size == 4
    assert choose(searched(None, OVER_BUDGET), None).config.batch_size == 2


def test_a_model_that_did_not_pass_is_refused() -> None:
    results = searched(OVER_BUDGET, OVER_BUDGET)
    with pytest.raises(UsageError, match=r"tiny did not pass in these results \(needs at least"):
        choose(results, "tiny")
    with pytest.raises(UsageError, match="No model passed in these results"):
        choose(results, None)


def test_the_error_for_an_unknown_model_lists_the_available_ones() -> None:
    with pytest.raises(UsageError, match=r"do not contain other. Available: tiny \(org/tiny\)\."):
        choose(builders.results(builders.result()), "other")


def test_of_two_folders_with_one_name_the_recommended_one_is_chosen() -> None:
    passed = builders.result()
    entries = (
        replace(passed, params="2B", model_name="/a/model", success=False, error="too large"),
        replace(passed, params="1B", model_name="/c/model"),
        replace(passed, params="2B", model_name="/b/model"),
    )
    results = replace(builders.results(passed), results=entries)
    assert choose(results, "tiny").model_name == "/b/model"
    assert choose(results, "/c/model").model_name == "/c/model"


def test_a_missing_measurement_is_an_error() -> None:
    assert known(0) == 0
    with pytest.raises(UsageError, match="The results are incomplete"):
        known(None)
