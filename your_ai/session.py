"""The loops over a run's trials: skip what need not run, supervise, classify, record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from worker.protocol import TrialSpec, Weights, encode_request
from your_ai import hub, safetensors
from your_ai.errors import YourAIError
from your_ai.log import TrialLog
from your_ai.optimization import Optimization
from your_ai.outcome import Outcome, OutcomeKind, classify
from your_ai.plan import Trial, reason_to_skip
from your_ai.record import TrialRecord
from your_ai.supervisor import Limits, supervise


def run_trials(
    trials: tuple[Trial, ...], run_dir: Path, limits: Limits, *, keep_going: bool
) -> Iterator[Trial | TrialRecord]:
    """Run the trials one after another: each is yielded when it begins, its record when it ended.

    Stops after a trial that was interrupted.
    """
    out_of_memory: list[Trial] = []
    for trial in trials:
        yield trial
        reason = None if keep_going else reason_to_skip(trial, out_of_memory)
        if reason is None:
            record = _run(trial, run_dir, limits)
        else:
            record = TrialRecord(trial, Outcome(OutcomeKind.SKIPPED, reason), now())
        yield record
        if record.interrupted:
            return
        if record.proves_too_large:
            out_of_memory.append(trial)


def run_search(
    trial: Trial, found: Optimization, run_dir: Path, limits: Limits
) -> Iterator[Trial | Optimization]:
    """Try configurations of ``trial`` until the best is proven.

    Each is yielded when it begins, and what was found so far when it ended. Stops after a trial
    that was interrupted, or whose weights could not be had: the next would want the same ones.

    Raises:
        MachineError: when no worker can be started, or one cannot be killed.
    """
    while (configuration := found.search.propose(found.tried)) is not None:
        candidate = trial.with_configuration(configuration)
        yield candidate
        record = _run(candidate, run_dir, limits)
        found = Optimization(found.search, (*found.records, record), now())
        yield found
        if record.interrupted or record.seen is None:
            return


def now() -> str:
    """The present time as the results write it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _run(trial: Trial, run_dir: Path, limits: Limits) -> TrialRecord:
    started_at = now()
    # A name can hold anything, a path among it; what is left of it here cannot leave the folder.
    safe = re.sub(r"[^\w.-]+", "-", trial.model.name, flags=re.ASCII)
    c = trial.configuration
    name = f"{trial.index:02d}-{safe}-{c.batch_size}x{c.lora_rank}x{c.lora_layers}.log"
    log = TrialLog(run_dir / "logs" / name)
    try:
        spec = _with_weights(trial)
    except YourAIError as error:
        return TrialRecord(trial, Outcome(OutcomeKind.ERROR, str(error)), started_at)
    except KeyboardInterrupt:
        outcome = Outcome(OutcomeKind.INTERRUPTED, "interrupted before it began")
        return TrialRecord(trial, outcome, started_at)
    # A worker that cannot be started or killed ends the run: no other may run beside it.
    seen = supervise(encode_request(spec), log=log, limits=limits)
    return TrialRecord(trial, classify(seen, spec.steps), started_at, seen, str(log.path))


def _with_weights(trial: Trial) -> TrialSpec:
    """The trial's spec, its real weights in a local folder: only now, just before they are needed.

    Raises:
        UsageError, MachineError: when they cannot be had; the run goes on without them.
    """
    source = trial.spec.model
    if trial.spec.weights is not Weights.REAL or source.path is not None:
        return trial.spec
    folder = hub.download(trial.model.model_name)
    safetensors.check_folder(folder)
    return replace(trial.spec, model=replace(source, path=str(folder)))
