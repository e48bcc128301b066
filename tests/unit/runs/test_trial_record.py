"""A trial's record as JSON: every figure, exact, and timelines that stay small."""

from __future__ import annotations

import math
import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import CONFIG, began, kept, model, observed, passing_events, spec
from worker.protocol.messages import (
    Failed,
    Loaded,
    Memory,
    ModelSource,
    Passed,
    Phase,
    Quantization,
)
from your_ai.planning.plan import Trial
from your_ai.runs.trial_record import TIMELINE_POINTS, Ended, thin_out, to_json
from your_ai.supervision.observation import FootprintSample
from your_ai.supervision.outcome import Outcome, OutcomeKind, classify

SAMPLE: st.SearchStrategy[list[float]] = st.builds(
    lambda at, size: [at, float(size)], st.floats(0, 1e6), st.integers(0, 2**40)
)
SAMPLES = st.lists(SAMPLE, max_size=200)


@given(SAMPLES, st.integers(1, 50))
def test_a_thinned_timeline_is_bounded(samples: list[list[float]], most: int) -> None:
    assert len(thin_out(samples, most)) <= most


@given(SAMPLES, st.integers(1, 50))
def test_a_thinned_timeline_keeps_the_maximum(samples: list[list[float]], most: int) -> None:
    peaks = [
        max((size for _, size in line), default=None) for line in (samples, thin_out(samples, most))
    ]
    assert peaks[0] == peaks[1]


@given(SAMPLES, st.integers(1, 50))
def test_a_thinned_timeline_invents_and_reorders_nothing(
    samples: list[list[float]], most: int
) -> None:
    remaining = iter(samples)
    assert all(any(kept is sample for sample in remaining) for kept in thin_out(samples, most))


@given(SAMPLES)
def test_a_short_timeline_is_left_as_it_is(samples: list[list[float]]) -> None:
    assert thin_out(samples, max(1, len(samples))) == samples


def record_of_pass() -> Ended:
    footprints = (FootprintSample(0.5, 100), FootprintSample(1.0, 300))
    seen = observed(*passing_events(), footprint_peak_bytes=400, footprints=footprints)
    trial = Trial(1, model(), spec())
    return Ended(trial, classify(seen, 5), "2026-01-02T03:04:05Z", seen, "logs/01-tiny.log")


def test_a_pass_has_all_its_figures() -> None:
    entry = to_json(record_of_pass())
    assert entry["success"] is True
    assert (entry["outcome"], entry["certainty"], entry["error"]) == ("pass", "certain", None)
    assert (entry["peak_memory_gb"], entry["peak_memory_bytes"]) == (7.0, 7 * 2**30)
    assert (entry["needed_memory_gb"], entry["needed_memory_bytes"]) == (6.0, 6 * 2**30)
    assert entry["memory_limit_bytes"] == 8 * 2**30
    assert entry["tokens_per_second"] == 2046.0  # 1 s a step in the relaxed phase
    assert entry["tokens_per_second_at_needed_memory"] == 1023.0  # 2 s, the first one left out
    assert (entry["footprint_peak_bytes"], entry["log"]) == (400, "logs/01-tiny.log")
    assert entry["footprint_timeline"] == [[0.5, 100], [1.0, 300]]
    assert entry["memory_timeline"] == [[1.5, 4 * 2**30, 0]]
    assert entry["load"] == {
        "seconds": 1.0,
        "resident_bytes": 4 * 2**30,
        "peak_bytes": 4 * 2**30 + 1000,
        "parameters": 7_000_000_000,
        "trainable_parameters": 50_000_000,
    }
    assert [(s["phase"], s["index"]) for s in entry["steps"]] == [
        *(("tight", i) for i in (1, 2, 3)),
        *(("relaxed", i) for i in (1, 2, 3, 4, 5)),
    ]
    assert entry["device"] == {
        "backend": "cpu",
        "device_name": "AMD EPYC",
        "architecture": "x86_64",
    }
    assert entry["versions"] == {"mlx": "0.32.4"}


def test_the_configuration_is_what_was_run() -> None:
    assert to_json(record_of_pass())["config"] == {
        "weights": "synthetic",
        "quantization_bits": 4,
        "batch_size": 2,
        "lora_rank": 64,
        "lora_layers": 2,
        "seq_length": 1024,
        "steps": 5,
        "grad_checkpoint": True,
        "budget_bytes": 8 * 2**30,
        "seed": 0,
    }


STORED_8 = {**CONFIG, "quantization": {"bits": 8, "group_size": 64}}


@pytest.mark.parametrize(
    ("stored", "trained", "quantization", "bits"),
    [
        (CONFIG, CONFIG, Quantization(4), 4),
        (CONFIG, CONFIG, None, None),
        (STORED_8, STORED_8, None, 8),
        (STORED_8, CONFIG, Quantization(4), 4),
        (STORED_8, CONFIG, None, None),
    ],
    ids=["quantized", "as-it-is", "as-stored", "otherwise-than-stored", "unquantized"],
)
def test_the_bits_are_those_that_were_trained(
    stored: dict[str, object],
    trained: dict[str, object],
    quantization: Quantization | None,
    bits: int | None,
) -> None:
    changed = spec(model=ModelSource(trained), quantization=quantization)
    record = replace(record_of_pass(), trial=Trial(1, model(config=stored), changed))
    assert to_json(record)["config"]["quantization_bits"] == bits


def test_a_failure_keeps_what_was_measured_until_then() -> None:
    loaded = Loaded(1.5, 0.5, 1000, 2000, 10, 1)
    seen = observed(*began(Phase.TIGHT, 2.0), loaded, returncode=-signal.SIGKILL, oom_kills=1)
    trial = Trial(1, model(), spec())
    entry = to_json(Ended(trial, classify(seen, 5), "2026-01-02T03:04:05Z", seen, "x.log"))
    assert (entry["success"], entry["outcome"]) == (False, "oom")
    assert entry["error"] == "the kernel killed the worker for memory"
    assert "OOM counter rose by 1" in entry["evidence"]
    assert entry["peak_memory_gb"] is entry["needed_memory_bytes"] is None
    assert (entry["load"]["resident_bytes"], entry["exit_status"]) == (1000, -9)
    assert entry["tokens_per_second"] is None


def test_a_skipped_trial_has_its_reason_and_no_figures() -> None:
    skipped = Outcome(OutcomeKind.SKIPPED, "larger than mid, which ran out of memory")
    entry = to_json(Ended(Trial(1, model(), spec()), skipped, "2026-01-02T03:04:05Z"))
    assert (entry["success"], entry["outcome"]) == (False, "skipped")
    assert entry["error"] == "larger than mid, which ran out of memory"
    assert "steps" not in entry
    assert entry["log"] is None


def test_hours_of_samples_stay_small() -> None:
    samples = [Memory(float(i), i % 977, 0) for i in range(20_000)]
    seen = observed(*passing_events()[:-1], *samples, passing_events()[-1])
    timeline = to_json(replace(record_of_pass(), seen=seen))["memory_timeline"]
    assert len(timeline) <= TIMELINE_POINTS
    assert max(size for _, size, _ in timeline) == 4 * 2**30
    assert not any(math.isnan(at) for at, *_ in timeline)


def test_an_oom_proves_a_model_too_large_only_before_mlx_ran_ahead() -> None:
    text = "cudaMallocAsync(&data, size, stream) failed: out of memory"
    ahead = [event for event in passing_events() if not isinstance(event, Passed)]
    for events, phase, too_large in (
        (began(Phase.TIGHT, 2.0), Phase.TIGHT, True),
        (ahead, Phase.RELAXED, False),
    ):
        seen = observed(*events, Failed(9.0, phase, "RuntimeError", text), returncode=1)
        ended = Ended(Trial(1, model(), spec()), classify(seen, 5), "", seen)
        record = kept(ended)
        assert record.outcome.kind is OutcomeKind.OOM
        assert record.proves_too_large is too_large
        assert (to_json(ended)["needed_memory_bytes"] is None) is too_large


def test_only_an_oom_proves_a_model_too_large() -> None:
    assert not kept(record_of_pass()).proves_too_large
    seen = observed(Failed(9.0, Phase.LOAD, "ValueError", "Missing 4 parameters"), returncode=1)
    ended = Ended(Trial(1, model(), spec()), classify(seen, 5), "", seen)
    record = kept(ended)
    assert not record.proves_too_large
