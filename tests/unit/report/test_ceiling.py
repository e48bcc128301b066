"""The report's map of the longest sequences: what was measured, what is implied, the data."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from tests.support import builders
from tests.support.builders import mapped
from worker.protocol.configuration import Configuration
from your_ai.planning.distribution import distribution
from your_ai.report import ceiling, charts
from your_ai.report.page import page
from your_ai.runs.trial_result import TrialResult
from your_ai.search.grid import Axes
from your_ai.search.search import Objective
from your_ai.supervision.outcome import OutcomeKind

AXES = Axes((1, 2, 4), (), (), (256, 512, 1024, 2048), (), (True, False))


def fits(c: Configuration) -> bool:
    return c.batch_size * c.seq_length <= (2048 if c.grad_checkpoint else 512)


@cache
def entry() -> TrialResult:
    return mapped(AXES, fits)


def drawn(of: TrialResult, kind: str, *, checkpointing: bool = False) -> list[dict[str, Any]]:
    values = ceiling.chart(of, checkpointing).spec["data"]["values"]
    return [value for value in values if value["kind"] == kind]


@pytest.mark.parametrize("checkpointing", [True, False])
def test_marks_are_the_trials_of_the_kind(checkpointing: bool) -> None:
    found = entry().ceiling
    assert found
    trials = [t for t in found.all_results if t.config.grad_checkpoint == checkpointing]
    assert 0 < len(trials) < len(found.all_results)
    for kind, success in (("passed", True), ("did not pass", False)):
        marks = drawn(entry(), kind, checkpointing=checkpointing)
        places = sorted((mark["batch"], mark["at"]) for mark in marks)
        expected = [t.config for t in trials if t.success is success]
        assert places == sorted((c.batch_size, c.seq_length) for c in expected)


def test_an_interrupted_trial_is_no_mark() -> None:
    found = entry().ceiling
    assert found
    interrupted = replace(found.all_results[0], outcome=OutcomeKind.INTERRUPTED)
    cut = replace(entry(), ceiling=replace(found, all_results=(interrupted,)))
    kinds = {
        value["kind"]
        for checkpointing in (True, False)
        for value in ceiling.chart(cut, checkpointing).spec["data"]["values"]
    }
    assert not kinds & {"passed", "did not pass"}


def test_areas_end_at_the_longest_length_and_start_at_the_shortest_failure() -> None:
    assert [(area["batch"], area["to"]) for area in drawn(entry(), "implied to fit")] == [
        (1, 512),
        (2, 256),
    ]
    too_long = drawn(entry(), "implied not to fit")
    assert [(area["batch"], area["at"]) for area in too_long] == [(1, 1024), (2, 512), (4, 256)]


def test_frontier_says_whether_it_was_measured() -> None:
    found = entry().ceiling
    assert found
    columns = tuple(replace(c, measured=c.batch_size == 2) for c in found.columns)
    changed = replace(entry(), ceiling=replace(found, columns=columns))
    lines = drawn(changed, "longest that fits", checkpointing=True)
    assert [(line["batch"], line["at"]) for line in lines] == [(1, 2048), (2, 1024), (4, 512)]
    assert ["(measured)" in line["text"] for line in lines] == [False, True, False]


def test_the_longest_of_the_map_may_not_be_the_longest_that_fits() -> None:
    labels = [line["label"] for line in drawn(entry(), "longest that fits", checkpointing=True)]
    assert labels == ["≥ 2,048", "1,024", "512"]


def test_unknown_lengths_are_blank() -> None:
    found = entry().ceiling
    assert found
    unknown = [replace(c, longest=None, shortest_failure=None) for c in found.columns]
    unsettled = replace(found, columns=tuple(replace(c, complete=False) for c in unknown))
    blank = replace(entry(), ceiling=unsettled)
    assert {v["kind"] for v in ceiling.chart(blank, False).spec["data"]["values"]} <= {
        "passed",
        "did not pass",
    }
    assert ceiling.longest(unsettled.columns[0], unsettled) == "unknown"


def test_lines_at_the_lengths_of_the_data() -> None:
    with_data = replace(
        entry(), data_lengths=distribution([50] * 60 + [100] * 35 + [6000] * 5, 2048)
    )
    spec = ceiling.chart(with_data, False).spec
    labels = [one["data"]["values"][0]["label"] for one in spec["layer"] if "layer" in one]
    assert labels == [["longest", "6,000"], ["95 %", "100"]]
    low, high = spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert low < 100
    assert high > 6000
    text = page(replace(builders.results(entry()), results=(with_data,)))
    assert "The longest sample of the data has 6,000 tokens" in text


def test_512_lengths_need_no_larger_chart() -> None:
    lengths = tuple(range(256, 131_072 + 1, 256))
    found = entry().ceiling
    assert found
    large = replace(found, grid=replace(found.grid, seq_lengths=lengths))
    few, many = (
        ceiling.chart(replace(entry(), ceiling=each), True).spec for each in (found, large)
    )
    assert len(json.dumps(many)) < len(json.dumps(few)) + 100
    # The axis ends at the longest trial, not at the longest length of the map.
    assert many["layer"][0]["encoding"]["y"]["scale"]["domain"][1] < 4096


def test_proof() -> None:
    found = entry().ceiling
    assert found
    trials = len(found.all_results)
    assert ceiling.proof(found).startswith(f"Proven in {trials} trials: every longer")
    assert ceiling.proof(replace(found, proven=False)).startswith(f"Not proven in {trials}")
    assert ceiling.proof(replace(found, complete=False)).startswith("Not complete after")
    everything = mapped(replace(AXES, seq_lengths=(256, 512)), lambda _: True).ceiling
    assert everything
    assert "every length of the map fits" in ceiling.proof(everything)
    nothing = mapped(AXES, lambda _: False).ceiling
    assert nothing
    assert "no length of the map fits" in ceiling.proof(nothing)


def test_page_has_a_table_and_both_charts() -> None:
    text = page(replace(builders.results(entry()), results=(entry(),)))
    assert "Longest sequences of tiny" in text
    assert 'data-chart="ceiling-0-with"' in text
    assert 'data-chart="ceiling-0-without"' in text
    rows = text.partition('<table class="map">')[2].partition("</table>")[0]
    assert rows.count('<th scope="row">') == 3
    assert "≥ 2,048" in rows
    assert "none" in rows


@pytest.mark.parametrize("kinds", [(True, False), (False,)])
def test_caption_says_what_the_areas_follow_from(kinds: tuple[bool, ...]) -> None:
    one = mapped(replace(AXES, grad_checkpoints=kinds), fits)
    text = page(replace(builders.results(one), results=(one,)))
    assert ("the trials of both charts" in text) is (len(kinds) == 2)


@pytest.mark.parametrize(
    ("objective", "lengths", "figures"),
    [
        (Objective.CAPACITY, (1024,), ["capacity", "speed"]),
        (Objective.CAPACITY, (512, 1024), ["capacity", "length", "speed"]),
        (Objective.LENGTH, (512, 1024), ["length", "speed"]),
    ],
)
def test_a_search_of_lengths_shows_the_length(
    objective: Objective, lengths: tuple[int, ...], figures: list[str]
) -> None:
    searched = builders.searched(builders.result())
    assert searched.optimal_config
    grid = replace(searched.optimal_config.grid, seq_lengths=lengths)
    found = replace(searched.optimal_config, objective=objective, grid=grid)
    assert charts.figures(found) == figures
    searched = replace(searched, optimal_config=found)
    text = page(replace(builders.results(searched), results=(searched,)))
    for figure in charts.FIGURES:
        assert (f'data-chart="search-0-{figure}"' in text) is (figure in figures)
    (point,) = charts.search(searched, "length").spec["data"]["values"]
    assert point["value"] == 1024
