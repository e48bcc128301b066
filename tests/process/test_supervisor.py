"""Supervision is never delayed, and kills only the worker's processes."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.support.fakes import hanging, littering
from tests.support.trials import PATIENT, fake, is_gone, observe, wait_for
from worker.protocol.messages import Memory, Started
from your_ai.errors import MachineError, NotStartedError
from your_ai.supervision import supervisor
from your_ai.supervision.event_reader import OnEvent
from your_ai.supervision.observation import Kill, Notice, Observation
from your_ai.supervision.supervisor import ignore, supervise
from your_ai.supervision.trial_log import TrialLog
from your_ai.system.memory import MachineMemory

WELL_BEFORE_THE_DEADLINE = 20.0


class Block:
    """An operation that blocks until the worker is gone, and an alarm in the meantime."""

    def __init__(self) -> None:
        self._began = threading.Event()

    def wait_until_gone(self, pid: int) -> None:
        self._began.set()
        wait_for(lambda: is_gone(pid), "the worker's end", WELL_BEFORE_THE_DEADLINE)

    def alarm(self, recent: Sequence[MachineMemory]) -> str | None:
        return "too little left" if self._began.is_set() else None


def beating(log: TrialLog, block: Block, on_event: OnEvent = ignore) -> Observation:
    command = fake(hanging.beat_forever)
    return supervise(
        b"{}\n", log=log, limits=PATIENT, command=command, alarm=block.alarm, on_event=on_event
    )


def test_a_blocked_terminal_does_not_delay_the_memory_guard(log: TrialLog) -> None:
    block, heard = Block(), list[Notice]()

    def show(event: Notice) -> None:
        heard.append(event)
        if isinstance(event, Started):
            block.wait_until_gone(event.pid)

    seen = beating(log, block, show)
    assert (seen.killed, seen.returncode) == (Kill.MEMORY, -signal.SIGKILL)
    assert tuple(heard) == seen.events  # delayed events are shown, in order


def test_a_blocked_terminal_does_not_lose_events(log: TrialLog) -> None:
    shown, unblocked = list[Notice](), threading.Event()

    def show(event: Notice) -> None:
        shown.append(event)
        unblocked.wait()

    limits = replace(PATIENT, deadline=1.0, grace=0.1, delivery=0.1)
    command = fake(hanging.beat_forever)
    seen = supervise(b"{}\n", log=log, limits=limits, command=command, on_event=show)
    assert seen.killed is Kill.DEADLINE
    assert len(seen.events) > len(shown) == 1
    unblocked.set()
    for thread in threading.enumerate():
        if thread.name == "on_event":
            thread.join()
    assert len(shown) == 1  # events of a finished trial are not shown


def test_a_slow_disk_does_not_delay_the_memory_guard(log: TrialLog) -> None:
    block, pids = Block(), list[int]()

    class SlowLog(TrialLog):
        def trim(self) -> None:
            if pids:
                block.wait_until_gone(pids[0])

    def note(event: Notice) -> None:
        if isinstance(event, Started):
            pids.append(event.pid)

    seen = beating(SlowLog(log.path), block, note)
    assert (seen.killed, seen.returncode) == (Kill.MEMORY, -signal.SIGKILL)


def test_a_worker_that_has_closed_the_pipe_is_still_monitored(log: TrialLog) -> None:
    readings = itertools.count()
    seen = supervise(
        b"{}\n",
        log=log,
        limits=PATIENT,
        command=fake(hanging.close_the_pipe),
        alarm=lambda *_: "too little left" if next(readings) > 10 else None,
    )
    assert (seen.killed, seen.returncode) == (Kill.MEMORY, -signal.SIGKILL)


def test_a_worker_is_ended_if_it_cannot_be_recorded(log: TrialLog) -> None:
    pids: list[int] = []

    def fail(event: Notice) -> None:
        if isinstance(event, Started):
            pids.append(event.pid)
        if isinstance(event, Memory):
            raise MachineError("Cannot write the journal.")

    began = time.monotonic()
    with pytest.raises(MachineError, match="Cannot write the journal"):
        beating(log, Block(), fail)
    assert time.monotonic() - began < WELL_BEFORE_THE_DEADLINE
    assert not psutil.pid_exists(pids[0])


def test_the_group_is_killed_before_the_worker_is_reaped(
    log: TrialLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a worker is reaped, another process group may get its id."""
    killpg, leaders = os.killpg, list[str]()

    def noted(leader: int, number: int) -> None:
        leaders.append(psutil.Process(leader).status())
        killpg(leader, number)

    monkeypatch.setattr(os, "killpg", noted)
    seen = observe(littering.leave_a_grandchild, log)
    assert seen.killed is None
    assert leaders == [psutil.STATUS_ZOMBIE]


TRUE = shutil.which("true") or ""


@pytest.mark.parametrize(("failures", "is_started"), [(0, True), (2, True), (3, False)])
def test_starting_a_process_is_tried_three_times(
    failures: int,
    is_started: bool,
    log: TrialLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program, pauses = tmp_path / "program", list[float]()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == failures:
            program.symlink_to(TRUE)

    if not failures:
        program.symlink_to(TRUE)
    monkeypatch.setattr(time, "sleep", pause)
    try:
        with supervisor._spawn([str(program)], 2, log) as process:
            assert is_started
        assert process.returncode == 0
    except NotStartedError:
        assert not is_started
    assert len(pauses) == min(failures, 2)
