"""Results files of version 0.1 can still be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from your_ai.errors import UsageError
from your_ai.report.compare import compare
from your_ai.report.page import page
from your_ai.runs.results import Results, read
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind
from your_ai.terminal.comparison import as_text
from your_ai.terminal.summary import summary
from your_ai.training.request import choose

CONTENT = (Path(__file__).parents[2] / "support/results-0.1.json").read_bytes()


def sizes(trial: TrialResult) -> tuple[int, int, int]:
    return trial.config.batch_size, trial.config.lora_rank, trial.config.lora_layers


@pytest.fixture
def results() -> Results:
    return read(CONTENT, "results-0.1.json")


def test_read(results: Results) -> None:
    assert results.your_ai_version == "0.1.0"
    assert [(trial.preset, trial.outcome) for trial in results.trials] == [
        ("smoke-tiny", OutcomeKind.PASS),
        ("smoke-tiny", OutcomeKind.OVER_BUDGET),
        ("smoke-tiny", OutcomeKind.PASS),
        ("smoke-medium", OutcomeKind.PASS),
        ("smoke-medium", OutcomeKind.OVER_BUDGET),
        ("smoke-medium", OutcomeKind.OVER_BUDGET),
        ("smoke-large", OutcomeKind.OVER_BUDGET),
    ]
    passed = results.trials[2]
    assert passed.load is not None
    assert (sizes(passed), passed.needed_memory_bytes) == ((2, 64, 4), 3_221_240)
    assert (len(passed.steps), len(passed.memory_timeline)) == (8, 15)


def test_report(results: Results) -> None:
    assert "Recommended: <strong>smoke-medium</strong>" in page(results)
    lines = summary(results).splitlines()
    assert lines[-1] == "Recommended: smoke-medium (largest model that fits)"
    best = "batch 2, rank 64, layers 4, length 64, unquantized"
    assert f"Optimal for smoke-tiny: {best} (proven, 3 trials)" in lines


def test_compare(results: Results) -> None:
    comparison = compare(results, results)
    assert not comparison.has_regression(0)
    assert as_text(comparison, 0.05).endswith("(7 compared trials).")


def test_train(results: Results) -> None:
    best = choose(results, "smoke-tiny")
    assert sizes(best) == (2, 64, 4)
    assert (best.memory_limit_bytes, best.needed_memory_limit_bytes) == (6_442_450, 984_220)
    assert choose(results, None).preset == "smoke-medium"
    with pytest.raises(UsageError, match="smoke-large did not pass"):
        choose(results, "smoke-large")


def test_a_trial_without_a_worker(results: Results) -> None:
    """Version 0.1 omitted the fields that only a worker can measure."""
    document: dict[str, Any] = json.loads(CONTENT)
    entry = document["results"][2]
    first = list(entry).index("wall_seconds")
    document["results"][2] = {name: entry[name] for name in list(entry)[:first]}
    (*_, skipped) = read(json.dumps(document).encode(), "x.json").results
    assert (skipped.wall_seconds, skipped.steps, skipped.load) == (None, (), None)
    assert "smoke-large" in page(results)
