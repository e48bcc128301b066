"""The loops over a run's trials: skip what need not run, supervise, classify, record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from worker.protocol import Weights, encode_request
from your_ai.errors import NotStartedError, YourAIError
from your_ai.models import hub, weight_files
from your_ai.planning.plan import Trial, reason_to_skip
from your_ai.runs.journal import Journal
from your_ai.runs.optimization import Optimization
from your_ai.runs.resume import ENDED, STARTED, Past, key_of
from your_ai.runs.run import Run
from your_ai.runs.trial_record import Ended, TrialRecord, recall, to_json
from your_ai.supervision import memory_guard
from your_ai.supervision.event_reader import OnEvent
from your_ai.supervision.outcome import Outcome, OutcomeKind, classify
from your_ai.supervision.supervisor import Limits, ignore, supervise
from your_ai.supervision.trial_log import TrialLog
from your_ai.system import memory
from your_ai.system.boot import boot_id
from your_ai.system.memory import MachineMemory
from your_ai.system.signals import interrupts
from your_ai.units import now


class Session:
    """Runs the trials of a run, each that has an outcome in its past from there.

    Before a worker is started the journal says so, and before a record is handed out its end is in
    the journal. ``on_event`` is called with what the workers report. Both loops raise MachineError
    when the journal cannot be written, the machine is short of memory, no worker can be started, or
    one cannot be killed.
    """

    def __init__(self, run: Run, journal: Journal, past: Past, on_event: OnEvent = ignore) -> None:
        self._run = run
        self._journal = journal
        self._past = past
        self._on_event = on_event
        self._limits = Limits(deadline=run.deadline)
        self._boot = boot_id()
        self._memory = self._read_memory()

    def trials(self) -> Iterator[Trial | TrialRecord]:
        """Run the trials one after another: each is yielded when it begins, its record at its end.

        Stops after a trial that was interrupted.
        """
        out_of_memory: list[Trial] = []
        for trial in self._run.trials:
            if interrupts.requested:
                return
            yield trial
            reason = None if self._run.keep_going else reason_to_skip(trial, out_of_memory)
            if reason is None:
                record = self._try(trial)
            else:
                record = self._record(Ended(trial, Outcome(OutcomeKind.SKIPPED, reason), now()))
            yield record
            if record.interrupted:
                return
            if record.proves_too_large:
                out_of_memory.append(trial)

    def search(self, trial: Trial, found: Optimization) -> Iterator[Trial | Optimization]:
        """Try configurations of ``trial`` until the best is proven.

        Each is yielded when it begins, and what was found so far when it ended. Stops after a trial
        that was interrupted, or whose weights could not be had: the next would want the same ones.
        """
        while not interrupts.requested:
            configuration = found.search.propose(found.tried)
            if configuration is None:
                return
            candidate = trial.with_configuration(configuration)
            yield candidate
            record = self._try(candidate)
            found = Optimization(found.search, (*found.records, record), now())
            yield found
            if record.interrupted or not record.is_done:
                return

    def entry(self, record: TrialRecord) -> dict[str, Any]:
        """The whole entry of a trial."""
        entry: dict[str, Any] = self._journal.read_at(*record.place).fields["entry"]
        return entry

    def _try(self, trial: Trial) -> TrialRecord:
        key = key_of(trial)
        place = self._past.ended.get(key)
        if place is not None:
            return recall(trial, self._journal.read_at(*place).fields["entry"], place)
        quarantine = self._past.quarantine(key, self._boot)
        if quarantine is not None:
            return self._record(Ended(trial, quarantine, now()))
        return self._record(self._supervise(trial, key))

    def _supervise(self, trial: Trial, key: str) -> Ended:
        started_at = now()
        try:
            trial = _with_weights(trial)
        except YourAIError as error:
            return Ended(trial, Outcome(OutcomeKind.ERROR, str(error)), started_at)
        except KeyboardInterrupt:
            outcome = Outcome(OutcomeKind.INTERRUPTED, "interrupted before it began")
            return Ended(trial, outcome, started_at)
        # Beside what is left of the last worker the next one could be one too many.
        self._memory = memory_guard.wait_for_memory(
            self._memory, lambda: interrupts.requested, self._read_memory
        )
        log = TrialLog(Path(self._run.run_dir) / "logs" / _log_name(trial, key))
        log.discard()  # what an earlier attempt printed says nothing of this one
        self._journal.append(STARTED, {"trial": key, "at": started_at, "boot": self._boot})
        # A worker that cannot be started or killed ends the run: no other may run beside it.
        try:
            seen = supervise(
                encode_request(trial.spec),
                log=log,
                limits=self._limits,
                must_stop=lambda: interrupts.requested,
                on_event=self._on_event,
            )
        except NotStartedError as error:
            # Or the trial would seem to have been begun, and to have ended its parent.
            self._record(Ended(trial, Outcome(OutcomeKind.ERROR, str(error)), started_at))
            raise
        return Ended(trial, classify(seen, trial.spec.steps), started_at, seen, str(log.path))

    def _read_memory(self) -> MachineMemory:
        return memory.for_trials(self._run.device.backend)

    def _record(self, ended: Ended) -> TrialRecord:
        entry = to_json(ended)
        place = self._journal.append(ENDED, {"trial": key_of(ended.trial), "entry": entry})
        return replace(recall(ended.trial, entry, place), interrupted=ended.interrupted)


def _log_name(trial: Trial, key: str) -> str:
    # A name can hold anything, a path among it; what is left of it here cannot leave the folder.
    index, _, configuration = key.partition("-")
    safe = re.sub(r"[^\w.-]+", "-", trial.model.name, flags=re.ASCII)
    return f"{index}-{safe[:100]}-{configuration}.log"


def _with_weights(trial: Trial) -> Trial:
    """The trial, its real weights in a local folder: only now, just before they are needed.

    Raises:
        UsageError, MachineError: when they cannot be had; the run goes on without them.
        KeyboardInterrupt: when the user stopped it.
    """
    source = trial.spec.model
    if trial.spec.weights is not Weights.REAL or source.path is not None:
        return trial
    model = trial.model
    with interrupts.immediate():
        # What a preset is at was asked when the run was planned, and may not have been answered.
        revision = model.revision or hub.revision(model.model_name).sha
        folder = hub.download(model.model_name, revision)
        weight_files.check_folder(folder)
    spec = replace(trial.spec, model=replace(source, path=str(folder)))
    return replace(trial, model=replace(model, revision=revision), spec=spec)
