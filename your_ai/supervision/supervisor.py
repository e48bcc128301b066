"""One worker, from spawn to reaped."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import tenacity

from worker.protocol.codec import ProtocolError, decode_event
from worker.protocol.messages import EVENTS_FD_FLAG, Event
from your_ai.errors import MachineError, NotStartedError
from your_ai.supervision import memory_guard
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.resource_monitor import Alarm, Gauges
from your_ai.supervision.trial_log import TrialLog

WORKER = (sys.executable, "-P", "-u", "-m", "worker")
"""``-P``, or a folder or file named worker in the current directory would be run instead; ``-u``,
or what libraries print would be lost when the worker leaves by `os._exit`."""

Hear = Callable[[Event], None]
"""Is told each event of a worker as it arrives, to show it."""

TICK_SECONDS = 0.1
MAX_LINE_BYTES = 4 * 2**20
SHOWN_BYTES = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a worker may take, in seconds.

    ``deadline`` for all of it, ``silence`` between two events - generous, because an import from a
    cold disk holds back the heartbeat - ``grace`` between being asked to end and being killed, and
    ``closing`` from the end of the event pipe to the process's own: freeing tens of GB takes time.
    """

    deadline: float = 3600.0
    silence: float = 300.0
    grace: float = 3.0
    closing: float = 30.0


def ignore(event: Event) -> None:
    """Hear an event and do nothing."""


def supervise(
    request: bytes,
    *,
    log: TrialLog,
    limits: Limits,
    command: Sequence[str] = WORKER,
    must_stop: Callable[[], bool] = lambda: False,
    alarm: Alarm = memory_guard.alarm,
    hear: Hear = ignore,
    keeps: Callable[[Event], bool] = lambda _: True,
) -> Observation:
    """Start a worker, give it ``request``, and watch it until it and all it started are gone.

    ``must_stop`` and KeyboardInterrupt end the worker, which is reported as `Kill.INTERRUPT`; a
    KeyboardInterrupt while it is given time to end kills it at once. When ``alarm`` says that the
    machine itself is in danger, the worker is killed without being asked. ``hear`` is told each
    event as it arrives, and the observation has those that ``keeps`` names, of the rest the last.

    Raises:
        NotStartedError: when no process can be started.
        MachineError: when one cannot be killed.
    """
    read_end, write_end = os.pipe()
    with contextlib.closing(_EventReader(read_end, hear, keeps)) as reader:
        began = time.monotonic()
        try:
            with _opened(log) as file:
                words = [*command, EVENTS_FD_FLAG, str(write_end)]
                process = _spawn(words, write_end, file)
        finally:
            os.close(write_end)
        try:
            gauges = Gauges(process.pid, began, alarm)
            killed = _attend(process, request, reader, log, gauges, limits, must_stop)
            if killed is not None:
                _ask_to_end(process, reader, log, gauges, limits.grace)
        finally:
            _end(process)
        reader.drain()
        log.trim()
        wall_seconds = time.monotonic() - began
    readings = gauges.readings()
    return Observation(
        events=tuple(reader.events),
        returncode=process.returncode,
        wall_seconds=wall_seconds,
        start_seconds=reader.first_heard - began if reader.events else 0.0,
        killed=killed,
        corrupt=reader.corrupt,
        log_tail=log.tail(),
        log_discarded_bytes=log.discarded_bytes,
        oom_kills=readings.oom_kills,
        machine_oom_kills=readings.machine_oom_kills,
        memory_limited=readings.memory_limited,
        pressure=readings.pressure,
        alarm=readings.alarm,
        machine_lost_bytes=readings.machine_lost_bytes,
        footprint_peak_bytes=readings.footprint_peak_bytes,
        footprints=readings.footprints,
    )


def _opened(log: TrialLog) -> BinaryIO:
    try:
        return log.open()
    except OSError as error:
        raise NotStartedError(f"Cannot write {log.path}: {error.strerror}.") from error


# Starting a process can fail for a moment, on a machine that just gave memory back. A measured
# outcome is never retried.
@tenacity.retry(
    retry=tenacity.retry_if_exception_type(NotStartedError),
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_exponential(max=5),
    reraise=True,
)
def _spawn(command: list[str], events: int, log: BinaryIO) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
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
    stdin = process.stdin
    assert stdin is not None

    def write() -> None:
        with contextlib.suppress(OSError):  # died already; its exit says how
            stdin.write(request)
            stdin.flush()

    threading.Thread(target=write, name="request", daemon=True).start()


def _attend(
    process: subprocess.Popen[bytes],
    request: bytes,
    reader: _EventReader,
    log: TrialLog,
    gauges: Gauges,
    limits: Limits,
    must_stop: Callable[[], bool],
) -> Kill | None:
    """Give the worker its request and watch it; why it must be ended, if so."""
    try:
        _hand_over(process, request)
        return _watch(process, reader, log, gauges, limits, must_stop)
    except KeyboardInterrupt:
        return Kill.INTERRUPT


def _watch(
    process: subprocess.Popen[bytes],
    reader: _EventReader,
    log: TrialLog,
    gauges: Gauges,
    limits: Limits,
    must_stop: Callable[[], bool],
) -> Kill | None:
    """Read events until the worker has ended or must be; why it must, if so."""
    deadline = time.monotonic() + limits.deadline
    while process.poll() is None:
        reader.read(TICK_SECONDS)
        gauges.sample()
        log.trim()
        now = time.monotonic()
        if must_stop():
            return Kill.INTERRUPT
        if gauges.alarm:
            _signal_group(process.pid, signal.SIGKILL)
            return Kill.MEMORY
        if reader.corrupt is not None:
            return Kill.CORRUPT
        if now > deadline:
            return Kill.DEADLINE
        if now > reader.last_heard + limits.silence:
            return Kill.SILENCE
        if reader.ended and not _exits(process, limits.closing):
            return Kill.CLOSED
    return None


def _exits(process: subprocess.Popen[bytes], within: float) -> bool:
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        return False
    return True


def _ask_to_end(
    process: subprocess.Popen[bytes],
    reader: _EventReader,
    log: TrialLog,
    gauges: Gauges,
    grace: float,
) -> None:
    """Give the worker time to end by itself, and watch it meanwhile: it may go on for a while."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
    until = time.monotonic() + grace
    with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: no more waiting
        while process.poll() is None and time.monotonic() < until and not gauges.alarm:
            reader.read(TICK_SECONDS)
            gauges.sample()
            log.trim()
            if reader.ended or reader.corrupt is not None:  # then nothing is waited for above
                _exits(process, TICK_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of the worker's process group."""
    _signal_group(process.pid, signal.SIGKILL)  # a grandchild too, if there is one
    if not _exits(process, within=60.0):
        raise MachineError(
            f"Worker {process.pid} cannot be killed: it hangs inside a driver. Restart the machine."
        )
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _signal_group(leader: int, number: signal.Signals) -> None:
    # macOS answers EPERM, not ESRCH, for a group of which only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


class _EventReader:
    """The parent's end of the event pipe: whole lines in, events out."""

    def __init__(self, fd: int, hear: Hear, keeps: Callable[[Event], bool]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._hear = hear
        self._keeps = keeps
        self._selector = selectors.DefaultSelector()
        self._selector.register(fd, selectors.EVENT_READ)
        self._pending = b""
        self.events: list[Event] = []
        self.corrupt: str | None = None
        self.ended = False
        self.first_heard = self.last_heard = time.monotonic()

    def read(self, timeout: float) -> None:
        """Take in what has arrived, waiting up to ``timeout`` seconds for something to."""
        if self.ended or not self._selector.select(timeout):
            return
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(self._fd, 2**16)
            self.last_heard = time.monotonic()
            if not self.events:
                self.first_heard = self.last_heard
            self.ended = not chunk
            self._take(chunk)

    def drain(self) -> None:
        """Take in all that is in the pipe, without waiting for whoever may hold its other end."""
        while not self.ended and self._selector.select(0):
            self.read(0)

    def close(self) -> None:
        """Close the pipe's read end."""
        self._selector.close()
        os.close(self._fd)

    def _take(self, chunk: bytes) -> None:
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        if len(self._pending) > MAX_LINE_BYTES:
            lines, self._pending = [*lines, self._pending], b""
        for line in lines:
            if self.corrupt is not None:
                return
            try:
                event = decode_event(line)
            except ProtocolError as error:
                shown = line[:SHOWN_BYTES].decode(errors="replace")
                self.corrupt = f"{error}: {shown}"
                return
            if self.events and not self._keeps(self.events[-1]):
                self.events.pop()
            self.events.append(event)
            self._hear(event)
