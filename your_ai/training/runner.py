"""The loop over a training's attempts: supervise, record, and go on with less memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from worker.protocol.codec import encode_request
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
from your_ai.supervision import memory_guard
from your_ai.supervision.outcome import Outcome, OutcomeKind, classify
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog
from your_ai.system import memory
from your_ai.system.memory import MachineMemory
from your_ai.system.signals import interrupts
from your_ai.training.job import Setting, Training
from your_ai.training.progress import (
    FAILED,
    LOADED,
    REPORTED,
    SAVED,
    STARTED,
    TRAINED,
    VALIDATED,
    Progress,
    Report,
    report_on,
)
from your_ai.units import now

_GRACE = 60.0
"""Seconds for the iteration under way, and a checkpoint behind it, when a worker is to end."""

_AGAIN = (OutcomeKind.OOM, OutcomeKind.CRASH, OutcomeKind.TIMEOUT)
"""After these less memory may help; any other failure would come again."""


class Listener(Protocol):
    """Who is told how a training goes."""

    def hear(self, event: Event) -> None:
        """An event as the worker reports it."""

    def reported(self, report: Report) -> None:
        """Some iterations were done."""

    def validated(self, event: Validated) -> None:
        """The validation set was looked at."""

    def attempt(self, done: int) -> None:
        """A worker is about to be started, behind so many iterations."""

    def moved(self, iteration: int) -> None:
        """The worker had to go on behind an iteration before the last that was saved."""

    def restarting(self, outcome: Outcome, setting: Setting, done: int) -> None:
        """An attempt failed, and is begun again with that setting behind ``done`` iterations."""


class TrainingSession:
    """Runs the worker until the training is done, or there is no sense in trying again."""

    def __init__(
        self, training: Training, journal: Journal, progress: Progress, listener: Listener
    ) -> None:
        self._training = training
        self._journal = journal
        self.progress = progress
        self._listener = listener
        self._steps: list[Step] = []
        self._memory = self._read_memory()

    def run(self) -> Outcome:
        """How it ended at last.

        Raises:
            MachineError: when the journal cannot be written, the machine is short of memory, or no
                worker can be started.
        """
        failures = 0
        while True:
            setting, begun_at = self.progress.setting, self.progress.saved
            outcome = self._attempt(setting)
            if outcome.kind not in _AGAIN:
                return outcome
            failures += 1
            following = self._following(setting, progressed=self.progress.saved > begun_at)
            self._record(
                FAILED,
                {
                    **asdict(setting),
                    "outcome": outcome.kind,
                    "reason": outcome.reason,
                    "evidence": outcome.evidence,
                    "following": following and asdict(following),
                },
            )
            if interrupts.requested:
                return Outcome(OutcomeKind.INTERRUPTED, "interrupted", evidence=outcome.evidence)
            if following is None or failures > self._training.restarts:
                return outcome
            self._listener.restarting(outcome, following, self.progress.saved)

    def _following(self, setting: Setting, *, progressed: bool) -> Setting | None:
        """What to go on with after a failure.

        Where nothing is smaller, the same once more, if that came further: what ended it then need
        not have been the training.
        """
        smaller = self._training.smaller(setting)
        return smaller or (setting if progressed else None)

    def _attempt(self, setting: Setting) -> Outcome:
        self._memory = memory_guard.wait_for_memory(
            self._memory, lambda: interrupts.requested, self._read_memory
        )
        spec = self._training.with_setting(setting, restart=self.progress.attempts > 0)
        self._record(STARTED, {"at": now(), **asdict(setting)})
        self._listener.attempt(self.progress.saved)
        self._steps = []
        folder = Path(self._training.run_dir) / "logs"
        seen = supervise(
            encode_request(spec),
            log=TrialLog(folder / f"attempt-{self.progress.attempts}.log"),
            limits=Limits(deadline=math.inf, grace=_GRACE),
            must_stop=lambda: interrupts.requested,
            on_event=self._on_event,
            keeps=_is_evidence,
        )
        return classify(seen, spec.iters)

    def _on_event(self, event: Event) -> None:
        self._listener.hear(event)
        match event:
            case Step():
                self._steps.append(event)
                is_due = event.index % self._training.steps_per_report == 0
                if is_due or event.index == self._training.spec.iters:
                    self._report()
            case Resumed(iteration=iteration) if iteration != self.progress.saved:
                is_lost = iteration < self.progress.saved
                self._record(SAVED, {"iteration": iteration})
                if is_lost:
                    self._listener.moved(iteration)
            case Validated():
                self._record(VALIDATED, {"iteration": event.iteration, "loss": event.loss})
                self._listener.validated(event)
            case Loaded():
                sizes = {"parameters": event.parameters, "resident_bytes": event.resident_bytes}
                self._record(LOADED, sizes)
            case Trained():
                seen = {"samples": event.samples, "longest_tokens": event.longest_tokens}
                self._record(TRAINED, seen)
            case Saved():
                self._report()  # or those since the last would be lost to who goes on from here
                self._record(SAVED, {"iteration": event.iteration})

    def _report(self) -> None:
        if self._steps:
            report, self._steps = report_on(self._steps), []
            self._record(REPORTED, asdict(report))
            self._listener.reported(report)

    def _record(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._journal.append(kind, dict(fields))
        self.progress = self.progress.after(kind, fields)

    def _read_memory(self) -> MachineMemory:
        return memory.for_trials(self._training.device.backend)


def _is_evidence(event: Event) -> bool:
    """Whether the outcome may depend on it: of days of a training no more is kept."""
    return not isinstance(event, Step | Memory)
