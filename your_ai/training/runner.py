"""Run a training: start a worker, record its events, restart with less memory on failure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

from worker.protocol.codec import encode
from worker.protocol.messages import Event, Loaded, Memory, Resumed, Saved, Step, Trained, Validated
from your_ai.runs.journal import Journal
from your_ai.runs.run_dir import log_path
from your_ai.runs.training_results import FailedAttempt
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.supervision.supervisor import Limits
from your_ai.system.signals import interrupts
from your_ai.training.job import LESS_MEMORY_MAY_HELP, Training, setting_after_failure
from your_ai.training.progress import TYPES, Failure, Progress, Report, TrainingRecord, report_on

GRACE_SECONDS = 60.0
"""Time that a worker gets to finish its iteration and save a checkpoint when asked to end."""


class Listener(Protocol):
    """Shows a training. Calls may come from another thread, but never two at once."""

    def attempt(self, progress: Progress) -> None:
        """Called when a worker is about to start."""

    def on_event(self, event: Event, progress: Progress) -> None:
        """Called with each event of the worker and the progress before that event."""

    def reported(self, report: Report) -> None:
        """Called when a report on finished iterations was recorded."""

    def restarting(self, failure: Failure, progress: Progress) -> None:
        """Called when an attempt failed and another is about to start."""


_KINDS = {record_type: kind for kind, record_type in TYPES.items()}


@dataclass(slots=True)
class TrainingRunner:
    """Runs workers until the training has finished or no restart can help."""

    training: Training
    journal: Journal
    progress: Progress
    listener: Listener
    run_worker: Callable[..., tuple[Observation, Outcome]]
    _steps: list[Step] = field(default_factory=list, init=False)

    def run(self) -> Outcome:
        """Run the training, and return the outcome of the last attempt.

        Raises:
            MachineError: if the journal cannot be written, the machine is short of memory, or a
                worker cannot be started or killed.
        """
        restarts = 0
        while True:
            saved = self.progress.saved
            outcome = self._attempt()
            if outcome.kind not in LESS_MEMORY_MAY_HELP:
                return outcome
            failure = self._record_failure(outcome, progressed=self.progress.saved > saved)
            if interrupts.requested:
                return Outcome(OutcomeKind.INTERRUPTED, "interrupted", evidence=outcome.evidence)
            if failure.following is None or restarts == self.training.restarts:
                return outcome
            restarts += 1
            self.listener.restarting(failure, self.progress)

    def _attempt(self) -> Outcome:
        setting = self.progress.setting
        request = self.training.request_with(setting, resume=self.progress.attempts > 0)
        self.listener.attempt(self.progress)
        self.progress = self.progress.after(setting)
        self._steps = []
        log = log_path(self.training.run_dir, f"attempt-{self.progress.attempts}.log")
        _, outcome = self.run_worker(
            encode(request),
            started=asdict(setting),
            log=log,
            limits=Limits(deadline=math.inf, grace=GRACE_SECONDS, delivery=math.inf),
            steps=request.iters,
            on_event=self._on_event,
            # The outcome does not depend on these, and in days of training they become many.
            keeps=lambda event: not isinstance(event, Step | Memory),
        )
        return outcome

    def _record_failure(self, outcome: Outcome, *, progressed: bool) -> Failure:
        setting = self.progress.setting
        attempt = FailedAttempt(
            setting.micro_batches,
            setting.limit_bytes,
            outcome.kind,
            outcome.reason,
            outcome.evidence,
        )
        following = setting_after_failure(self.training, setting, progressed=progressed)
        failure = Failure(attempt, following)
        self._record(failure)
        return failure

    def _on_event(self, event: Event) -> None:
        before = self.progress
        match event:
            case Step():
                self._steps.append(event)
                is_due = event.index % self.training.steps_per_report == 0
                if is_due or event.index == self.training.request.iters:
                    self._report()
            case Resumed() if event.iteration != self.progress.saved:
                self._record(Saved(event.at, event.iteration))
            case Saved():
                self._report()  # a resumed training continues after these steps
                self._record(event)
            case Loaded() | Validated() | Trained():
                self._record(event)
        self.listener.on_event(event, before)  # last, because a terminal may block

    def _report(self) -> None:
        if self._steps:
            report, self._steps = report_on(self._steps), []
            self._record(report)
            self.listener.reported(report)

    def _record(self, record: TrainingRecord) -> None:
        self.journal.append(_KINDS[type(record)], asdict(record))
        self.progress = self.progress.after(record)
