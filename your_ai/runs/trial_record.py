"""Build a trial's result from the observation of its worker: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from worker.protocol.configuration import Weights
from worker.protocol.messages import Device, Loaded, Memory, Passed, Step, Timed
from your_ai.planning.plan import Trial
from your_ai.runs.expected_training import ExpectedTraining, expected_training
from your_ai.runs.suggestions import smaller, suggestion
from your_ai.runs.trial_result import TrialConfig, TrialResult
from your_ai.supervision.classify import weights_over_budget
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import Certainty, Outcome, OutcomeKind
from your_ai.supervision.trial_log import excerpt
from your_ai.system.footprint import FOOTPRINT_SOURCE
from your_ai.units import now, to_gb

TIMELINE_POINTS = 120
"""Maximum samples per timeline: enough for a chart, and about 10 kB per trial."""

S = TypeVar("S", bound=tuple[Any, ...])


def result_without_worker(trial: Trial, outcome: Outcome, started_at: str) -> TrialResult:
    """Return the result of a trial for which no worker ran."""
    request, model = trial.request, trial.model
    passed = outcome.kind is OutcomeKind.PASS
    return TrialResult(
        index=trial.index,
        preset=model.name,
        model_name=model.model_name,
        params=model.params,
        success=passed,
        error=None if passed else outcome.reason,
        outcome=outcome.kind,
        certainty=outcome.certainty,
        evidence=outcome.evidence,
        started_at=started_at,
        ended_at=now(),
        config=TrialConfig.of(request, request.steps),
        revision=model.revision,
        weights_bytes=trial.weights_bytes or None,
        data_lengths=trial.data.lengths_at(request.configuration.seq_length)
        if trial.data
        else None,
    )


def result_of_too_large(trial: Trial, backend: str) -> TrialResult:
    """Return the result of a trial whose weights alone exceed the budget; no worker ran."""
    outcome = weights_over_budget(trial.weights_bytes)
    if trial.configuration.weights is Weights.REAL:
        # The files on the Hub may have another type than the config says.
        outcome = replace(outcome, certainty=Certainty.HIGH)
    result = result_without_worker(trial, outcome, now())
    return replace(result, advice=smaller(trial, backend))


def result_of(
    trial: Trial, outcome: Outcome, started_at: str, observation: Observation, log: str
) -> TrialResult:
    """Return the result of a trial whose worker has ended."""
    result = result_without_worker(trial, outcome, started_at)
    final = observation.final
    passed = final if result.success and isinstance(final, Passed) else None
    needed = passed.needed_bytes if passed else observation.needed_bytes
    if passed is None:
        found: dict[str, Any] = {
            "log_excerpt": tuple(excerpt(observation.log_tail)),
            "advice": suggestion(trial, outcome, observation),
        }
    else:
        found = {
            "peak_memory_gb": to_gb(passed.peak_bytes),
            "peak_memory_bytes": passed.peak_bytes,
            "needed_memory_limit_bytes": passed.needed_limit_bytes,
            "memory_limit_bytes": passed.limit_bytes,
            "tokens_per_second": _speed(observation.counted_steps),
            "expected_training": _expected(trial, observation),
        }
    return replace(
        result,
        needed_memory_bytes=needed,
        needed_memory_gb=None if needed is None else to_gb(needed),
        log=log,
        **found,
        **_observed(observation),
    )


def _expected(trial: Trial, observation: Observation) -> ExpectedTraining | None:
    if trial.data is None:
        return None
    relaxed, tight = observation.counted_steps, observation.tight_steps
    timed = observation.all_of(Timed)
    return expected_training(trial.data, trial.configuration.batch_size, relaxed, tight, timed)


def _observed(observation: Observation) -> dict[str, Any]:
    device = observation.device
    return {
        "wall_seconds": observation.wall_seconds,
        "exit_status": observation.returncode,
        "tokens_per_second_at_needed_memory": _speed(observation.tight_steps),
        "footprint_peak_bytes": observation.footprint_peak_bytes,
        "footprint_source": FOOTPRINT_SOURCE,
        "memory_pressure": observation.pressure,
        "log_discarded_bytes": observation.log_discarded_bytes,
        "load": observation.first_of(Loaded),
        "steps": tuple(observation.steps),
        "timed": tuple(observation.all_of(Timed)),
        "phases": tuple(observation.phases),
        "memory_timeline": thin_out(
            [(m.at, m.active_bytes, m.cache_bytes) for m in observation.all_of(Memory)]
        ),
        "footprint_timeline": thin_out(
            [(f.at - observation.start_seconds, f.footprint_bytes) for f in observation.footprints]
        ),
        "device": _published(device) if device else None,
        "versions": device.versions if device else None,
    }


def _published(device: Device) -> dict[str, Any]:
    """Return what MLX says of a device, but not the UUID, which identifies the owner's machine."""
    facts = {name: value for name, value in device.info.items() if name != "uuid"}
    return {"backend": device.backend, **facts}


def thin_out(samples: Sequence[S], most: int = TIMELINE_POINTS) -> tuple[S, ...]:
    """Return at most ``most`` of the (time, size, …) samples: the largest of each interval.

    So a long timeline becomes small but keeps its peaks.
    """
    interval = -(-len(samples) // most)
    return tuple(
        max(samples[start : start + interval], key=lambda sample: sample[1])
        for start in range(0, len(samples), interval or 1)
    )


def _speed(steps: list[Step]) -> float | None:
    timed = [step for step in steps if step.is_timed] or steps
    seconds = sum(step.seconds for step in timed)
    return sum(step.tokens for step in timed) / seconds if seconds else None
