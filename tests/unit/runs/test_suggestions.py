"""Suggestions after a failure: the mildest change that should make the trial fit."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from tests.support.builders import METAL, observed
from worker.protocol.configuration import ATTENTION_KEYS, Weights
from worker.protocol.messages import OverBudget, Passed, Phase, PhaseBegan, Step
from your_ai.models import presets, resolve
from your_ai.planning.memory_estimate import estimate
from your_ai.planning.plan import TrainingOptions, Trial, plan
from your_ai.runs.suggestions import smaller, suggestion
from your_ai.supervision.classify import classify
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.units import GB

HYBRID = "qwen3.5-9b"
"""A preset without an estimate: its layers loop over tokens."""


def trial(budget_gb: float, name: str = "llama-8b", **changed: Any) -> Trial:
    preset = presets.all_presets()[name]
    budget = int(budget_gb * GB)
    options = TrainingOptions(lora_keys=ATTENTION_KEYS, **changed)
    return plan([resolve.from_preset(preset)], options, budget)[0]


def over(budget_gb: float) -> Observation:
    measured = int(1.01 * budget_gb * GB)
    return observed(METAL, OverBudget(1.0, Phase.TIGHT, measured, planned=False), returncode=1)


def proposed(tried: Trial) -> str | None:
    seen = over(tried.request.budget_bytes / GB)
    return suggestion(tried, classify(seen, 5), seen)


@pytest.mark.parametrize(
    ("budget_gb", "changed", "line"),
    [
        (8, {"batch_size": 16}, "--batch-size 4 (should fit)"),
        (7, {"batch_size": 1, "seq_length": 4096}, "--seq-length 2816 (should fit)"),
        (10, {"grad_checkpoint": False}, "--grad-checkpoint (should fit)"),
        (10, {"quantize": "none"}, "--quantize 4 (should fit)"),
        (
            9,
            {"quantize": "none", "grad_checkpoint": False},
            "--grad-checkpoint --quantize 4 (should fit)",
        ),
        (4, {}, "a smaller model; `your_ai recommend --max-memory 4` lists models that should fit"),
    ],
)
def test_the_mildest_change_that_fits_is_suggested(
    budget_gb: float, changed: dict[str, Any], line: str
) -> None:
    assert proposed(trial(budget_gb, **changed)) == line


@pytest.mark.parametrize("budget_gb", [5.5, 6, 7, 8, 12, 20])
@pytest.mark.parametrize("batch_size", [1, 2, 8, 32])
def test_a_suggestion_fits_according_to_the_estimate(budget_gb: float, batch_size: int) -> None:
    tried = trial(budget_gb, batch_size=batch_size)
    words = (proposed(tried) or "").removesuffix(" (should fit)").split()
    if not words[0].startswith("--"):
        return
    fields = {"--batch-size": "batch_size", "--seq-length": "seq_length"}
    options = zip(words[::2], words[1::2], strict=True)
    changed: dict[str, Any] = {fields[option]: int(value) for option, value in options}
    before = estimate(tried.model, tried.configuration, "metal")
    after = estimate(tried.model, replace(tried.configuration, **changed), "metal")
    assert before is not None
    assert after is not None
    assert after.needed_bytes < min(tried.request.budget_bytes, before.needed_bytes)


def test_a_map_is_suggested_without_an_estimate() -> None:
    assert proposed(trial(8, HYBRID)) == (
        f"`your_ai ceiling {HYBRID} --max-memory 8`, which finds the longest sequences that fit"
    )


def test_the_longest_length_that_should_fit_is_suggested() -> None:
    tried = trial(7, batch_size=1, seq_length=4000)
    words = (proposed(tried) or "").split()
    assert words[0] == "--seq-length"
    length = int(words[1])
    assert length % 256 == 0
    assert 2000 < length < 4000


def test_real_weights_keep_their_quantization() -> None:
    tried = trial(9, quantize="none")
    real = tried.with_configuration(replace(tried.configuration, weights=Weights.REAL))
    assert "--quantize" not in (proposed(real) or "")


def test_an_oom_in_the_relaxed_phase_needs_no_suggestion() -> None:
    tried = trial(30)
    ahead = observed(
        METAL,
        PhaseBegan(1.0, Phase.TIGHT),
        Step(2.0, Phase.TIGHT, 1, 1.0, 10, 1.0, 6 * GB),
        PhaseBegan(3.0, Phase.RELAXED),
        returncode=-9,
        oom_kills=1,
    )
    outcome = classify(ahead, 5)
    assert outcome.kind is OutcomeKind.OOM
    assert "--max-memory" in outcome.reason
    assert suggestion(tried, outcome, ahead) is None


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (observed(returncode=-15, killed=Kill.SILENCE), "run it again"),
        (observed(returncode=-signal.SIGKILL), "another program or a memory limit"),
        (observed(returncode=-signal.SIGSEGV, memory_limited=True), "ulimit -v unlimited"),
        (observed(returncode=-15, killed=Kill.DEADLINE), None),  # the reason names the option
        (observed(returncode=1, log_tail="ValueError: x"), None),
    ],
)
def test_other_failures(seen: Observation, words: str | None) -> None:
    said = suggestion(trial(8), classify(seen, 5), seen)
    assert said is None if words is None else words in (said or "")


def test_a_pass_has_no_suggestion() -> None:
    seen = observed(Passed(1.0, 1, 1, 1, 1))
    assert suggestion(trial(8), Outcome(OutcomeKind.PASS, "fine"), seen) is None


def test_no_search_is_suggested_if_the_weights_are_too_large() -> None:
    tried = trial(8, HYBRID)
    assert "ceiling" in smaller(tried, "metal")
    heavy = replace(tried.model, weights_bytes=8 * GB + 1)
    assert "ceiling" not in smaller(replace(tried, model=heavy), "metal")


def test_fewer_bits_are_suggested_if_the_unquantized_weights_are_too_large() -> None:
    tried = trial(10, quantize="none")
    assert tried.is_too_large
    assert smaller(tried, "metal") == "--quantize 4 (should fit)"
