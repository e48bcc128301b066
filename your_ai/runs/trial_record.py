"""How a trial ended: all of it as it is journaled, and the little that a run has to remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from worker.protocol.messages import Loaded, Passed, Step
from your_ai.planning.plan import Trial
from your_ai.runs.suggestions import advice
from your_ai.search.search import Tried
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import Certainty, Outcome, OutcomeKind
from your_ai.supervision.trial_log import excerpt
from your_ai.system.footprint import FOOTPRINT_SOURCE
from your_ai.units import to_gb

TIMELINE_POINTS = 600


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial that has just ended, or was skipped: then nothing was seen and there is no log."""

    trial: Trial
    outcome: Outcome
    started_at: str
    seen: Observation | None = None
    log_path: str | None = None

    @property
    def passed(self) -> Passed | None:
        """The figures of a pass."""
        if self.outcome.kind is not OutcomeKind.PASS or self.seen is None:
            return None
        final = self.seen.final
        return final if isinstance(final, Passed) else None

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped the run here, even if this trial had just said its last word."""
        stopped = self.seen is not None and self.seen.killed is Kill.INTERRUPT
        return stopped or self.outcome.kind is OutcomeKind.INTERRUPTED

    @property
    def tokens_per_second(self) -> float | None:
        """The counted steps' speed, under the budget."""
        return _speed(self.seen.counted_steps) if self.passed and self.seen else None

    @property
    def needed_bytes(self) -> int | None:
        """The needed memory: of a pass, or of a trial that ended later than the tight phase."""
        if self.passed:
            return self.passed.needed_bytes
        return self.seen.needed_bytes if self.seen else None


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """What a run remembers of a trial that has ended; the rest is in its journal, at ``place``.

    ``is_done`` says that it has an outcome of its own, which is not to be had again.
    ``interrupted`` that the user stopped the run here. ``log_excerpt`` are the lines of the log
    that matter where it did not pass, ``advice`` is what to try then.
    """

    trial: Trial
    outcome: Outcome
    needed_bytes: int | None
    peak_bytes: int | None
    tokens_per_second: float | None
    log_path: str | None
    log_excerpt: tuple[str, ...]
    advice: str | None
    is_done: bool
    place: tuple[int, int]
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        """Whether every step ran inside the budget."""
        return self.outcome.kind is OutcomeKind.PASS

    @property
    def proves_too_large(self) -> bool:
        """Whether it ran out of memory at its least need; one that only ran ahead did fit."""
        return self.outcome.kind is OutcomeKind.OOM and self.needed_bytes is None

    @property
    def tried(self) -> Tried:
        """What a search is told of it."""
        too_large = self.proves_too_large or self.outcome.kind is OutcomeKind.OVER_BUDGET
        return Tried(
            self.trial.configuration,
            fits=self.passed,
            needed_bytes=self.needed_bytes,
            tokens_per_second=self.tokens_per_second,
            too_large=too_large,
        )


ReadEntry = Callable[[TrialRecord], dict[str, Any]]
"""Fetches the whole entry of a trial that a record only remembers."""


def recall(trial: Trial, entry: Mapping[str, Any], place: tuple[int, int]) -> TrialRecord:
    """The record of a trial from the entry that `to_json` made of its end, and its place."""
    outcome = Outcome(
        OutcomeKind(entry["outcome"]),
        entry["error"] or "",
        Certainty(entry["certainty"]),
        entry["evidence"],
    )
    return TrialRecord(
        trial,
        outcome,
        needed_bytes=entry["needed_memory_bytes"],
        peak_bytes=entry["peak_memory_bytes"],
        tokens_per_second=entry["tokens_per_second"],
        log_path=entry["log"],
        log_excerpt=tuple(entry["log_excerpt"]),
        advice=entry["advice"],
        is_done=is_done(entry),
        place=place,
        interrupted=outcome.kind is OutcomeKind.INTERRUPTED,
    )


def is_done(entry: Mapping[str, Any]) -> bool:
    """Whether an entry's trial has an outcome of its own.

    One that was stopped, or skipped, or whose weights could not be had, has none yet.
    """
    if entry["outcome"] in (OutcomeKind.INTERRUPTED, OutcomeKind.SKIPPED):
        return False
    return "exit_status" in entry or entry["outcome"] != OutcomeKind.ERROR


def to_json(record: Ended) -> dict[str, Any]:
    """One entry of the results' list: the seed keys first, sizes exact beside GB."""
    trial, outcome, passed = record.trial, record.outcome, record.passed
    return {
        "preset": trial.model.name,
        "model_name": trial.model.model_name,
        "params": trial.model.params,
        "success": passed is not None,
        "peak_memory_gb": passed and to_gb(passed.peak_bytes),
        "error": None if passed else outcome.reason,
        "optimal_config": None,
        "outcome": outcome.kind,
        "certainty": outcome.certainty,
        "evidence": outcome.evidence,
        "started_at": record.started_at,
        "config": _config(trial),
        "peak_memory_bytes": passed and passed.peak_bytes,
        "needed_memory_gb": record.needed_bytes and to_gb(record.needed_bytes),
        "needed_memory_bytes": record.needed_bytes,
        "needed_memory_limit_bytes": passed and passed.needed_limit_bytes,
        "memory_limit_bytes": passed and passed.limit_bytes,
        "tokens_per_second": record.tokens_per_second,
        "log": record.log_path,
        **_help(record),
        "revision": trial.model.revision,
        **(_measured(record.seen) if record.seen else {}),
    }


def _help(record: Ended) -> dict[str, Any]:
    seen = record.seen
    if seen is None or record.passed:
        return {"log_excerpt": [], "advice": None}
    return {
        "log_excerpt": excerpt(seen.log_tail),
        "advice": advice(record.trial, record.outcome, seen),
    }


def training_config(trial: Trial) -> dict[str, Any]:
    """What needed memory depends on, as the results write it."""
    spec = trial.spec
    return {
        "weights": spec.weights,
        "quantization_bits": trial.bits,
        "batch_size": spec.batch_size,
        "lora_rank": spec.lora_rank,
        "lora_layers": spec.lora_layers,
        "seq_length": spec.seq_length,
        "grad_checkpoint": spec.grad_checkpoint,
    }


def _config(trial: Trial) -> dict[str, Any]:
    spec = trial.spec
    rest = {"steps": spec.steps, "budget_bytes": spec.budget_bytes, "seed": spec.seed}
    return training_config(trial) | rest


def _measured(seen: Observation) -> dict[str, Any]:
    loaded = seen.loaded
    device = seen.device
    return {
        "wall_seconds": seen.wall_seconds,
        "exit_status": seen.returncode,
        "tokens_per_second_at_needed_memory": _speed(seen.tight_steps),
        "footprint_peak_bytes": seen.footprint_peak_bytes,
        "footprint_source": FOOTPRINT_SOURCE,
        "memory_pressure": seen.pressure,
        "log_discarded_bytes": seen.log_discarded_bytes,
        "load": _load(loaded) if loaded else None,
        "steps": [asdict(step) for step in seen.steps],
        "phases": [asdict(phase) for phase in seen.phases],
        "memory_timeline": thin_out(
            [[m.at, m.active_bytes, m.cache_bytes] for m in seen.memory], TIMELINE_POINTS
        ),
        "footprint_timeline": thin_out(
            [[f.at - seen.start_seconds, f.footprint_bytes] for f in seen.footprints],
            TIMELINE_POINTS,
        ),
        "device": {"backend": device.backend, **device.info} if device else None,
        "versions": device.versions if device else None,
    }


def _load(loaded: Loaded) -> dict[str, Any]:
    fields = asdict(loaded)
    del fields["at"]
    return fields


def _speed(steps: list[Step]) -> float | None:
    seconds = sum(step.seconds for step in steps)
    return sum(step.tokens for step in steps) / seconds if seconds else None


def thin_out(samples: list[list[float]], most: int) -> list[list[float]]:
    """At most ``most`` samples of ``[time, size, …]``, each the one of largest size in its stretch.

    So that a timeline of hours stays small and keeps its peaks.
    """
    stretch = -(-len(samples) // most)
    return [
        max(samples[start : start + stretch], key=lambda sample: sample[1])
        for start in range(0, len(samples), stretch or 1)
    ]
