"""Compute the progress of a training from the records in its journal: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from worker.protocol.messages import Loaded, Saved, Step, Trained, Validated
from worker.protocol.requests import TrainingRequest
from your_ai.runs.journal import STARTED, Record
from your_ai.runs.training_results import (
    FailedAttempt,
    LoadedModel,
    Measured,
    Setting,
    TrainingResults,
)
from your_ai.runs.trial_result import TrialConfig
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.training.job import Training


@dataclass(frozen=True, slots=True)
class Report:
    """Mean loss and peak memory of the last ``iterations`` up to ``iteration``.

    ``timed`` of these took ``seconds`` for ``tokens``; in the others, kernels were compiled.
    """

    iteration: int
    iterations: int
    loss: float
    tokens: int
    seconds: float
    timed: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt; ``following`` is the setting for a restart, ``None`` without one."""

    attempt: FailedAttempt
    following: Setting | None


TrainingRecord = Setting | Report | Failure | Loaded | Validated | Saved | Trained
"""The records in the journal: a `Setting` when an attempt starts, and what workers report."""

TYPES: dict[str, type[TrainingRecord]] = {
    STARTED: Setting,
    "reported": Report,
    "failed": Failure,
    "loaded": Loaded,
    "validated": Validated,
    "saved": Saved,
    "trained": Trained,
}
"""The types of records by their kind in the journal."""


@dataclass(slots=True)
class Progress:
    """The progress so far, updated in place: trainings of days have 100,000 reports.

    ``setting`` is the current one, ``saved`` the iteration of the last checkpoint.
    """

    setting: Setting
    saved: int = 0
    attempts: int = 0
    reports: list[Report] = field(default_factory=list)
    validations: list[Validated] = field(default_factory=list)
    failures: list[FailedAttempt] = field(default_factory=list)
    loaded: Loaded | None = None
    trained: Trained | None = None

    @property
    def iterations(self) -> int:
        """The last reported iteration."""
        return self.reports[-1].iteration if self.reports else 0

    @property
    def measured(self) -> Measured:
        """The time and memory that the training has taken so far."""
        timed = sum(report.timed for report in self.reports)
        seconds = sum(report.seconds for report in self.reports)
        tokens = sum(report.tokens for report in self.reports)
        return Measured(
            peak_bytes=max((report.peak_bytes for report in self.reports), default=None),
            seconds_per_iteration=seconds / timed if timed else None,
            seconds=seconds,
            tokens_per_second=tokens / seconds if seconds else None,
        )

    def add(self, record: TrainingRecord) -> None:
        """Add a record; repeated iterations replace the earlier ones."""
        match record:
            case Setting():
                self.setting, self.attempts = record, self.attempts + 1
            case Loaded():
                self.loaded = record
            case Report():
                start = record.iteration - record.iterations
                while self.reports and self.reports[-1].iteration > start:
                    self.reports.pop()
                self.reports.append(record)
            case Validated():
                while self.validations and self.validations[-1].iteration >= record.iteration:
                    self.validations.pop()
                self.validations.append(record)
            case Saved():
                self.saved = record.iteration
            case Failure():
                self.setting = record.following or self.setting
                self.failures.append(record.attempt)
            case Trained():
                self.trained = record


def progress_of(training: Training, records: Iterable[Record]) -> Progress:
    """Return the progress after all records of a journal."""
    progress = Progress(training.first_setting)
    for record in records:
        if record.kind in TYPES:
            progress.add(msgspec.convert(record.fields, TYPES[record.kind]))
    return progress


def report_on(steps: Sequence[Step]) -> Report:
    """Return the report on consecutive iterations."""
    timed = [step for step in steps if step.is_timed]
    return Report(
        iteration=steps[-1].index,
        iterations=len(steps),
        loss=sum(step.loss for step in steps) / len(steps),
        tokens=sum(step.tokens for step in timed),
        seconds=sum(step.seconds for step in timed),
        timed=len(timed),
        peak_bytes=max(step.peak_bytes for step in steps),
    )


def results_of(training: Training, progress: Progress, outcome: Outcome) -> TrainingResults:
    """Return the content of `training.json`."""
    request, loaded, trained = training.request, progress.loaded, progress.trained
    batch_size = request.configuration.batch_size
    return TrainingResults(
        outcome=outcome.kind,
        error=None if outcome.kind is OutcomeKind.PASS else outcome.reason,
        preset=training.preset,
        model_name=training.model_name,
        config=TrialConfig.of(request, request.iters),
        load=LoadedModel(loaded.parameters, loaded.resident_bytes) if loaded else None,
        longest_tokens=trained.longest_tokens if trained else 0,
        iterations=progress.iterations,
        samples=trained.samples if trained else progress.iterations * batch_size,
        adapter_path=request.adapter_path,
        expected=training.expected,
        measured=progress.measured,
        losses=tuple((each.iteration, each.loss) for each in progress.reports),
        validation=tuple((each.iteration, each.loss) for each in progress.validations),
        setting=progress.setting,
        failures=tuple(progress.failures),
        training=_options(request),
        your_ai_version=training.version,
        started_at=training.started_at,
        machine=training.machine,
        device=training.device,
        run_dir=training.run_dir,
    )


def _options(request: TrainingRequest) -> dict[str, Any]:
    """Return the request as a flat dict, without fields that are large or stored elsewhere."""
    fields = {**asdict(request), **asdict(request.configuration), "model": request.model.path}
    fields["max_seq_length"] = fields.pop("seq_length")
    left_out = ("configuration", "adapter_config")
    kept = {name: value for name, value in fields.items() if name not in left_out}
    return {n: [*value] if isinstance(value, tuple) else value for n, value in kept.items()}
