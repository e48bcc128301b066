"""The report's charts and page: the data behind each mark, the scales, the frontier."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import builders
from tests.support.builders import METAL, observed, passing_events, searched
from worker.protocol.messages import Memory, OverBudget, Phase, PhaseBegan
from your_ai.report import charts, timeline
from your_ai.report.naming import with_distinct_names
from your_ai.report.page import page, write_report
from your_ai.report.spec import Spec
from your_ai.runs.trial_result import TrialResult
from your_ai.terminal.summary import summary
from your_ai.units import GB

OVER = observed(
    METAL,
    PhaseBegan(1.0, Phase.LOAD),
    Memory(1.5, 5 * GB, GB),
    PhaseBegan(2.0, Phase.TIGHT),
    Memory(2.5, 7 * GB, 0),
    OverBudget(3.0, Phase.TIGHT, 9 * GB, planned=False),
    returncode=1,
)

BOTH = builders.ladder(observed(*passing_events()), OVER)


def with_footprint(trial: TrialResult, most: int) -> TrialResult:
    return replace(trial, footprint_timeline=((1.0, most // 2), (2.5, most)))


def axis(spec: Spec, name: str) -> Any:
    """Return the encoding of an axis by the marks that draw the chart's values."""
    (encoding,) = (one["encoding"] for one in spec["layer"] if "color" in one.get("encoding", ()))
    return encoding[name]


def labels(spec: Spec) -> list[str]:
    """Return the labels of the lines across a chart."""
    return [one["data"]["values"][0]["label"] for one in spec["layer"] if "layer" in one]


def test_models_of_the_same_name_are_called_by_their_paths() -> None:
    entries = [
        searched(replace(entry, preset="tiny", model_name=path))
        for entry, path in zip(BOTH.results, ("/a/tiny", "/b/tiny"), strict=True)
    ]
    other = replace(BOTH.results[0], preset="other", model_name="/c/other")
    named = with_distinct_names(replace(BOTH, results=(*entries, other)))
    assert [trial.preset for trial in named.trials] == ["/a/tiny", "/b/tiny", "other"]
    assert [
        trial.preset
        for entry in named.results
        if entry.optimal_config
        for trial in entry.optimal_config.all_results
    ] == ["/a/tiny", "/b/tiny"]
    assert "Optimal for /b/tiny: none passed (not proven, 1 trial)" in summary(named)


def test_a_phase_ends_with_the_next_phase_or_the_last_event() -> None:
    spans = timeline.phase_spans(BOTH.results[0])
    assert [(span["phase"], span["from"], span["to"]) for span in spans] == [
        ("import", 0.1, 1.0),
        ("load", 1.0, 2.0),
        ("tight", 2.0, 10.0),
        ("relaxed", 10.0, 15.0),
    ]


def test_memory_of_an_over_budget_trial_is_at_least_the_budget() -> None:
    over = BOTH.results[1]
    assert charts.memory_of(over) == 8 * GB  # the largest sample is 7
    assert charts.memory_of(replace(over, weights_bytes=5 * GB)) == 8 * GB
    assert charts.memory_of(replace(over, weights_bytes=9 * GB)) == 9 * GB


def test_ladder() -> None:
    chart = charts.ladder(BOTH)
    assert [(bar["model"], bar["kind"], bar["size"]) for bar in chart.spec["data"]["values"]] == [
        ("m1 (1B)", "peak memory", 7),
        ("m1 (1B)", "needed memory", 6),
        ("m2 (2B)", "memory reached or needed (did not pass)", 8),
    ]
    assert [kind for kind, _ in chart.legend] == [
        "needed memory",
        "peak memory",
        "memory reached or needed (did not pass)",
    ]


def test_a_budget_far_beyond_the_ladder_is_in_the_note() -> None:
    near, far = (
        charts.ladder(replace(BOTH, budget_bytes=budget)) for budget in (24 * GB, 24 * GB + 1)
    )
    assert "'budget 24.0 GB'" in str(near.spec)
    assert near.note is None
    assert "'budget 24.0 GB'" not in str(far.spec)
    assert "24.0 GB" in (far.note or "")


def test_a_search_in_which_nothing_passed_has_no_chart_of_speeds() -> None:
    passed, failed = (replace(BOTH, results=(searched(entry),)) for entry in BOTH.results)
    assert 'data-chart="search-0-speed"' in page(passed)
    assert 'data-chart="search-0-speed"' not in page(failed)
    assert 'data-chart="search-0-capacity"' in page(failed)


def test_memory_timeline() -> None:
    chart = timeline.memory(BOTH.results[1])
    drawn = [(v["at"], v["kind"], v["size"]) for v in chart.spec["data"]["values"]]
    assert drawn == [(1.5, "active", 5), (1.5, "cache", 1), (2.5, "active", 7), (2.5, "cache", 0)]
    assert [kind for kind, _ in chart.legend] == ["active", "cache"]


def test_memory_scale_does_not_depend_on_the_footprint() -> None:
    small, large = (with_footprint(BOTH.results[1], size) for size in (GB, 800 * GB))
    assert timeline.memory(small) == timeline.memory(large)
    low, high = axis(timeline.memory(large).spec, "y")["scale"]["domain"]
    assert (low, high) == (0, pytest.approx(1.1 * 8))  # the budget's line, and room for its label


def test_memory_scale_follows_active_memory_and_cache() -> None:
    entry = replace(BOTH.results[1], memory_timeline=((1.0, 5 * GB, 0), (2.0, 6 * GB, 30 * GB)))
    assert axis(timeline.memory(entry).spec, "y")["scale"]["domain"] == [0, 36]


def test_lines_of_needed_memory_and_budget() -> None:
    passed = replace(BOTH.results[0], memory_timeline=((1.0, 5 * GB, GB),))
    assert labels(timeline.memory(passed).spec) == ["needed 6.0 GB", "budget 8.0 GB"]
    small = replace(passed, needed_memory_bytes=GB, memory_timeline=((1.0, GB, GB),))
    chart = timeline.memory(small)
    assert labels(chart.spec) == ["needed 1.0 GB"]
    assert "8.0 GB" in (chart.note or "")


def test_footprint_has_its_own_size_axis_and_the_same_time_axis() -> None:
    trial = with_footprint(BOTH.results[1], 800 * GB)
    chart = timeline.footprint(trial)
    drawn = [(v["at"], v["kind"], v["size"]) for v in chart.spec["data"]["values"]]
    assert drawn == [(1.0, "footprint", 400), (2.5, "footprint", 800)]
    assert axis(chart.spec, "y")["scale"]["domain"][1] >= 800
    memory = timeline.memory(trial).spec
    assert axis(chart.spec, "x")["scale"] == axis(memory, "x")["scale"]
    widths = [axis(spec, "y")["axis"]["minExtent"] for spec in (chart.spec, memory)]
    assert widths[0] == widths[1]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50).map(float))))
def test_frontier_has_every_point_that_no_other_beats(points: list[tuple[int, float]]) -> None:
    def beaten(point: tuple[int, float]) -> bool:
        size, value = point
        return any(s <= size and v >= value and (s, v) != point for s, v in points)

    assert charts.frontier(points) == sorted({point for point in points if not beaten(point)})


def test_without_results() -> None:
    nothing = builders.results()
    text = page(nothing)
    assert "Recommended" not in text
    assert "data-chart=" not in text
    assert "none (no model has passed yet)" in summary(nothing)


@pytest.mark.parametrize("complete", [True, False])
def test_an_unfinished_run_recommends_so_far(complete: bool) -> None:
    text = page(replace(BOTH, complete=complete))
    assert ("Recommended so far: <strong>m1</strong>" in text) is not complete
    assert ("Recommended: <strong>m1</strong>" in text) is complete


def test_the_first_three_trials_are_open() -> None:
    five = builders.ladder(*[observed(*passing_events())] * 5)
    opened = re.findall(r'<details id="trial-(\d)"( open)?>', page(five))
    assert [bool(is_open) for _, is_open in opened] == [True, True, True, False, False]


def test_terminal_summary() -> None:
    lines = [re.sub(" +", " ", line) for line in summary(BOTH).splitlines()]
    assert lines == [
        "Device: Apple M3 Pro (metal), budget 8.0 GB",
        "Run of 2026-01-02T03:04:00Z",
        "",
        "Model Size Configuration Outcome Needed Peak Tokens/s Seconds",
        "m1 1B batch 2, rank 64, layers 2, length 1024, 4-bit Pass 6.0 GB 7.0 GB 2,046 31",
        "m2 2B batch 2, rank 64, layers 2, length 1024, 4-bit Over budget – – – 31",
        "",
        "m2 (batch 2, rank 64, layers 2, length 1024, 4-bit): needs at least 9.0 GB",
        " try: `your_ai ceiling m2 --max-memory 8`, which finds the longest sequences that fit",
        "Recommended: m1 (largest model that fits)",
    ]


def test_page_loads_no_other_file() -> None:
    text = page(BOTH)
    assert "default-src 'none'" in text
    assert "<link" not in text.replace('<link rel="icon" href="data:,">', "")
    assert " src=" not in text.partition('<script type="application/json"')[0]


def test_write_report_returns_the_problem(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "report.html"
    problem = write_report(BOTH, path) or ""
    assert problem.startswith(f"Cannot write {path}: No such file or directory. ")
    assert write_report(BOTH, tmp_path / "report.html") is None
    assert (tmp_path / "report.html").read_text() == page(BOTH)


def test_a_speed_that_is_not_comparable_is_marked_everywhere() -> None:
    note = "measured on battery; the speed is not comparable"
    assert note not in page(BOTH) + summary(BOTH)
    marked = [replace(entry, conditions_before=builders.ON_BATTERY) for entry in BOTH.results]
    found = replace(BOTH, results=tuple(marked))
    assert page(found).count(note) == 1  # the other trial has no speed
    (line,) = [line for line in summary(found).splitlines() if note in line]
    assert line == f"m1 (batch 2, rank 64, layers 2, length 1024, 4-bit): {note}"
