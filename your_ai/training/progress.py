"""Compute the progress of a training from the records in its journal: pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

import msgspec

from worker.protocol.messages import Loaded, Saved, Step, Trained, TrainingRequest, Validated
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
    """Mean loss, tokens, seconds and peak memory of the last ``iterations`` up to ``iteration``."""

    iteration: int
    iterations: int
    loss: float
    tokens: int
    seconds: float
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

T = TypeVar("T", Report, Validated)


class Series(Generic[T]):
    """What was measured at increasing iterations; immutable, but cheap to add to.

    Series that grew out of one another share a list, of which each has the first ``length`` items:
    in a long training, a copy for each report would take minutes.
    """

    def __init__(self, shared: list[T] | None = None, length: int = 0) -> None:
        self._shared: list[T] = [] if shared is None else shared
        self._length = length

    def after(self, item: T, start: int) -> Series[T]:
        """Return this series up to iteration ``start``, followed by ``item``."""
        length = self._length
        while length and self._shared[length - 1].iteration > start:
            length -= 1
        # What follows in the list belongs to another series.
        shared = self._shared if length == len(self._shared) else self._shared[:length]
        shared.append(item)
        return Series(shared, length + 1)

    @property
    def last(self) -> T | None:
        """The last item."""
        return self._shared[self._length - 1] if self._length else None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return itertools.islice(self._shared, self._length)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Series) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress so far; ``setting`` is the current one, ``saved`` the last checkpoint."""

    setting: Setting
    saved: int = 0
    attempts: int = 0
    reports: Series[Report] = field(default_factory=Series)
    validations: Series[Validated] = field(default_factory=Series)
    failures: tuple[FailedAttempt, ...] = ()
    loaded: Loaded | None = None
    trained: Trained | None = None

    @property
    def iterations(self) -> int:
        """The last reported iteration."""
        last = self.reports.last
        return last.iteration if last else 0

    @property
    def measured(self) -> Measured:
        """The time and memory that the training has taken so far."""
        iterations = sum(report.iterations for report in self.reports)
        seconds = sum(report.seconds for report in self.reports)
        tokens = sum(report.tokens for report in self.reports)
        return Measured(
            peak_bytes=max((report.peak_bytes for report in self.reports), default=None),
            seconds_per_iteration=seconds / iterations if iterations else None,
            seconds=seconds,
            tokens_per_second=tokens / seconds if seconds else None,
        )

    def after(self, record: TrainingRecord) -> Progress:
        """Return the progress updated by a record; repeated iterations are counted once."""
        match record:
            case Setting():
                return replace(self, setting=record, attempts=self.attempts + 1)
            case Loaded():
                return replace(self, loaded=record)
            case Report():
                start = record.iteration - record.iterations
                return replace(self, reports=self.reports.after(record, start))
            case Validated():
                validations = self.validations.after(record, record.iteration - 1)
                return replace(self, validations=validations)
            case Saved():
                return replace(self, saved=record.iteration)
            case Failure():
                failures = (*self.failures, record.attempt)
                return replace(self, setting=record.following or self.setting, failures=failures)
            case Trained():
                return replace(self, trained=record)


def progress_of(training: Training, records: Iterable[Record]) -> Progress:
    """Return the progress after all records of a journal."""
    progress = Progress(training.first_setting)
    for record in records:
        if record.kind in TYPES:
            progress = progress.after(msgspec.convert(record.fields, TYPES[record.kind]))
    return progress


def report_on(steps: Sequence[Step]) -> Report:
    """Return the report on consecutive iterations."""
    return Report(
        iteration=steps[-1].index,
        iterations=len(steps),
        loss=sum(step.loss for step in steps) / len(steps),
        tokens=sum(step.tokens for step in steps),
        seconds=sum(step.seconds for step in steps),
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
        failures=progress.failures,
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
    return {k: v for k, v in fields.items() if k not in ("configuration", "adapter_config")}
