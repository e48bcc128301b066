"""The result of a trial: all measurements, and small timelines."""

from __future__ import annotations

import signal
from dataclasses import asdict, replace

from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import began, observed, passing_events, result, trial
from worker.protocol.messages import Failed, Loaded, Memory, Passed, Phase, Step
from your_ai.runs.trial_record import TIMELINE_POINTS, thin_out
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.observation import FootprintSample
from your_ai.supervision.outcome import Outcome, OutcomeKind

SAMPLE: st.SearchStrategy[tuple[float, int]] = st.tuples(st.floats(0, 1e6), st.integers(0, 2**40))
SAMPLES = st.lists(SAMPLE, max_size=200)


@given(SAMPLES, st.integers(1, 50))
def test_a_thinned_timeline_is_bounded(samples: list[tuple[float, int]], most: int) -> None:
    assert len(thin_out(samples, most)) <= most


@given(SAMPLES, st.integers(1, 50))
def test_a_thinned_timeline_keeps_the_maximum(samples: list[tuple[float, int]], most: int) -> None:
    peaks = [
        max((size for _, size in line), default=None) for line in (samples, thin_out(samples, most))
    ]
    assert peaks[0] == peaks[1]


@given(SAMPLES, st.integers(1, 50))
def test_a_thinned_timeline_is_a_subsequence(samples: list[tuple[float, int]], most: int) -> None:
    remaining = iter(samples)
    assert all(any(kept is sample for sample in remaining) for kept in thin_out(samples, most))


@given(SAMPLES)
def test_a_short_timeline_is_unchanged(samples: list[tuple[float, int]]) -> None:
    assert thin_out(samples, max(1, len(samples))) == tuple(samples)


def passed() -> TrialResult:
    footprints = (FootprintSample(0.5, 100), FootprintSample(1.0, 300))
    seen = observed(*passing_events(), footprint_peak_bytes=400, footprints=footprints)
    return result(seen=seen)


def test_a_pass_has_all_measurements() -> None:
    found = passed()
    assert found.success is True
    assert (found.outcome, found.certainty, found.error) == ("pass", "certain", None)
    assert (found.peak_memory_gb, found.peak_memory_bytes) == (7.0, 7 * 2**30)
    assert (found.needed_memory_gb, found.needed_memory_bytes) == (6.0, 6 * 2**30)
    assert found.memory_limit_bytes == 8 * 2**30
    assert found.tokens_per_second == 2046.0  # 1 s per step in the relaxed phase
    assert found.tokens_per_second_at_needed_memory == 1023.0  # 2 s per step, without the first
    assert (found.footprint_peak_bytes, found.log) == (400, "x.log")
    assert found.footprint_timeline == ((0.5, 100), (1.0, 300))
    assert found.memory_timeline == ((1.5, 4 * 2**30, 0),)
    resident = 4 * 2**30
    assert found.load == Loaded(2.0, 1.0, resident, resident + 1000, 7_000_000_000, 50_000_000)

    assert [(step.phase, step.index) for step in found.steps] == [
        *(("tight", i) for i in (1, 2, 3)),
        *(("relaxed", i) for i in (1, 2, 3, 4, 5)),
    ]
    device = {"backend": "cpu", "device_name": "AMD EPYC", "architecture": "x86_64"}
    assert (found.device, found.versions) == (device, {"mlx": "0.32.4"})


def test_compiling_kernels_is_not_part_of_the_speed() -> None:
    events = list(passing_events())
    number = next(n for n, e in enumerate(events) if getattr(e, "phase", None) is Phase.RELAXED) + 1
    first = events[number]
    assert isinstance(first, Step)
    events[number] = replace(first, seconds=300.0, compile_seconds=299.0)
    assert result(seen=observed(*events)).tokens_per_second == 2046.0


def test_the_configuration_is_recorded() -> None:
    assert asdict(passed().config) == {
        "weights": "synthetic",
        "quantization_bits": 4,
        "batch_size": 2,
        "lora_rank": 64,
        "lora_layers": 2,
        "seq_length": 1024,
        "steps": 5,
        "grad_checkpoint": True,
        "fine_tune_type": "lora",
        "lora_keys": ("all",),
        "lora_dropout": 0.0,
        "optimizer": "adam",
        "optimizer_config": (),
        "grad_accumulation_steps": 1,
        "quantization_mode": "affine",
        "group_size": 64,
        "budget_bytes": 8 * 2**30,
        "seed": 0,
    }
    assert passed().config.configuration == trial().configuration


def test_a_failure_keeps_earlier_measurements() -> None:
    loaded = Loaded(1.5, 0.5, 1000, 2000, 10, 1)
    seen = observed(*began(Phase.TIGHT, 2.0), loaded, returncode=-signal.SIGKILL, oom_kills=1)
    found = result(seen=seen)
    assert (found.success, found.outcome) == (False, "oom")
    assert found.error == "the kernel killed the worker because memory ran out"
    assert "OOM counter rose by 1" in found.evidence
    assert found.peak_memory_gb is found.needed_memory_bytes is None
    assert (found.load, found.exit_status) == (loaded, -9)
    assert found.tokens_per_second is None


def test_a_skipped_trial_has_a_reason_and_no_measurements() -> None:
    skipped = Outcome(OutcomeKind.SKIPPED, "larger than mid, which ran out of memory")
    found = result(outcome=skipped)
    assert (found.success, found.outcome) == (False, "skipped")
    assert found.error == "larger than mid, which ran out of memory"
    assert (found.steps, found.log, found.exit_status) == ((), None, None)


def test_timelines_of_long_trials_are_small() -> None:
    samples = [Memory(float(i), i % 977, 0) for i in range(20_000)]
    timeline = result(
        seen=observed(*passing_events()[:-1], *samples, passing_events()[-1])
    ).memory_timeline
    assert len(timeline) <= TIMELINE_POINTS
    assert max(size for _, size, _ in timeline) == 4 * 2**30


def test_an_oom_proves_a_model_too_large_only_before_mlx_ran_ahead() -> None:
    text = "cudaMallocAsync(&data, size, stream) failed: out of memory"
    ahead = [event for event in passing_events() if not isinstance(event, Passed)]
    for events, phase, too_large in (
        (began(Phase.TIGHT, 2.0), Phase.TIGHT, True),
        (ahead, Phase.RELAXED, False),
    ):
        failed = Failed(9.0, phase, "RuntimeError", text)
        found = result(seen=observed(*events, failed, returncode=1))
        assert found.outcome is OutcomeKind.OOM
        assert found.proves_too_large is too_large
        assert (found.needed_memory_bytes is None) is too_large


def test_only_an_oom_proves_a_model_too_large() -> None:
    assert not passed().proves_too_large
    missing = Failed(9.0, Phase.LOAD, "ValueError", "Missing 4 parameters")
    assert not result(seen=observed(missing, returncode=1)).proves_too_large
