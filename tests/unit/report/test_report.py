"""What the report draws, from real entries: the data behind each mark, and the frontier."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.support import builders
from tests.support.builders import METAL, observed, passing_events, searched
from worker.protocol.messages import Memory, OverBudget, Phase, PhaseBegan
from your_ai.report import charts
from your_ai.report.naming import with_distinct_names
from your_ai.report.page import page, write_report
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


def test_two_folders_of_one_name_are_told_apart_by_their_paths() -> None:
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


def test_phases_last_until_the_next_one_or_the_last_sign_of_life() -> None:
    spans = charts.phase_spans(BOTH.results[0])
    assert [(span["phase"], span["from"], span["to"]) for span in spans] == [
        ("import", 0.1, 1.0),
        ("load", 1.0, 2.0),
        ("tight", 2.0, 10.0),
        ("relaxed", 10.0, 15.0),
    ]


def test_one_over_budget_reached_at_least_that() -> None:
    assert charts.memory_of(BOTH.results[1]) == 8 * GB  # the samples saw 7


def test_the_ladder() -> None:
    chart = charts.ladder(BOTH)
    assert [(bar["model"], bar["kind"], bar["size"]) for bar in chart.spec["data"]["values"]] == [
        ("m1 (1B)", "peak memory", 7),
        ("m1 (1B)", "needed memory", 6),
        ("m2 (2B)", "reached, then failed", 8),
    ]
    assert [kind for kind, _ in chart.legend] == [
        "needed memory",
        "peak memory",
        "reached, then failed",
    ]


def test_a_budget_far_beyond_is_said_and_not_drawn() -> None:
    near, far = (
        charts.ladder(replace(BOTH, budget_bytes=budget)) for budget in (24 * GB, 24 * GB + 1)
    )
    assert len(near.spec["layer"]) == len(far.spec["layer"]) + 1
    assert near.beyond is None
    assert far.beyond == "The budget of 24.0 GB lies far beyond the chart."


def test_the_timeline() -> None:
    chart = charts.timeline(BOTH.results[1])
    drawn = [(v["at"], v["kind"], v["size"]) for v in chart.spec["data"]["values"]]
    assert drawn == [(1.5, "active", 5), (1.5, "cache", 1), (2.5, "active", 7), (2.5, "cache", 0)]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50).map(float))))
def test_the_frontier_is_what_no_other_beats(points: list[tuple[int, float]]) -> None:
    def beaten(point: tuple[int, float]) -> bool:
        size, value = point
        return any(s <= size and v >= value and (s, v) != point for s, v in points)

    assert charts.frontier(points) == sorted({point for point in points if not beaten(point)})


def test_a_run_of_nothing_has_a_page_too() -> None:
    nothing = builders.results()
    assert "No model passed." in page(nothing)
    assert summary(nothing).endswith("Recommended: none (no model passed)")


def test_a_table_of_every_trial_for_a_terminal() -> None:
    lines = [re.sub(" +", " ", line) for line in summary(BOTH).splitlines()]
    assert lines == [
        "Device: Apple M3 Pro (metal), budget 8.0 GB",
        "Run of 2026-01-02T03:04:00Z",
        "",
        "Model Size Configuration Outcome Needed Peak Tokens/s Seconds",
        "m1 1B batch 2, rank 64, layers 2 Pass 6.0 GB 7.0 GB 2,046 31",
        "m2 2B batch 2, rank 64, layers 2 Over budget – – – 31",
        "",
        "m2 (batch 2, rank 64, layers 2): needs at least 9.0 GB",
        " try: --batch-size 1 (should fit)",
        "Recommended: m1 (largest model that fits)",
    ]


def test_the_page_asks_for_nothing() -> None:
    text = page(BOTH)
    assert "default-src 'none'" in text
    assert "<link" not in text.replace('<link rel="icon" href="data:,">', "")
    assert " src=" not in text.partition('<script type="application/json"')[0]


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "report.html"
    assert write_report(BOTH, path) == f"Cannot write {path}: No such file or directory."
    assert write_report(BOTH, tmp_path / "report.html") is None
    assert (tmp_path / "report.html").read_text() == page(BOTH)
