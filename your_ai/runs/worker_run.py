"""Run workers one after another, and record each start in the run's journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker.protocol.messages import Event
from your_ai.errors import DeviceChangedError, MachineError
from your_ai.runs.device_check import check_device, checked
from your_ai.runs.journal import STARTED, Journal
from your_ai.runs.run import Header
from your_ai.supervision import memory_guard
from your_ai.supervision.classify import STOPPED, classify
from your_ai.supervision.event_reader import OnEvent
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.supervision.probe import probe_device
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog
from your_ai.system import memory
from your_ai.system.machine import boot_id
from your_ai.system.memory import MachineMemory
from your_ai.system.nvidia import Gpu
from your_ai.system.signals import interrupts
from your_ai.units import now

Supervise = Callable[..., Observation]
"""The type of `supervise`, which tests replace."""


class WorkerRunner:
    """Starts, supervises and classifies a run's workers, one at a time."""

    def __init__(
        self,
        journal: Journal,
        header: Header,
        gpu: Gpu | None,
        supervise: Supervise = supervise,
    ) -> None:
        self._journal = journal
        self._header = header
        self._supervise = supervise
        self._gpu = gpu
        self._memory = self._read_memory()
        self._footprint = 0
        self.boot = boot_id()

    def run(
        self,
        request: bytes,
        *,
        started: Mapping[str, Any],
        log: Path,
        limits: Limits,
        steps: int,
        on_event: OnEvent,
        keeps: Callable[[Event], bool] = lambda _: True,
    ) -> tuple[Observation, Outcome]:
        """Run a worker on ``request``; return what was observed, and the outcome.

        Waits until the memory of the previous worker is free again. The journal's record of the
        start, with the fields ``started``, is on disk before the worker starts. ``steps`` is the
        number of steps that a pass requires.

        Raises:
            NotStartedError: if no process could be started.
            DeviceChangedError: if MLX no longer works, or not on the device of the run.
            MachineError: if the journal cannot be written, the machine is short of memory, or the
                worker cannot be killed.
        """
        self._wait()
        self._journal.append(STARTED, {**started, "at": now(), "boot": self.boot})
        trial_log = TrialLog(log)
        trial_log.discard()  # output of an earlier attempt is no evidence for this one
        observation = self._supervise(
            request,
            log=trial_log,
            limits=limits,
            must_stop=lambda: interrupts.requested,
            on_event=checked(self._header, on_event),
            keeps=keeps,
        )
        self._footprint = max(self._footprint, observation.footprint_peak_bytes or 0)
        outcome = classify(observation, steps)
        if _may_mlx_be_broken(observation, outcome):
            outcome = self._ask_mlx() or outcome
        return observation, outcome

    def _ask_mlx(self) -> Outcome | None:
        """Raise DeviceChangedError if not the trial but MLX failed; return what the user did."""
        try:
            with interrupts.immediate():
                check_device(self._header, probe_device())
        except MachineError as error:
            raise DeviceChangedError(str(error)) from error
        except KeyboardInterrupt:
            return STOPPED
        return None

    def wait_for_room(self, max_seconds: float, device_bytes: int) -> None:
        """Wait until the machine has memory for a worker that uses ``device_bytes`` of the device.

        Raises:
            MachineError: if it is short of memory after ``max_seconds``.
        """
        # A GPU with memory of its own takes it from there, and the footprint is the rest.
        own = 0 if self._gpu else device_bytes
        self._wait(max_seconds, enough_bytes=max(self._footprint, own))

    def _wait(
        self,
        max_seconds: float = memory_guard.MAX_WAIT_SECONDS,
        enough_bytes: int | None = None,
    ) -> None:
        self._memory = memory_guard.wait_for_memory(
            self._memory,
            must_stop=lambda: interrupts.requested,
            read=self._read_memory,
            max_seconds=max_seconds,
            enough_bytes=enough_bytes,
        )

    def _read_memory(self) -> MachineMemory:
        return memory.for_trials(self._gpu)


def _may_mlx_be_broken(observation: Observation, outcome: Outcome) -> bool:
    """Return whether a worker that did not report its device ended for a reason of its own."""
    is_stopped = observation.killed in (Kill.INTERRUPT, Kill.MEMORY)
    return observation.device is None and not is_stopped and outcome.kind is not OutcomeKind.OOM
