"""Run a training: start a worker, record its events, restart it after a failure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from worker.protocol.codec import encode
from worker.protocol.messages import (
    Advanced,
    Compiled,
    Loaded,
    Memory,
    Resumed,
    Saved,
    Step,
    Trained,
    Validated,
)
from your_ai.errors import MachineError
from your_ai.runs.journal import Journal
from your_ai.runs.run_dir import log_path
from your_ai.runs.training_results import FailedAttempt, Setting
from your_ai.supervision.observation import Notice, Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind, Remedy
from your_ai.supervision.supervisor import Limits
from your_ai.system.signals import interrupts
from your_ai.training.job import (
    Training,
    can_restart,
    setting_after_failure,
    uses_up_a_restart,
)
from your_ai.training.progress import TYPES, Failure, Progress, Report, TrainingRecord, report_on

GRACE_SECONDS = 60.0
GRACE_ITERATIONS = 3
"""A worker that is asked to end finishes its iteration and saves a checkpoint. It gets this time,
or the time of this many optimizer steps if that is longer."""

WAIT_SECONDS = 1800.0
"""Maximum wait for the machine after the memory guard ended a worker."""


class Listener(Protocol):
    """Shows a training. Calls may come from another thread, but never two at once."""

    def attempt(self, progress: Progress) -> None:
        """Called when a worker is about to start."""

    def on_event(self, event: Notice, saved: int) -> None:
        """Called with each event of the worker, and the last checkpoint before that event."""

    def reported(self, report: Report) -> None:
        """Called when a report on finished iterations was recorded."""

    def restarting(self, outcome: Outcome, progress: Progress) -> None:
        """Called when an attempt failed and another will follow."""


_KINDS = {record_type: kind for kind, record_type in TYPES.items()}


@dataclass(slots=True)
class TrainingRunner:
    """Runs workers until the training has finished or no restart can help.

    ``wait`` waits at most that many seconds until the machine has that much memory for a worker,
    and raises MachineError if it is then short of memory.
    """

    training: Training
    journal: Journal
    progress: Progress
    listener: Listener
    run_worker: Callable[..., tuple[Observation, Outcome]]
    wait: Callable[[float, int], None]
    _steps: list[Step] = field(default_factory=list, init=False)
    _furthest: int = field(default=0, init=False)

    def run(self) -> Outcome:
        """Run the training, and return the outcome of the last attempt.

        Raises:
            MachineError: if the journal cannot be written, the machine is short of memory, or a
                worker cannot be started or killed.
        """
        restarts = fruitless = 0
        while True:
            self._furthest = max(self._furthest, self.progress.saved)
            furthest = self._furthest
            outcome = self._attempt()
            if not can_restart(outcome):
                return outcome
            fruitless = 0 if self._furthest > furthest else fruitless + 1
            following = self._record_failure(outcome, fruitless)
            restarts += uses_up_a_restart(outcome, fruitless)
            if not interrupts.requested:
                if following is None or restarts > self.training.restarts:
                    return outcome
                self.listener.restarting(outcome, self.progress)
                if shortage := self._wait_after(outcome):
                    return replace(outcome, advice=shortage)
            if interrupts.requested:
                return Outcome(OutcomeKind.INTERRUPTED, "interrupted", evidence=outcome.evidence)

    def _wait_after(self, outcome: Outcome) -> str | None:
        """Wait for memory if the guard ended the worker; return what is wrong if there is none."""
        if outcome.remedy is not Remedy.WAIT:
            return None
        try:
            self.wait(WAIT_SECONDS, self.training.expected.peak_bytes)
        except MachineError as error:
            return str(error)
        return None

    def _attempt(self) -> Outcome:
        setting = self.progress.setting
        request = self.training.request_with(setting, resume=self.progress.attempts > 0)
        self.listener.attempt(self.progress)
        self.progress.add(setting)
        self._steps = []
        log = log_path(self.training.run_dir, f"attempt-{self.progress.attempts}.log")
        _, outcome = self.run_worker(
            encode(request),
            started=asdict(setting),
            log=log,
            limits=self._limits(),
            steps=request.iters,
            on_event=self._on_event,
            # The outcome does not depend on these, and in days of training they become many.
            keeps=lambda event: not isinstance(event, Step | Memory | Advanced | Compiled),
        )
        return outcome

    @property
    def _accumulated(self) -> int:
        return self.training.request.configuration.grad_accumulation_steps

    def _limits(self) -> Limits:
        return Limits(
            deadline=math.inf,
            step_seconds=self.training.expected.seconds_per_iteration,
            grace=GRACE_SECONDS,
            # A checkpoint can be saved only after an optimizer step.
            grace_steps=GRACE_ITERATIONS * self._accumulated,
            delivery=math.inf,
        )

    def _record_failure(self, outcome: Outcome, fruitless: int) -> Setting | None:
        setting = self.progress.setting
        attempt = FailedAttempt(
            setting.micro_batches,
            setting.limit_bytes,
            outcome.kind,
            outcome.reason,
            outcome.evidence,
        )
        following = setting_after_failure(self.training, setting, outcome, fruitless)
        self._record(Failure(attempt, following))
        return following

    def _on_event(self, event: Notice) -> None:
        saved = self.progress.saved
        match event:
            case Step():
                self._furthest = max(self._furthest, event.index)
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
        self.listener.on_event(event, saved)  # last, because a terminal may block

    def _report(self) -> None:
        if self._steps:
            report, self._steps = report_on(self._steps), []
            self._record(report)
            self.listener.reported(report)

    def _record(self, record: TrainingRecord) -> None:
        self.journal.append(_KINDS[type(record)], asdict(record))
        self.progress.add(record)
