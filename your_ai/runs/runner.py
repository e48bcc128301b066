"""Run the trials of a run: skip those that need not run, measure the others, record all."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from worker.protocol.codec import encode
from worker.protocol.configuration import Weights
from your_ai.errors import DeviceChangedError, NotStartedError, YourAIError
from your_ai.models import hub, weight_files
from your_ai.planning.plan import Trial, reason_to_skip
from your_ai.runs.cooldown import Cooldown
from your_ai.runs.journal import ENDED, Journal
from your_ai.runs.resume import RunHistory
from your_ai.runs.run import Run
from your_ai.runs.run_dir import log_path
from your_ai.runs.searching import SearchState, search_for
from your_ai.runs.trial_record import result_of, result_of_too_large, result_without_worker
from your_ai.runs.trial_result import TrialResult, trial_key
from your_ai.runs.worker_run import Supervise, WorkerRunner
from your_ai.supervision.classify import STOPPED
from your_ai.supervision.event_reader import OnEvent
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind, Remedy
from your_ai.supervision.supervisor import Limits, ignore, supervise
from your_ai.system import conditions, nvidia
from your_ai.system.conditions import Conditions
from your_ai.system.signals import interrupts
from your_ai.units import now


class TrialRunner:
    """Runs the trials of a run; trials with a final result in ``history`` are not repeated.

    Each start is in the journal before the worker is started, and each result before it is yielded.
    ``ended`` has the results so far, in order. `trials` and `search` stop after an interrupted
    trial. They raise MachineError if the journal cannot be written, the machine is short of memory,
    or a worker cannot be started or killed.
    """

    def __init__(
        self,
        run: Run,
        journal: Journal,
        history: RunHistory,
        on_event: OnEvent = ignore,
        supervise: Supervise = supervise,
        cooldown: Cooldown | None = None,
    ) -> None:
        self._run = run
        self._journal = journal
        self._history = history
        self._on_event = on_event
        self._cooldown = cooldown or Cooldown(0)
        self._gpu = nvidia.gpu_of(run.device.backend, run.gpu_uuid)
        self._workers = WorkerRunner(journal, run, self._gpu, supervise)
        self.ended: list[TrialResult] = []

    def results_of(self, trial: Trial) -> tuple[TrialResult, ...]:
        """Return the results so far of a trial and its search."""
        return tuple(result for result in self.ended if result.index == trial.index)

    def trials(self) -> Iterator[Trial | TrialResult]:
        """Run the trials in order; yield each trial before it starts, and then its result."""
        for trial in self._run.trials:
            if interrupts.requested:
                return
            yield trial
            result = self._skipped(trial) or self._try(trial)
            yield result
            if _is_stopped(result):
                return

    def search(self, trial: Trial) -> Iterator[Trial | TrialResult]:
        """Try configurations of ``trial`` until nothing is left to find out; yield like `trials`.

        If the model need not be searched, only the result that says so is yielded. Stops after a
        trial whose weights were missing, because all trials need the same weights.
        """
        if skipped := self._skipped(trial):
            yield skipped
            return
        assert self._run.search is not None
        search = search_for(trial, self._run.search, self._run.device.backend)
        while not interrupts.requested:
            configuration = search.propose(SearchState(search, self.results_of(trial)).tried)
            if configuration is None:
                return
            candidate = trial.with_configuration(configuration)
            yield candidate
            result = self._try(candidate)
            yield result
            if _is_stopped(result) or not result.is_final:
                return

    def _skipped(self, trial: Trial) -> TrialResult | None:
        """Record why a trial or its search need not run; ``None`` if it must."""
        if self._run.keep_going:
            return None
        passed = {result.index for result in self.ended if result.success}
        failed = {result.index for result in self.ended if result.is_out_of_memory} - passed
        reason = reason_to_skip(trial, [t for t in self._run.trials if t.index in failed])
        if reason is None:
            return None
        outcome = Outcome(OutcomeKind.SKIPPED, reason)
        return self._record(result_without_worker(trial, outcome, now()))

    def _try(self, trial: Trial) -> TrialResult:
        key = trial_key(trial.index, trial.configuration)
        known = self._history.final.get(key)
        if known is not None:
            self.ended.append(known)
            return known
        quarantine = self._history.quarantine(key, self._workers.boot)
        if quarantine is not None:
            return self._record(result_without_worker(trial, quarantine, now()))
        if trial.is_too_large:
            return self._record(result_of_too_large(trial, self._run.device.backend))
        started_at = now()
        try:
            trial = _with_weights(trial)
            self._cooldown.wait()
        except YourAIError as error:
            outcome = Outcome(OutcomeKind.ERROR, str(error))
            return self._record(result_without_worker(trial, outcome, started_at))
        except KeyboardInterrupt:
            outcome = Outcome(OutcomeKind.INTERRUPTED, "interrupted before it started")
            return self._record(result_without_worker(trial, outcome, started_at))
        return self._record(self._measure(trial, key, now()))

    def _measure(self, trial: Trial, key: str, started_at: str) -> TrialResult:
        """Measure a trial; once more if it failed for a cause that may have been a passing one."""
        log = log_path(self._run.run_dir, _log_name(trial, key))
        before = self._conditions()
        try:
            observation, outcome = self._work(trial, key, log)
            if outcome.remedy is Remedy.RETRY:
                first = f"before that: {outcome.reason} ({outcome.evidence})"
                observation, outcome = self._retry(trial, key, log) or (observation, STOPPED)
                outcome = replace(outcome, evidence=f"{outcome.evidence}; {first}")
        except (NotStartedError, DeviceChangedError) as error:
            # Without a result, a resumed run would assume that the trial killed your_ai.
            outcome = Outcome(OutcomeKind.ERROR, str(error))
            self._record(result_without_worker(trial, outcome, started_at))
            raise
        self._cooldown.begin()
        after = self._conditions()
        result = result_of(trial, outcome, started_at, observation, str(log))
        return replace(result, conditions_before=before, conditions_after=after)

    def _retry(self, trial: Trial, key: str, log: Path) -> tuple[Observation, Outcome] | None:
        """Run the trial's worker once more; ``None`` if the user has stopped the run."""
        self._cooldown.begin()
        with contextlib.suppress(KeyboardInterrupt):
            self._cooldown.wait()
        return None if interrupts.requested else self._work(trial, key, log, is_retry=True)

    def _conditions(self) -> Conditions:
        return conditions.read(self._run.device.backend, self._gpu)

    def _work(
        self, trial: Trial, key: str, log: Path, *, is_retry: bool = False
    ) -> tuple[Observation, Outcome]:
        return self._workers.run(
            encode(trial.request),
            started={"trial": key, "retry": is_retry},
            log=log,
            limits=Limits(deadline=self._run.deadline, step_seconds=self._step_seconds(trial)),
            steps=trial.request.steps,
            on_event=self._on_event,
        )

    def _step_seconds(self, trial: Trial) -> float | None:
        """Return how long a step should take at the slowest speed of the model so far.

        So a hang in the first step is noticed, and does not last until the deadline.
        """
        c = trial.configuration
        speeds = [result.tokens_per_second for result in self.results_of(trial)]
        known = [speed for speed in speeds if speed]
        return c.batch_size * c.seq_length / min(known) if known else None

    def _record(self, result: TrialResult) -> TrialResult:
        self._journal.append(ENDED, {"trial": result.key, "result": asdict(result)})
        self.ended.append(result)
        return result


def _is_stopped(result: TrialResult) -> bool:
    """Return whether the user stopped the run, even if the trial had just finished."""
    return interrupts.requested or result.outcome is OutcomeKind.INTERRUPTED


def _log_name(trial: Trial, key: str) -> str:
    # The name may be a path; after this it cannot point out of the folder.
    index, _, configuration = key.partition("-")
    safe = re.sub(r"[^\w.-]+", "-", trial.model.name, flags=re.ASCII)
    return f"{index}-{safe[:100]}-{configuration}.log"


def _with_weights(trial: Trial) -> Trial:
    """Return the trial with its real weights in a local folder, downloaded just before use.

    A folder may have been moved or damaged since the run started.

    Raises:
        UsageError, MachineError: if the weights are not available.
        KeyboardInterrupt: if the user stopped the run.
    """
    source = trial.request.model
    if trial.configuration.weights is not Weights.REAL:
        return trial
    if source.path is not None:
        weight_files.check_still_there(Path(source.path))
        return trial
    model = trial.model
    with interrupts.immediate():
        # The revision is unknown if the Hub was unreachable at planning time.
        revision = model.revision or hub.revision(model.model_name).sha
        folder = hub.download(model.model_name, revision)
        weight_files.check_folder(folder)
    request = replace(trial.request, model=replace(source, path=str(folder)))
    return replace(trial, model=replace(model, revision=revision), request=request)
