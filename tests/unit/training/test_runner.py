"""Running a training, with a scripted worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import builders
from tests.support.trainings import of_batch_size, step, training
from worker.protocol.codec import decode_request
from worker.protocol.messages import Event, Loaded, Resumed, Saved, Trained, Validated
from worker.protocol.requests import TrainingRequest
from your_ai.errors import MachineError
from your_ai.runs.journal import STARTED, Journal
from your_ai.runs.training_results import Setting
from your_ai.supervision.observation import Notice, Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind, Remedy
from your_ai.system.signals import interrupts
from your_ai.training.job import Training
from your_ai.training.progress import Progress, Report, progress_of
from your_ai.training.runner import WAIT_SECONDS, TrainingRunner
from your_ai.units import GB

PASSED = Outcome(OutcomeKind.PASS, "every iteration was done")
OOM = Outcome(OutcomeKind.OOM, "the GPU ran out of memory", evidence="the log")
CRASH = Outcome(OutcomeKind.CRASH, "killed")
LOADED = Loaded(1.0, 1.0, 1000, 1001, 70, 7)
TRAINED = Trained(9.0, 100, 600, 77)


@dataclass
class Worker:
    """Follows a script that has the events and the outcome of each attempt."""

    journal: Journal
    script: Sequence[tuple[Sequence[Event], Outcome]]
    requests: list[TrainingRequest] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    waits: list[tuple[float, int]] = field(default_factory=list)

    def wait(self, max_seconds: float, device_bytes: int) -> None:
        self.waits.append((max_seconds, device_bytes))

    def run(
        self, request: bytes, *, started: Any, log: Path, on_event: Any, **_: Any
    ) -> tuple[Observation, Outcome]:
        self.journal.append(STARTED, started)
        events, outcome = self.script[len(self.requests)]
        decoded = decode_request(request)
        assert isinstance(decoded, TrainingRequest)
        self.requests.append(decoded)
        self.logs.append(log.name)
        for event in events:
            on_event(event)
        return builders.observed(*events), outcome

    @property
    def settings(self) -> list[Setting]:
        return [Setting(each.micro_batches, each.limit_bytes) for each in self.requests]


@dataclass
class Recorder:
    """A listener that records its calls."""

    events: list[Notice] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    failures: list[Outcome] = field(default_factory=list)

    def attempt(self, progress: Progress) -> None:
        self.starts.append(progress.saved)

    def on_event(self, event: Notice, saved: int) -> None:
        self.events.append(event)

    def reported(self, report: Report) -> None:
        self.reports.append(report)

    def restarting(self, outcome: Outcome, progress: Progress) -> None:
        self.failures.append(outcome)


@dataclass
class Result:
    """The result of a training."""

    outcome: Outcome
    progress: Progress
    worker: Worker
    listener: Recorder


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as opened:
        yield opened


def run(
    journal: Journal,
    *script: tuple[Sequence[Event], Outcome],
    of: Training | None = None,
    progress: Progress | None = None,
) -> Result:
    """Run a training whose workers follow the script."""
    of = of or training()
    worker, listener = Worker(journal, script), Recorder()
    progress = progress or Progress(of.first_setting)
    runner = TrainingRunner(of, journal, progress, listener, worker.run, worker.wait)
    outcome = runner.run()
    assert progress_of(of, journal.records()) == runner.progress  # a resumed training sees the same
    return Result(outcome, runner.progress, worker, listener)


def steps(first: int, last: int) -> list[Event]:
    return [step(index) for index in range(first, last + 1)]


def test_one_attempt_is_enough(journal: Journal) -> None:
    events = [LOADED, Validated(1.0, 1, 3.5, 0.1), *steps(1, 100), Saved(8.0, 100), TRAINED]
    found = run(journal, (events, PASSED))
    assert found.outcome == PASSED
    assert not found.worker.requests[0].resume
    assert found.listener.events == events
    assert [report.iteration for report in found.listener.reports] == list(range(2, 101, 2))
    assert found.progress.saved == 100
    assert found.progress.trained == TRAINED
    assert found.progress.loaded == LOADED
    assert len(found.progress.validations) == 1


def test_reports_end_at_checkpoints_and_the_last_iteration(journal: Journal) -> None:
    of = training(steps_per_report=40)
    events = [*steps(1, 30), Saved(3.0, 30), *steps(31, 100), TRAINED]
    found = run(journal, (events, PASSED), of=of)
    assert [(r.iteration, r.iterations) for r in found.listener.reports] == [
        (30, 30),
        (40, 10),
        (80, 40),
        (100, 20),
    ]


def test_a_training_resumes_with_less_memory_after_an_oom(journal: Journal) -> None:
    failed = [LOADED, *steps(1, 5), Saved(2.0, 5), *steps(6, 7)]
    rest = [LOADED, Resumed(1.0, 5), *steps(6, 100), TRAINED]
    found = run(journal, (failed, OOM), (rest, PASSED))
    assert found.outcome == PASSED
    assert found.worker.settings == [Setting(1, 8 * GB), Setting(2, 8 * GB)]
    assert [request.resume for request in found.worker.requests] == [False, True]
    assert found.worker.logs == ["attempt-1.log", "attempt-2.log"]
    assert found.listener.starts == [0, 5]
    assert found.listener.failures == [OOM]
    (failure,) = found.progress.failures
    assert (failure.outcome, failure.reason) == (OOM.kind, OOM.reason)
    assert found.worker.waits == []
    assert sum(report.iterations for report in found.progress.reports) == 100


@pytest.mark.parametrize(
    "kind", [OutcomeKind.ERROR, OutcomeKind.OVER_BUDGET, OutcomeKind.INTERRUPTED]
)
def test_other_failures_end_the_training(kind: OutcomeKind, journal: Journal) -> None:
    found = run(journal, ([LOADED], Outcome(kind, "why")))
    assert found.outcome.kind is kind
    assert found.progress.failures == []


def test_the_training_ends_without_a_smaller_setting(journal: Journal) -> None:
    found = run(journal, *[([LOADED], OOM)] * 4)
    assert found.outcome == OOM
    assert [setting.micro_batches for setting in found.worker.settings] == [1, 2, 6, 6]
    assert len(found.listener.failures) == 3


def test_the_smallest_setting_is_repeated_while_the_training_progresses(journal: Journal) -> None:
    of = of_batch_size(1, needed_limit_bytes=8 * GB)
    progressing = [([step(index)], CRASH) for index in (5, 10)]
    found = run(journal, *progressing, ([LOADED], CRASH), of=of)
    assert found.outcome == CRASH
    assert len(found.worker.requests) == 3
    assert {each.limit_bytes for each in found.worker.requests} == {8 * GB}


@pytest.mark.parametrize("kind", [OutcomeKind.OOM, OutcomeKind.ERROR])
def test_a_training_that_the_guard_ended_waits_and_continues(
    kind: OutcomeKind, journal: Journal
) -> None:
    guard = Outcome(kind, "the machine ran short of memory", remedy=Remedy.WAIT)
    ended = [([step(index)], guard) for index in (5, 8, 8, 7, 9)]
    found = run(journal, *ended, ([TRAINED], PASSED), of=training(restarts=0))
    assert found.outcome == PASSED
    assert found.worker.waits == [(WAIT_SECONDS, 7 * GB)] * 5
    assert set(found.worker.settings) == {training().first_setting}


def test_a_training_ends_after_three_attempts_without_a_further_iteration(
    journal: Journal,
) -> None:
    guard = Outcome(OutcomeKind.OOM, "the machine ran short of memory", remedy=Remedy.WAIT)
    ended = [([step(index)], guard) for index in (5, 5, 4, 3)]
    found = run(journal, *ended)
    assert found.outcome == guard
    assert found.worker.waits == [(WAIT_SECONDS, 7 * GB)] * 3


def test_a_fresh_process_is_no_restart_with_less_memory(journal: Journal) -> None:
    worn_out = Outcome(OutcomeKind.ERROR, "too many buffers", remedy=Remedy.FRESH_PROCESS)
    ended = [([step(index)], worn_out) for index in (10, 20, 30)]
    found = run(journal, *ended, ([TRAINED], PASSED), of=training(restarts=0))
    assert found.outcome == PASSED
    assert found.worker.waits == []


def test_a_training_ends_if_memory_stays_short(journal: Journal) -> None:
    guard = Outcome(OutcomeKind.OOM, "the machine ran short of memory", remedy=Remedy.WAIT)
    worker, of = Worker(journal, [([LOADED], guard)]), training()

    def wait(_seconds: float, _bytes: int) -> None:
        raise MachineError("This machine is short of memory. Continue with --resume.")

    runner = TrainingRunner(of, journal, Progress(of.first_setting), Recorder(), worker.run, wait)
    outcome = runner.run()
    assert (outcome.kind, outcome.reason) == (guard.kind, guard.reason)
    assert "--resume" in (outcome.advice or "")


def test_an_interrupt_ends_the_wait_for_the_machine(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Outcome(OutcomeKind.OOM, "the machine ran short of memory", remedy=Remedy.WAIT)
    worker, of = Worker(journal, [([LOADED], guard)]), training()

    def wait(_seconds: float, _bytes: int) -> None:
        monkeypatch.setattr(interrupts, "requested", True)

    runner = TrainingRunner(of, journal, Progress(of.first_setting), Recorder(), worker.run, wait)
    assert runner.run().kind is OutcomeKind.INTERRUPTED


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_the_number_of_restarts_is_limited(restarts: int, journal: Journal) -> None:
    found = run(journal, *[([LOADED], CRASH)] * 3, of=training(restarts=restarts))
    assert found.outcome == CRASH
    assert len(found.worker.requests) == restarts + 1
    assert len(found.listener.failures) == restarts
    assert found.progress.setting not in found.worker.settings  # smaller, for a resume


def test_a_resumed_training_continues_where_its_journal_ends(journal: Journal) -> None:
    run(journal, ([*steps(1, 5), Saved(1.0, 5)], OOM), of=training(restarts=0))
    before = progress_of(training(), journal.records())
    rest = [Resumed(1.0, 5), *steps(6, 100), TRAINED]
    found = run(journal, (rest, PASSED), progress=before)
    assert found.worker.requests[0].resume
    assert found.worker.settings == [Setting(2, 8 * GB)]
    assert found.worker.logs == ["attempt-2.log"]
    assert found.outcome == PASSED


@pytest.mark.parametrize("iteration", [0, 5, 20])
def test_the_reported_checkpoint_is_recorded(iteration: int, journal: Journal) -> None:
    """A checkpoint may be lost, or written just before the parent was killed."""
    resumed: list[Event] = [Resumed(1.0, iteration), step(iteration + 1)]
    found = run(journal, ([Saved(1.0, 10)], OOM), (resumed, Outcome(OutcomeKind.ERROR, "why")))
    assert found.progress.saved == iteration


def test_a_failure_after_an_interrupt_is_recorded_but_not_restarted(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "requested", True)
    found = run(journal, ([LOADED], CRASH))
    assert found.outcome.kind is OutcomeKind.INTERRUPTED
    assert len(found.progress.failures) == 1
    assert found.listener.failures == []


def test_a_journal_that_cannot_be_written_ends_the_training(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    worker = Worker(journal, [([LOADED], PASSED)])
    of = training()
    runner = TrainingRunner(
        of, journal, Progress(of.first_setting), Recorder(), worker.run, worker.wait
    )
    monkeypatch.setattr("your_ai.runs.journal.os.write", fail)
    with pytest.raises(MachineError, match="No space left"):
        runner.run()
