"""Which differences between two results files are regressions, and how they are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support import builders
from tests.support.builders import observed, passing_events, results, searched
from worker.protocol.messages import Phase, Step
from your_ai.errors import UsageError
from your_ai.report.compare import compare
from your_ai.runs.trial_result import TrialConfig, TrialResult
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.system.conditions import Conditions
from your_ai.terminal.comparison import as_json, as_markdown, as_text

GB = 2**30
FIVE = 0.05


def trial(
    name: str = "a", *, seconds: tuple[float, ...] = (1.0,) * 5, **changed: Any
) -> TrialResult:
    """Return a trial that passed; ``seconds`` are the durations of the counted steps."""
    counted = iter(seconds)
    events = (
        replace(e, seconds=next(counted)) if isinstance(e, Step) and e.phase == "relaxed" else e
        for e in passing_events(**changed)
    )
    return builders.result(builders.trial(1, name), observed(*events))


def failed(name: str = "a", kind: OutcomeKind = OutcomeKind.OOM) -> TrialResult:
    return builders.result(builders.trial(1, name), observed(), Outcome(kind, "why"))


def with_config(result: TrialResult, **changed: Any) -> TrialResult:
    config: TrialConfig = replace(result.config, **changed)
    return replace(result, config=config)


def regressions(before: TrialResult, after: TrialResult, threshold: float = FIVE) -> list[str]:
    (pair,) = compare(results(before), results(after)).pairs
    return pair.regressions(threshold)


def test_equal_results_have_no_regression() -> None:
    comparison = compare(results(trial()), results(trial()))
    assert not comparison.has_regression(0)
    assert (comparison.differences, comparison.only_before, comparison.only_after) == ((), (), ())


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (trial(), trial(needed=int(6.2 * GB)), []),
        (trial(), trial(needed=int(6.4 * GB)), ["needed_memory_bytes"]),
        (trial(), trial(needed=int(4.5 * GB)), []),
        (trial(), trial(peak=int(7.5 * GB)), ["peak_memory_bytes"]),
        (trial(), trial(seconds=(1.04,) * 5), []),
        (trial(), trial(seconds=(1.07,) * 5), ["tokens_per_second"]),
        (trial(), trial(seconds=(0.5,) * 5), []),
        (trial(), failed(), ["outcome"]),
        (failed(), trial(), []),
        (failed(), failed(), []),
    ],
)
def test_regression_beyond_five_percent(
    before: TrialResult, after: TrialResult, worse: list[str]
) -> None:
    assert regressions(before, after) == worse


def test_slowdown_within_noise_is_no_regression() -> None:
    noisy = trial(seconds=(0.8, 1.5, 0.9, 1.4, 1.1))
    assert regressions(trial(), noisy) == []
    steady = trial(seconds=(1.13, 1.15, 1.14, 1.15, 1.13))
    assert regressions(trial(), steady) == ["tokens_per_second"]


def test_spread_of_the_peaks_is_noise() -> None:
    larger = trial(needed=int(6.6 * GB))
    rising = tuple(
        replace(step, peak_bytes=int(5.5 * GB))
        if step.phase is Phase.TIGHT and step.index == 2
        else step
        for step in larger.steps
    )
    assert regressions(trial(), larger) == ["needed_memory_bytes"]
    assert regressions(trial(), replace(larger, steps=rising)) == []


def test_trials_are_matched_by_model_and_configuration() -> None:
    other = with_config(trial(), batch_size=4)
    comparison = compare(results(trial("b"), trial()), results(trial(), other))
    assert [pair.name for pair in comparison.pairs] == [
        "a (batch=2, rank=64, layers=2, 1024 tokens, 4-bit)"
    ]
    assert comparison.only_before == ("b (batch=2, rank=64, layers=2, 1024 tokens, 4-bit)",)
    assert comparison.only_after == ("a (batch=4, rank=64, layers=2, 1024 tokens, 4-bit)",)


def test_trials_of_a_search_are_compared() -> None:
    found = results(searched(trial(), with_config(trial(), batch_size=4)))
    assert len(compare(found, found).pairs) == 2


def test_peaks_under_different_budgets_are_not_compared() -> None:
    larger = with_config(trial(peak=8 * GB), budget_bytes=16 * GB)
    assert regressions(trial(), larger) == []


def test_differences_of_machine_and_versions() -> None:
    before = results(trial())
    machine = replace(before.machine, memory_bytes=8 * GB)
    device = replace(before.device, versions={"mlx": "0.33.0"})
    after = replace(
        before, machine=machine, device=device, budget_bytes=6 * GB, your_ai_version="2.0"
    )
    assert compare(before, after).differences == (
        f"memory: {36 * GB} bytes → {8 * GB} bytes",
        "budget: 8.0 GB → 6.0 GB",
        "mlx: 0.32.4 → 0.33.0",
        "your_ai: 1.0 → 2.0",
    )


WORSE = compare(
    results(trial(), trial("b"), trial("gone")),
    results(trial(needed=int(6.6 * GB)), failed("b"), your_ai_version="2.0"),
)


def test_as_text() -> None:
    assert as_text(WORSE, FIVE).splitlines() == [
        "Difference: your_ai: 1.0 → 2.0",
        "✗ a (batch=2, rank=64, layers=2, 1024 tokens, 4-bit)",
        "    needed 6.0 GB → 6.6 GB (+10.0%)  ← regression",
        "    peak 7.0 GB → 7.0 GB (+0.0%)",
        "    tokens/s 2,046 → 2,046 (+0.0%)",
        "✗ b (batch=2, rank=64, layers=2, 1024 tokens, 4-bit)",
        "    outcome pass → oom  ← regression",
        "Trial only in BASE: gone (batch=2, rank=64, layers=2, 1024 tokens, 4-bit)",
        "Model that passed in BASE is missing in NEW: gone  ← regression",
        "2 of 2 compared trials failed or became worse by more than 5% and by more than the noise.",
    ]


def test_as_markdown() -> None:
    lines = as_markdown(WORSE, FIVE).splitlines()
    assert (
        lines[0]
        == "**2 of 2 compared trials failed or became worse by more than 5% and by more than the "
        "noise.**"
    )
    assert lines[2] == "| trial | outcome | needed | peak | tokens/s |  |"
    assert "| **6.0 GB → 6.6 GB (+10.0%)** |" in lines[4]
    assert "| **pass → oom** | – | – | – | ✗ |" in lines[5]
    assert lines[-3:] == [
        "- Difference: your_ai: 1.0 → 2.0",
        "- Trial only in BASE: gone (batch=2, rank=64, layers=2, 1024 tokens, 4-bit)",
        "- Model that passed in BASE is missing in NEW: gone  ← regression",
    ]


def test_as_json() -> None:
    content = json.loads(as_json(WORSE, FIVE))
    assert (content["regression"], content["fail_above"]) == (True, FIVE)
    first = content["trials"][0]
    assert first["regressions"] == ["needed_memory_bytes"]
    assert first["needed_memory_bytes"]["base"] == 6 * GB
    assert content["only_in_base"] == ["gone (batch=2, rank=64, layers=2, 1024 tokens, 4-bit)"]


def test_files_without_a_common_trial_are_an_error() -> None:
    with pytest.raises(UsageError, match="no trial in common"):
        compare(results(trial("a")), results(trial("b")))


def test_interrupted_trial_is_no_regression() -> None:
    stopped = failed(kind=OutcomeKind.INTERRUPTED)
    assert not compare(results(trial()), results(stopped)).has_regression(0.05)


def test_memory_only_ignores_slowdowns() -> None:
    before, after = results(trial()), results(trial(seconds=(3.0,) * 5))
    assert compare(before, after).has_regression(0.05)
    found = compare(before, after, memory_only=True)
    assert not found.has_regression(0.05)
    assert "tokens/s 2,046 → 682 (-66.7%, not compared)" in as_text(found, 0.05)
    assert compare(results(trial()), results(trial(peak=8 * GB)), memory_only=True).has_regression(
        0.05
    )


def test_missing_model_that_passed_is_a_regression() -> None:
    before, after = results(trial("a"), trial("b")), results(trial("a"))
    found = compare(before, after)
    assert found.lost == ("b",)
    assert found.has_regression(0.05)
    assert as_text(found, 0.05).endswith(
        "Model that passed in BASE is missing in NEW: b  ← regression\n"
        "1 model that passed in BASE is missing in NEW."
    )
    assert not compare(results(trial("a"), failed("b")), after).has_regression(0.05)
    assert not compare(after, before).has_regression(0.05)
    unfinished = compare(before, replace(after, complete=False))  # b may not have been tried yet
    assert not unfinished.has_regression(0.05)
    assert unfinished.differences == ("the run in NEW did not finish",)


def measured(result: TrialResult, under: Conditions) -> TrialResult:
    return replace(result, conditions_before=under, conditions_after=under)


SLOW = trial(seconds=(3.0,) * 5)
NAME = "a (batch=2, rank=64, layers=2, 1024 tokens, 4-bit)"


@pytest.mark.parametrize(
    ("before", "after", "differences"),
    [
        (trial(), measured(SLOW, builders.ON_BATTERY), ["NEW"]),
        (measured(trial(), builders.ON_BATTERY), SLOW, ["BASE"]),
        (
            *(measured(trial(), builders.ON_BATTERY), measured(SLOW, builders.ON_BATTERY)),
            ["BASE", "NEW"],
        ),
    ],
)
def test_a_speed_measured_on_battery_is_not_compared(
    before: TrialResult, after: TrialResult, differences: list[str]
) -> None:
    found = compare(results(before), results(after))
    assert not found.has_regression(FIVE)
    assert found.differences == tuple(
        f"in {side}, the speed of {NAME} was measured on battery, so it is not compared"
        for side in differences
    )
    text = as_text(found, FIVE)
    assert f"Difference: in {differences[0]}, the speed of {NAME} was measured on" in text
    assert "tokens/s 2,046 → 682 (-66.7%, not compared)" in text
    assert json.loads(as_json(found, FIVE))["differences"] == list(found.differences)


def test_trials_measured_under_the_same_conditions_take_one_line() -> None:
    cold = [with_config(trial(), batch_size=size) for size in (1, 2, 4, 8)]
    first, second, third, fourth = cold
    hot = [measured(each, builders.ON_BATTERY) for each in (first, second, third)]
    throttled = replace(builders.ON_MAINS, low_power_mode=True)
    before = searched(hot[0], *hot[1:], measured(fourth, throttled))
    found = compare(results(before), results(searched(first, second, third, fourth)))
    name = "a (batch=8, rank=64, layers=2, 1024 tokens, 4-bit)"
    assert found.differences == (
        "in BASE, the speed of 3 trials was measured on battery, so it is not compared",
        f"in BASE, the speed of {name} was measured in low power mode, so it is not compared",
    )


def test_a_slowdown_on_mains_is_still_a_regression() -> None:
    before, after = (measured(each, builders.ON_MAINS) for each in (trial(), SLOW))
    assert compare(results(before), results(after)).has_regression(FIVE)
    larger = measured(trial(needed=8 * GB), builders.ON_BATTERY)
    assert regressions(before, larger) == ["needed_memory_bytes"]


def test_the_conditions_of_a_failed_trial_do_not_matter() -> None:
    found = compare(results(trial()), results(measured(failed(), builders.ON_BATTERY)))
    assert found.differences == ()
    assert found.has_regression(FIVE)
