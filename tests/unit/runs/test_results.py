"""The results file: all keys of the seed format, and the recommendation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support import builders
from worker.protocol.messages import Device
from your_ai.errors import UsageError
from your_ai.runs import results
from your_ai.runs.assembly import assemble
from your_ai.runs.results import Results, read, recommended, write
from your_ai.runs.trial_record import result_without_worker
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import Outcome, OutcomeKind

BUDGET = int(28.8 * 2**30)


def record(name: str, params: str, kind: OutcomeKind = OutcomeKind.PASS) -> TrialResult:
    trial = builders.trial(1, name, params, budget_bytes=BUDGET)
    if kind is OutcomeKind.PASS:
        return builders.result(trial)
    return result_without_worker(trial, Outcome(kind, "some reason"), builders.STARTED_AT)


def assembled(*found: TrialResult, planned: int = 1) -> Results:
    trials = [
        builders.trial(n, r.preset, r.params, budget_bytes=BUDGET)
        for n, r in enumerate(found * planned, start=1)
    ]
    ended = (replace(each, index=n) for n, each in enumerate(found, start=1))
    return assemble(builders.run(*trials), ended)


def written(*found: TrialResult, planned: int = 1) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(write(assembled(*found, planned=planned)))
    return content


def test_the_seed_keys_come_first_and_unchanged() -> None:
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


def test_the_facts_of_the_run() -> None:
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
def test_the_largest_passing_model_is_recommended(order: tuple[int, ...]) -> None:
    records = [
        record("small", "350M"),
        record("mid", "8B"),
        record("large", "14B"),
        record("largest", "70B", OutcomeKind.OVER_BUDGET),
    ]
    best = recommended([records[i] for i in order])
    assert best is not None
    assert best.preset == "large"


def test_the_first_of_equally_large_models_is_recommended() -> None:
    best = recommended([record("a", "8B"), record("b", "8B")])
    assert best is not None
    assert best.preset == "a"


@pytest.mark.parametrize("kind", sorted(set(OutcomeKind) - {OutcomeKind.PASS}))
def test_nothing_is_recommended_if_nothing_passed(kind: OutcomeKind) -> None:
    assert recommended([]) is None
    assert recommended([record("a", "7B", kind)]) is None
    assert written(record("a", "7B", kind))["recommended"] is None


def test_results_survive_a_round_trip() -> None:
    written = assembled(record("a", "7B"), record("b", "8B", OutcomeKind.OOM))
    assert read(write(written), "results.json") == written


def test_a_nan_loss_is_null_in_json() -> None:
    passed = record("a", "7B")
    diverged = replace(passed, steps=tuple(replace(step, loss=math.nan) for step in passed.steps))
    assert {step["loss"] for step in written(diverged)["results"][0]["steps"]} == {None}
    (found,) = read(write(assembled(diverged)), "results.json").results
    assert all(math.isnan(step.loss) for step in found.steps)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"{", "not valid JSON"),
        (b"{}", "Object missing required field `results`."),
        (b"5", "Expected `object`, got `int`."),
        (b'{"results": [null]}', "Expected `object`, got `null` - at `$.results[0]`."),
        (b'{"results": [{"steps": [{}]}]}', "missing required field `loss`"),
        (b'{"results": [{"optimal_config": {"all_results": 5}}]}', "Expected `array`"),
        (b'{"results": [], "recommended": 5}', "recommended"),
    ],
)
def test_other_files_are_refused_with_the_reason(content: bytes, what: str) -> None:
    with pytest.raises(UsageError, match=r"x\.json is not a results file of") as refused:
        read(content, "x.json")
    assert what in str(refused.value)


def test_a_bug_is_not_reported_as_a_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    content = write(assembled(record("a", "7B")))
    for error in (TypeError, KeyError, AttributeError, ValueError):
        monkeypatch.setattr(results, "_restore", raising(error))
        with pytest.raises(error):
            read(content, "x.json")


def raising(error: type[Exception]) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_a_path_that_is_not_utf8_can_be_written() -> None:
    name = b"bad\xff".decode(errors="surrogateescape")
    assert written(record(name, "7B"))["results"][0]["preset"] == "bad?"


def test_the_uuid_of_a_gpu_is_not_in_the_results() -> None:
    """It identifies the owner's machine."""
    uuid = "GPU-0019ef91-ac4c-7e29-6ab3-554b260553d2"
    h200 = Device(0.5, "cuda", {"device_name": "NVIDIA H200", "uuid": uuid}, {"mlx": "0.32.4"})
    trial = builders.trial()
    found = builders.result(trial, builders.observed(*builders.passing_events(device=h200)))
    content = write(assemble(builders.run(trial, gpu_uuid=uuid), [found])).decode()
    assert "NVIDIA H200" in content
    assert uuid not in content
