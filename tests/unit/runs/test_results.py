"""The results document: the seed format with nothing removed, and what it recommends."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import kept, model, observed, passing_events, read, run, spec
from worker.protocol.messages import Step
from your_ai.planning.plan import Trial
from your_ai.runs.results import Entry, document, recommended
from your_ai.runs.run_dir import make_run_dir
from your_ai.runs.trial_record import Ended, TrialRecord
from your_ai.supervision.outcome import Outcome, OutcomeKind, classify

BUDGET = int(28.8 * 2**30)


def ended(name: str, params: str, kind: OutcomeKind = OutcomeKind.PASS) -> Ended:
    trial = Trial(1, model(name, params), spec(budget_bytes=BUDGET))
    seen = observed(*passing_events())
    if kind is OutcomeKind.PASS:
        return Ended(trial, classify(seen, 5), "2026-01-02T03:04:05Z", seen, "x.log")
    return Ended(trial, Outcome(kind, "some reason"), "2026-01-02T03:04:05Z")


def record(name: str, params: str, kind: OutcomeKind = OutcomeKind.PASS) -> TrialRecord:
    return kept(ended(name, params, kind))


def written(*records: TrialRecord, planned: int = 1) -> dict[str, Any]:
    trials = [record.trial for record in records]
    entries = [Entry(record) for record in records]
    pieces = document(run(*(trials * planned)), entries, read)
    content: dict[str, Any] = json.loads(b"".join(pieces))
    return content


def test_the_seed_keys_are_all_there_first_and_as_they_were() -> None:
    content = written(record("a", "7B"), record("b", "8B", OutcomeKind.OOM))
    assert list(content)[:3] == ["max_memory_gb", "recommended", "results"]
    for entry in content["results"]:
        assert list(entry)[:7] == [
            "preset",
            "model_name",
            "params",
            "success",
            "peak_memory_gb",
            "error",
            "optimal_config",
        ]
    seed = [{key: entry[key] for key in list(entry)[:7]} for entry in content["results"]]
    assert seed == [
        {
            "preset": "a",
            "model_name": "org/a",
            "params": "7B",
            "success": True,
            "peak_memory_gb": 7.0,
            "error": None,
            "optimal_config": None,
        },
        {
            "preset": "b",
            "model_name": "org/b",
            "params": "8B",
            "success": False,
            "peak_memory_gb": None,
            "error": "some reason",
            "optimal_config": None,
        },
    ]
    assert content["recommended"] == "a"
    assert content["max_memory_gb"] == pytest.approx(28.8)


def test_the_runs_own_facts() -> None:
    content = written(record("a", "7B"))
    assert content["your_ai_version"] == "1.0"
    assert content["budget_bytes"] == BUDGET
    assert content["machine"]["memory_bytes"] == 36 * 2**30
    assert content["device"]["name"] == "Apple M3 Pro"
    assert (content["started_at"], content["run_dir"]) == ("2026-01-02T03:04:00Z", "/runs/1")


def test_a_run_is_complete_once_all_its_trials_have_ended() -> None:
    assert written(record("a", "7B"))["complete"] is True
    assert written(record("a", "7B"), planned=2)["complete"] is False


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_the_largest_that_passed_is_recommended(order: tuple[int, ...]) -> None:
    records = [
        record("small", "350M"),
        record("mid", "8B"),
        record("large", "14B"),
        record("largest", "70B", OutcomeKind.OVER_BUDGET),
    ]
    best = recommended([records[i] for i in order])
    assert best is not None
    assert best.trial.model.name == "large"


def test_of_equally_large_ones_the_first_is_recommended() -> None:
    best = recommended([record("a", "8B"), record("b", "8B")])
    assert best is not None
    assert best.trial.model.name == "a"


@pytest.mark.parametrize("kind", sorted(set(OutcomeKind) - {OutcomeKind.PASS}))
def test_nothing_is_recommended_when_nothing_passed(kind: OutcomeKind) -> None:
    assert recommended([]) is None
    assert recommended([record("a", "7B", kind)]) is None
    assert written(record("a", "7B", kind))["recommended"] is None


def test_a_loss_that_is_no_number_is_null_in_json() -> None:
    passed = ended("a", "7B")
    assert passed.seen is not None
    events = tuple(
        replace(e, loss=math.nan) if isinstance(e, Step) else e for e in passed.seen.events
    )
    content = written(kept(replace(passed, seen=replace(passed.seen, events=events))))
    assert {step["loss"] for step in content["results"][0]["steps"]} == {None}


def test_a_path_that_is_not_utf8_does_not_cost_the_results() -> None:
    name = b"bad\xff".decode(errors="surrogateescape")
    assert written(record(name, "7B"))["results"][0]["preset"] == "bad?"


def test_a_new_run_directory_is_private(tmp_path: Path) -> None:
    path = make_run_dir(tmp_path / "some" / "run")
    assert [p.stat().st_mode & 0o777 for p in (path, path / "logs")] == [0o700, 0o700]
