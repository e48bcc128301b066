"""Run one worker, from its start until it and all processes that it started are gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import psutil

from worker.protocol.messages import EVENTS_FD_FLAG, Event
from your_ai.errors import MachineError, NotStartedError
from your_ai.supervision import memory_guard
from your_ai.supervision.event_reader import EventReader, OnEvent
from your_ai.supervision.memory_guard import Alarm
from your_ai.supervision.observation import Kill, Notice, Observation, Stopping
from your_ai.supervision.resource_monitor import ResourceMonitor
from your_ai.supervision.trial_log import TrialLog
from your_ai.system import worker_cgroup
from your_ai.system.cgroups import MemoryCgroup

WORKER = (sys.executable, "-P", "-u", "-m", "worker")
"""The command of a worker.

Without ``-P``, a file or folder called worker in the current directory would be run instead.
Without ``-u``, output of libraries would be lost when the worker exits by `os._exit`.
"""

TICK_SECONDS = 0.1
SPAWN_PAUSES = (1.0, 2.0)
"""Seconds before the second and the third attempt to start a process."""
REAP_SECONDS = 90.0
"""Maximum wait for the end of a killed worker: freeing tens of GB takes time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The time limits for a worker, in seconds.

    ``deadline`` is for the whole process, without the time for compiling kernels. ``silence`` is
    for the time between two events; it is long because imports from a cold disk delay the
    heartbeat. ``stall`` is the least time without progress for a hang (see `Pace`), and
    ``step_seconds`` the expected duration of a step. ``grace`` is the time to exit after SIGTERM,
    or that of ``grace_steps`` steps if they take longer. ``closing`` is the time to exit after the
    event pipe was closed, since freeing tens of GB takes time. ``delivery`` is the time to show the
    remaining events after the process is gone.
    """

    deadline: float = 3600.0
    silence: float = 300.0
    stall: float = 300.0
    step_seconds: float | None = None
    grace: float = 3.0
    grace_steps: int = 0
    closing: float = 30.0
    delivery: float = 5.0


def ignore(notice: Notice) -> None:
    """Ignore a notice."""


def supervise(
    request: bytes,
    *,
    log: TrialLog,
    limits: Limits,
    command: Sequence[str] = WORKER,
    must_stop: Callable[[], bool] = lambda: False,
    alarm: Alarm = memory_guard.alarm,
    on_event: OnEvent = ignore,
    keeps: Callable[[Event], bool] = lambda _: True,
) -> Observation:
    """Run a worker on ``request`` until it and all processes that it started are gone.

    The worker is asked to end if ``must_stop`` returns true or on KeyboardInterrupt; a second one
    kills it at once, and so does an ``alarm``. ``on_event`` is called in another thread and may
    block; its exceptions end the worker and are raised here. Events are kept if ``keeps`` is true
    for them, and the last one always. Raises NotStartedError if the process cannot be started,
    MachineError if it cannot be killed.
    """
    events = EventReader(on_event, keeps, limits.delivery, limits.step_seconds)
    with events as reader, worker_cgroup.created() as cgroup:
        began = time.monotonic()
        with log.kept_short():
            process = _start(command, reader, log, cgroup)
            try:
                monitor = ResourceMonitor(process.pid, began, alarm)
                killed = Supervisor(process, reader, monitor, limits, must_stop).run(request)
            finally:
                _end(process)
        reader.drain()
        observation = _observed(process.returncode, reader, log, began)
        return replace(monitor.complete(observation), killed=killed)


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Watches a running worker, and asks it to end if necessary."""

    process: subprocess.Popen[bytes]
    reader: EventReader
    monitor: ResourceMonitor
    limits: Limits
    must_stop: Callable[[], bool]

    def run(self, request: bytes) -> Kill | None:
        """Give the worker its request and watch it; return why it must be killed, or ``None``."""
        try:
            _hand_over(self.process, request)
            killed = self._watch(time.monotonic() + self.limits.deadline)
        except KeyboardInterrupt:
            killed = Kill.INTERRUPT
        if killed not in (None, Kill.MEMORY, Kill.STALL) and not self.reader.ended:
            with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C ends the wait
                self._ask_to_end(self._grace(killed))
        return killed

    def _watch(self, deadline: float) -> Kill | None:
        while not self._is_dead():
            self._tick()
            if killed := self._reason_to_end(time.monotonic(), deadline):
                return killed
        return None

    def _tick(self) -> None:
        self.reader.read(TICK_SECONDS)
        self.monitor.sample()

    def _reason_to_end(self, now: float, deadline: float) -> Kill | None:
        quiet = now - self.reader.last_heard
        if self.must_stop():
            return Kill.INTERRUPT
        if self.monitor.alarm:
            return Kill.MEMORY
        if self.reader.corrupt is not None:
            return Kill.CORRUPT
        if self.reader.ended:  # the worker is exiting, and only that can take too long
            return Kill.CLOSED if quiet > self.limits.closing else None
        if self.reader.pace.is_late(now, deadline, self.limits.stall):
            return Kill.DEADLINE
        if quiet > self.limits.silence:
            return Kill.SILENCE
        return Kill.STALL if self.reader.pace.is_stalled(now, self.limits.stall) else None

    def _grace(self, killed: Kill) -> float:
        """Return how long the worker may take to end; tell the user if it has work to save."""
        steps = self.limits.grace_steps
        if not steps or killed is not Kill.INTERRUPT:
            return self.limits.grace
        seconds = max(self.limits.grace, steps * (self.reader.pace.step_seconds or 0.0))
        if self.reader.pace.is_loaded:  # before that there is nothing to save
            self.reader.tell(Stopping(seconds))
        return seconds

    def _ask_to_end(self, grace: float) -> None:
        """Ask the worker to end, and continue to watch it until it has or time is up.

        When it closes its pipe, it has nothing left to save.
        """
        _signal_group(self.process.pid, signal.SIGTERM)
        until = time.monotonic() + grace
        while not (self._is_dead() or self.reader.ended or self.monitor.alarm):
            if time.monotonic() > until:
                return
            self._tick()

    def _is_dead(self) -> bool:
        """Return whether the worker has ended, without reaping it like `Popen.poll` (see `_end`).

        os.waitid with WNOWAIT would do the same, but needs Python 3.13 on macOS.
        """
        try:
            return psutil.Process(self.process.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def _observed(returncode: int, reader: EventReader, log: TrialLog, began: float) -> Observation:
    """Return what a worker that has ended reported and printed."""
    return Observation(
        events=tuple(reader.events),
        returncode=returncode,
        wall_seconds=time.monotonic() - began,
        start_seconds=reader.first_heard - began if reader.events else 0.0,
        corrupt=reader.corrupt,
        idle_seconds=time.monotonic() - reader.pace.last,
        step_seconds=reader.pace.step_seconds,
        log_tail=log.tail(),
        log_discarded_bytes=log.discarded_bytes,
    )


def _start(
    command: Sequence[str], reader: EventReader, log: TrialLog, cgroup: MemoryCgroup | None
) -> subprocess.Popen[bytes]:
    words = [*command, EVENTS_FD_FLAG, str(reader.write_end)]
    try:
        process = _spawn(words, reader.write_end, log)
    finally:
        os.close(reader.write_end)
    if cgroup is not None:  # the worker has allocated little, because it waits for its request
        cgroup.add(process.pid)
    return process


def _spawn(command: list[str], events: int, log: TrialLog) -> subprocess.Popen[bytes]:
    """Start the worker. Only this is retried, never a measured outcome.

    Starting a process may fail briefly on a machine that is just freeing memory.
    """
    for pause in SPAWN_PAUSES:
        with contextlib.suppress(NotStartedError):
            return _spawn_once(command, events, log)
        time.sleep(pause)
    return _spawn_once(command, events, log)


def _spawn_once(command: list[str], events: int, log: TrialLog) -> subprocess.Popen[bytes]:
    try:
        with log.open() as file:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                pass_fds=[events],
                start_new_session=True,
                env=worker_environment(),
            )
    except OSError as error:
        raise NotStartedError(f"Cannot start a worker process: {error}.") from error


def worker_environment() -> dict[str, str]:
    """Return the worker's environment: no tokens and no Hub, because only the parent downloads."""
    secrets = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}
    inherited = {key: value for key, value in os.environ.items() if key not in secrets}
    if sys.platform == "darwin":
        # A maintainer of MLX suggested it: long GPU work may run while the display is on (#3267).
        inherited.setdefault("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "1")
    return {**inherited, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _hand_over(process: subprocess.Popen[bytes], request: bytes) -> None:
    """Write the request to the worker's stdin, which stays open as the lifeline.

    This is done in a thread, because a long request blocks if the worker does not read it.
    """

    def write() -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # the worker has died, which is noticed elsewhere
            process.stdin.write(request)
            process.stdin.flush()

    threading.Thread(target=write, name="request", daemon=True).start()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group, then reap the worker: before that the group's id is not reused."""
    _signal_group(process.pid, signal.SIGKILL)
    try:
        process.wait(REAP_SECONDS)
    except subprocess.TimeoutExpired:
        raise MachineError(
            f"Worker process {process.pid} cannot be killed; it probably hangs in a driver. "
            "Restart the machine."
        ) from None
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _signal_group(leader: int, number: signal.Signals) -> None:
    # macOS raises EPERM, not ESRCH, if the group has only zombies left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
