"""The loop over a training's attempts: run a worker, record it, restart with less memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from worker.protocol.codec import encode
from worker.protocol.messages import (
    Event,
    Loaded,
    Memory,
    Resumed,
    Saved,
    Step,
    Trained,
    Validated,
)
from your_ai.runs.journal import Journal
from your_ai.runs.training_results import FailedAttempt
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.supervision.supervisor import Limits
from your_ai.system.signals import interrupts
from your_ai.training.job import LESS_MEMORY_MAY_HELP, Training, setting_after_failure
from your_ai.training.progress import (
    Failure,
    Progress,
    Report,
    TrainingRecord,
    kind_of,
    report_on,
)

GRACE_SECONDS = 60.0
"""Time for the current iteration and its checkpoint when a worker is asked to end."""

RunWorker = Callable[..., tuple[Observation, Outcome]]
"""`WorkerRunner.run`, or what takes its place in tests."""


class Listener(Protocol):
    """Shows a training. Calls may come from another thread, but never two at once."""

    def attempt(self, progress: Progress) -> None:
        """Called when a worker is about to start."""

    def on_event(self, event: Event, progress: Progress) -> None:
        """Called with each event of the worker, and the progress before it."""

    def reported(self, report: Report) -> None:
        """Called when iterations were finished."""

    def restarting(self, failure: Failure, progress: Progress) -> None:
        """Called when an attempt failed and another is about to start."""


class TrainingRunner:
    """Runs workers until the training is done, or another attempt is pointless."""

    def __init__(
        self,
        training: Training,
        journal: Journal,
        progress: Progress,
        listener: Listener,
        run_worker: RunWorker,
    ) -> None:
        self._training = training
        self._journal = journal
        self.progress = progress
        self._listener = listener
        self._run_worker = run_worker
        self._steps: list[Step] = []

    def run(self) -> Outcome:
        """The outcome of the last attempt.

        Raises:
            MachineError: if the journal cannot be written, the machine is short of memory, or no
                worker can be started or killed.
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
            if failure.following is None or restarts == self._training.restarts:
                return outcome
            restarts += 1
            self._listener.restarting(failure, self.progress)

    def _attempt(self) -> Outcome:
        setting = self.progress.setting
        request = self._training.request_with(setting, resume=self.progress.attempts > 0)
        self._listener.attempt(self.progress)
        self.progress = self.progress.after(setting)
        self._steps = []
        log = Path(self._training.run_dir) / "logs" / f"attempt-{self.progress.attempts}.log"
        _, outcome = self._run_worker(
            encode(request),
            started=asdict(setting),
            log=log,
            limits=Limits(deadline=math.inf, grace=GRACE_SECONDS),
            steps=request.iters,
            on_event=self._on_event,
            keeps=_is_evidence,
        )
        return outcome

    def _record_failure(self, outcome: Outcome, *, progressed: bool) -> Failure:
        setting = self.progress.setting
        attempt = FailedAttempt(
            **asdict(setting),
            outcome=outcome.kind,
            reason=outcome.reason,
            evidence=outcome.evidence,
        )
        following = setting_after_failure(self._training, setting, progressed=progressed)
        failure = Failure(attempt, following)
        self._record(failure)
        return failure

    def _on_event(self, event: Event) -> None:
        self._listener.on_event(event, self.progress)
        match event:
            case Step():
                self._steps.append(event)
                is_due = event.index % self._training.steps_per_report == 0
                if is_due or event.index == self._training.request.iters:
                    self._report()
            case Resumed() if event.iteration != self.progress.saved:
                self._record(Saved(event.at, event.iteration))
            case Saved():
                self._report()  # a resumed training does not repeat these steps
                self._record(event)
            case Loaded() | Validated() | Trained():
                self._record(event)

    def _report(self) -> None:
        if self._steps:
            report, self._steps = report_on(self._steps), []
            self._record(report)
            self._listener.reported(report)

    def _record(self, record: TrainingRecord) -> None:
        self._journal.append(kind_of(record), asdict(record))
        self.progress = self.progress.after(record)


def _is_evidence(event: Event) -> bool:
    """Whether the outcome may depend on it; days of steps and memory samples are not kept."""
    return not isinstance(event, Step | Memory)
