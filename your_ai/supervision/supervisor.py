"""One worker, from its spawn until it and all that it started are gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import tenacity

from worker.protocol.messages import EVENTS_FD_FLAG, Event
from your_ai.errors import MachineError, NotStartedError
from your_ai.supervision import memory_guard
from your_ai.supervision.event_reader import EventReader, OnEvent
from your_ai.supervision.memory_guard import Alarm
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.resource_monitor import ResourceMonitor
from your_ai.supervision.trial_log import TrialLog

WORKER = (sys.executable, "-P", "-u", "-m", "worker")
"""``-P``, or a folder or file named worker in the current directory would be run instead; ``-u``,
or what libraries print would be lost when the worker leaves by `os._exit`."""

TICK_SECONDS = 0.1
REAP_SECONDS = 90.0
"""A worker that has ended may still have tens of GB to free."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a worker may take, in seconds.

    ``deadline`` for all of it, ``silence`` between two events - generous, because an import from a
    cold disk holds back the heartbeat - ``grace`` between being asked to end and being killed, and
    ``closing`` from the end of the event pipe to the process's own: freeing tens of GB takes time.
    ``delivery`` is how long events that are still being shown are waited for after its death.
    """

    deadline: float = 3600.0
    silence: float = 300.0
    grace: float = 3.0
    closing: float = 30.0
    delivery: float = 5.0


def ignore(event: Event) -> None:
    """Do nothing with an event."""


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
    """Start a worker, give it ``request``, and watch it until it and all it started are gone.

    ``must_stop`` and KeyboardInterrupt end it (`Kill.INTERRUPT`), a second KeyboardInterrupt at
    once. When ``alarm`` says that the machine is in danger, it is killed without being asked.
    ``on_event`` is called from another thread and may block; what it raises ends the worker and is
    raised here. The events kept are those for which ``keeps`` is true, and the last one. Raises
    NotStartedError when no process can be started, MachineError when one cannot be killed.
    """
    with EventReader(on_event, keeps, limits.delivery) as reader:
        began = time.monotonic()
        with log.kept_short():
            process = _start(command, reader, log)
            try:
                monitor = ResourceMonitor(process.pid, began, alarm)
                killed = Supervisor(process, reader, monitor, limits, must_stop).run(request)
            finally:
                _end(process)
        reader.drain()
        seen = Observation(
            events=tuple(reader.events),
            returncode=process.returncode,
            wall_seconds=time.monotonic() - began,
            start_seconds=reader.first_heard - began if reader.events else 0.0,
            killed=killed,
            corrupt=reader.corrupt,
            log_tail=log.tail(),
            log_discarded_bytes=log.discarded_bytes,
        )
        return monitor.complete(seen)


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Watches a worker that has been started, and asks it to end when it must."""

    process: subprocess.Popen[bytes]
    reader: EventReader
    monitor: ResourceMonitor
    limits: Limits
    must_stop: Callable[[], bool]

    def run(self, request: bytes) -> Kill | None:
        """Give the worker its request and watch it; why it must be killed, if it must."""
        try:
            _hand_over(self.process, request)
            killed = self._watch(time.monotonic() + self.limits.deadline)
        except KeyboardInterrupt:
            killed = Kill.INTERRUPT
        if killed not in (None, Kill.MEMORY):
            with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: no more waiting
                self._ask_to_end()
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
        if self.reader.ended:  # the worker is ending: only that may take too long now
            return Kill.CLOSED if quiet > self.limits.closing else None
        if now > deadline:
            return Kill.DEADLINE
        return Kill.SILENCE if quiet > self.limits.silence else None

    def _ask_to_end(self) -> None:
        """Give the worker time to end, and watch it meanwhile: it may go on for a while."""
        _signal_group(self.process.pid, signal.SIGTERM)
        until = time.monotonic() + self.limits.grace
        while not (self._is_dead() or self.monitor.alarm or time.monotonic() > until):
            self._tick()

    def _is_dead(self) -> bool:
        """Whether the worker has ended; it is not reaped, unlike by `Popen.poll`: see `_end`.

        os.waitid with WNOWAIT would do too, but macOS has it only from Python 3.13 on.
        """
        try:
            return psutil.Process(self.process.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def _start(command: Sequence[str], reader: EventReader, log: TrialLog) -> subprocess.Popen[bytes]:
    words = [*command, EVENTS_FD_FLAG, str(reader.write_end)]
    try:
        return _spawn(words, reader.write_end, log)
    finally:
        os.close(reader.write_end)


# Starting a process can fail for a moment, on a machine that just gave memory back. A measured
# outcome is never retried.
@tenacity.retry(
    retry=tenacity.retry_if_exception_type(NotStartedError),
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_exponential(max=5),
    reraise=True,
)
def _spawn(command: list[str], events: int, log: TrialLog) -> subprocess.Popen[bytes]:
    try:
        with log.open() as file:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                pass_fds=[events],
                start_new_session=True,
                env=_environment(),
            )
    except OSError as error:
        raise NotStartedError(f"Cannot start a worker process: {error}.") from error


def _environment() -> dict[str, str]:
    """The worker's: it gets no token and asks no hub, since downloads are the parent's work."""
    secrets = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}
    inherited = {key: value for key, value in os.environ.items() if key not in secrets}
    return {**inherited, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _hand_over(process: subprocess.Popen[bytes], request: bytes) -> None:
    """Write the request to the worker's stdin, which stays open: it is the lifeline.

    From a thread, because a worker that does not read would block a long request's writer.
    """

    def write() -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # died already; its exit says how
            process.stdin.write(request)
            process.stdin.flush()

    threading.Thread(target=write, name="request", daemon=True).start()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group, then reap the worker: until then no other group can have its id."""
    _signal_group(process.pid, signal.SIGKILL)
    try:
        process.wait(REAP_SECONDS)
    except subprocess.TimeoutExpired:
        raise MachineError(
            f"Worker {process.pid} cannot be killed: it hangs inside a driver. Restart the machine."
        ) from None
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _signal_group(leader: int, number: signal.Signals) -> None:
    # macOS answers EPERM, not ESRCH, for a group with only zombies left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
