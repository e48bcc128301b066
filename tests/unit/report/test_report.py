"""What the report draws, from real entries: the data behind each mark, and the frontier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import METAL, observed, passing_events, results_document
from worker.protocol.messages import Memory, OverBudget, Phase, PhaseBegan
from your_ai.errors import UsageError
from your_ai.files import json_pieces
from your_ai.report import charts
from your_ai.report.document import Document, read
from your_ai.report.page import page
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import OutcomeKind
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


def results(*seen: Observation) -> Document:
    return read(results_document(*seen))


BOTH = results(observed(*passing_events()), OVER)


def test_two_folders_of_one_name_are_told_apart_by_their_paths() -> None:
    found = results_document(observed(*passing_events()), OVER)
    for path, entry in zip(("/a/tiny", "/b/tiny"), found["results"], strict=True):
        entry |= {"preset": "tiny", "model_name": path}
        entry["optimal_config"] = {
            **{f"optimal_{axis}": None for axis in ("batch_size", "lora_rank", "lora_layers")},
            "objective": "capacity",
            "proven": False,
            "all_results": [dict(entry)],
        }
    document = read(found)
    assert [trial.model for trial in document.models] == ["/a/tiny", "/b/tiny"]
    assert [search.model for search in document.searches] == ["/a/tiny", "/b/tiny"]
    assert [trial.model for trial in document.trials] == ["/a/tiny", "/b/tiny"]


def test_a_trial_as_it_was_measured() -> None:
    passed, over = BOTH.models
    assert (passed.needed_bytes, passed.peak_bytes) == (6 * GB, 7 * GB)
    assert passed.outcome is OutcomeKind.PASS
    assert [(p.name, p.began, p.ended) for p in passed.phases] == [
        ("import", 0.1, 1.0),
        ("load", 1.0, 2.0),
        ("tight", 2.0, 10.0),
        ("relaxed", 10.0, 15.0),
    ]
    assert over.verdict == "Over budget"
    assert over.advice == "--batch-size 1 should fit"


def test_one_over_budget_reached_at_least_that() -> None:
    assert BOTH.models[1].reached_bytes == 8 * GB  # the samples saw 7


def test_the_ladder() -> None:
    chart = charts.ladder(BOTH.models, BOTH.budget_bytes)
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
    near, far = (charts.ladder(BOTH.models, budget) for budget in (24 * GB, 24 * GB + 1))
    assert len(near.spec["layer"]) == len(far.spec["layer"]) + 1
    assert near.beyond is None
    assert far.beyond == "The budget of 24.0 GB lies far beyond the chart."


def test_the_timeline() -> None:
    chart = charts.timeline(BOTH.models[1])
    drawn = [(v["at"], v["kind"], v["size"]) for v in chart.spec["data"]["values"]]
    assert drawn == [(1.5, "active", 5), (1.5, "cache", 1), (2.5, "active", 7), (2.5, "cache", 0)]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50).map(float))))
def test_the_frontier_is_what_no_other_beats(points: list[tuple[int, float]]) -> None:
    def beaten(point: tuple[int, float]) -> bool:
        size, value = point
        return any(s <= size and v >= value and (s, v) != point for s, v in points)

    assert charts.frontier(points) == sorted({point for point in points if not beaten(point)})


def test_a_run_of_nothing_has_a_page_too() -> None:
    skipped = results_document(OVER)
    skipped["results"], skipped["recommended"] = [], None
    assert "No model passed." in page(read(skipped))
    assert summary(read(skipped)).endswith("Recommended: none (no model passed)")


def test_the_page_asks_for_nothing() -> None:
    text = page(BOTH)
    assert "default-src 'none'" in text
    assert "<link" not in text.replace('<link rel="icon" href="data:,">', "")
    assert " src=" not in text.partition('<script type="application/json"')[0]


@pytest.mark.parametrize("missing", ["machine", "device", "budget_bytes", "complete"])
def test_what_is_no_results_document(missing: str) -> None:
    found = results_document(OVER)
    del found[missing]
    with pytest.raises(UsageError, match=f"no results file .* it lacks '{missing}'"):
        read(found)


def test_an_older_document_without_help_is_read() -> None:
    found = results_document(OVER)
    for name in ("log_excerpt", "advice", "memory_timeline", "phases"):
        del found["results"][0][name]
    (entry,) = read(found).models
    assert (entry.log_excerpt, entry.advice, entry.memory, entry.phases) == ((), None, (), ())
    assert b"".join(json_pieces(found))
