"""Classify how a trial ended, from what was observed: pure.

The rules are ordered by the strength of the evidence: the worker's final event, what the supervisor
did, what the kernel counted, what MLX wrote. A cause is never stated as a fact without proof.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, replace
from enum import StrEnum

from worker.protocol.messages import Failed, FinalEvent, OverBudget, Passed, Phase, Trained
from your_ai.supervision.observation import Kill, Observation
from your_ai.units import show_size


class OutcomeKind(StrEnum):
    """The ways in which a trial can end."""

    PASS = "pass"
    OOM = "oom"
    OVER_BUDGET = "over-budget"
    TIMEOUT = "timeout"
    CRASH = "crash"
    ERROR = "error"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"

    @property
    def label(self) -> str:
        """The outcome as shown to the user: ``Pass``, ``OOM``, ``Over budget``."""
        return "OOM" if self is OutcomeKind.OOM else self.replace("-", " ").capitalize()


class Certainty(StrEnum):
    """How certain the stated cause is."""

    CERTAIN = "certain"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Remedy(StrEnum):
    """What can help if a worker is run again, apart from less memory."""

    WAIT = "wait"
    """The machine must first have memory again."""
    FRESH_PROCESS = "fresh process"
    """Nothing else: what failed does not outlast the process."""
    RETRY = "retry"
    """Nothing else, if the cause was a passing one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended: a one-line ``reason`` for the user, and the ``evidence`` for it.

    ``advice`` is what the user can do, if that does not depend on the trial.
    """

    kind: OutcomeKind
    reason: str
    certainty: Certainty = Certainty.CERTAIN
    evidence: str = ""
    advice: str | None = None
    remedy: Remedy | None = None


_OOM, _ERROR, _CRASH = OutcomeKind.OOM, OutcomeKind.ERROR, OutcomeKind.CRASH

_MESSAGES = {
    r"cudaMalloc\w*\(.*\) failed: out of memory": Outcome(_OOM, "the GPU ran out of memory"),
    r"\[malloc\] Unable to allocate \d+ bytes": Outcome(
        _OOM, "the device ran out of memory", Certainty.HIGH
    ),
    # MLX up to 0.31 aborts with this text, later versions raise it (mlx #3390, #3523, #3742).
    r"kIOGPUCommandBufferCallbackErrorOutOfMemory": Outcome(
        _OOM, "the GPU ran out of memory", Certainty.HIGH
    ),
    r"\[metal::malloc\] Attempting to allocate .* maximum allowed buffer size": Outcome(
        _ERROR,
        "a tensor is larger than Metal allows",
        advice="a smaller batch or a shorter sequence",
    ),
    # The buffers of a process add up over time, so a new process can continue.
    r"\[metal::malloc\] Resource limit \(\d+\) exceeded": Outcome(
        _ERROR,
        "MLX used more buffers than Metal allows; memory is not the cause (mlx-lm #1185)",
        remedy=Remedy.FRESH_PROCESS,
    ),
    # MLX from 0.32 raises the first message (mlx #3428); earlier ones abort with the second while
    # they are imported (mlx #2691, #3148, #3397).
    r"\[metal::load_device\]|\[__NSArray0 objectAtIndex:\]: index 0": Outcome(
        _ERROR,
        "there is no Metal device (GPU) in this session, as in a virtual machine without one, in a "
        "sandbox, or if nobody is logged in",
        advice="use a Mac or a runner with a GPU",
    ),
    # Seen with MLX 0.32.4: its CPU backend multiplies unquantized experts only in float32.
    r"\[GatherMM::eval\] Currently only supports float32": Outcome(
        _ERROR,
        "on a CPU, MLX trains a mixture of experts only if it is quantized or float32",
        advice='--quantize 4, or set "dtype" to "float32" in the model\'s config.json',
    ),
    # This often happens while the display is on (mlx #3267), or on a machine that swaps (#3896).
    r"ImpactingInteractivity|Impacting Interactivity|GPU Timeout|CallbackErrorTimeout": Outcome(
        _CRASH,
        "macOS stopped the GPU work for taking too long",
        Certainty.HIGH,
        advice=(
            "close other programs, and let the display sleep (or close the lid with power "
            "connected); workers run with AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1 unless you set it"
        ),
        remedy=Remedy.RETRY,
    ),
    r"kIOGPUCommandBufferCallbackError(Hang|PageFault|InnocentVictim|SubmissionsIgnored)": Outcome(
        _CRASH,
        "the GPU driver failed, or rejected work after an earlier failure",
        Certainty.MEDIUM,
        advice="run it again; if that fails too, restart the machine",
        remedy=Remedy.RETRY,
    ),
}
"""Messages of MLX and drivers (regular expressions), and the outcome if they end a worker."""

_HANGS = {
    Kill.SILENCE: "the worker stopped reporting",
    Kill.STALL: "the worker stopped making progress, so MLX or the GPU hangs",
    Kill.CLOSED: "the worker stopped reporting and did not exit",
}


def classify(observation: Observation, steps: int) -> Outcome:
    """Return the outcome of a trial that should have measured that number of ``steps``."""
    outcome = _classify(observation, steps)
    if outcome.kind is OutcomeKind.OOM and observation.needed_bytes is not None:
        needed = show_size(observation.needed_bytes)
        hint = f"the training itself needs only {needed} and should run with a lower --max-memory"
        reason = f"{outcome.reason}; {hint}"
        return replace(outcome, reason=reason)
    return outcome


def _classify(observation: Observation, steps: int) -> Outcome:
    if observation.corrupt is None and observation.final is not None:
        return _from_final_event(observation, observation.final, steps)
    if observation.killed is Kill.INTERRUPT:
        return Outcome(OutcomeKind.INTERRUPTED, "interrupted", evidence="stopped by the user")
    if observation.killed is Kill.MEMORY:
        return replace(_killed_by_guard(observation), remedy=Remedy.WAIT)
    # A worker that had closed its pipe was dying before the supervisor sent a signal.
    if (
        observation.killed in (None, Kill.CLOSED)
        and observation.returncode == -signal.SIGKILL
        and observation.oom_kills
    ):
        return _killed_by_kernel(observation, Certainty.CERTAIN, "kernel", observation.oom_kills)
    if observation.killed is Kill.DEADLINE or observation.killed in _HANGS:
        return _timed_out(observation, observation.killed)
    if observation.corrupt is not None:
        evidence = f"not an event: {observation.corrupt!r}"
        return Outcome(_CRASH, "the worker sent invalid data", evidence=evidence)
    if observation.returncode and (known := _known_message(observation.log_tail)):
        return known
    return _from_signal(observation) if observation.returncode < 0 else _from_exit(observation)


def _from_final_event(observation: Observation, final: FinalEvent, steps: int) -> Outcome:
    match final:
        case Passed():
            return _passed(observation, steps)
        case Trained():
            done = f"{final.iterations} iterations finished without an MLX error"
            evidence = f"{done}, losses finite, adapters changed"
            return Outcome(OutcomeKind.PASS, "all iterations finished", evidence=evidence)
        case OverBudget():
            return _over_budget(final)
        case Failed():
            return _known_message(final.message) or _failed(final)


def _passed(observation: Observation, steps: int) -> Outcome:
    done = len(observation.counted_steps)
    if done != steps:
        evidence = f"{done} of {steps} steps were reported"
        return Outcome(_CRASH, "the worker reported fewer steps than requested", evidence=evidence)
    evidence = f"{done} steps finished without an MLX error, losses finite, adapters changed"
    if observation.returncode < 0 and observation.killed is None:
        # By then everything was measured and checked. MLX may crash while the process exits.
        evidence += f"; then {_signal_name(-observation.returncode)} at exit"
    return Outcome(OutcomeKind.PASS, "every step ran within the budget", evidence=evidence)


def _over_budget(final: OverBudget) -> Outcome:
    size = show_size(final.measured_bytes)
    if final.planned:
        reason = f"the weights alone take {size}"
    elif final.phase is Phase.RELAXED:
        reason = f"could not keep the peak ({size}) within the budget"
    else:
        reason = f"needs at least {size}"
    evidence = f"{final.measured_bytes} bytes in phase {final.phase}"
    return Outcome(OutcomeKind.OVER_BUDGET, reason, evidence=evidence)


def _failed(final: Failed) -> Outcome:
    evidence = f"{final.error}: {final.message}, in phase {final.phase}"
    if final.error.endswith("MemoryError"):  # numpy's is called _ArrayMemoryError
        return Outcome(_OOM, "the machine ran out of memory", Certainty.HIGH, evidence)
    reason = final.message.strip().partition("\n")[0].rstrip() or final.error
    return Outcome(_ERROR, reason, evidence=evidence)


def _timed_out(observation: Observation, killed: Kill) -> Outcome:
    after = f"after {observation.wall_seconds:.0f} s, in phase {observation.phase}"
    evidence = f"stopped by the supervisor {after}"
    if killed is Kill.DEADLINE:
        reason = "the trial took longer than its time limit; raise --timeout"
        return Outcome(OutcomeKind.TIMEOUT, reason, evidence=evidence)
    return Outcome(
        OutcomeKind.TIMEOUT,
        _HANGS[killed],
        evidence=evidence,
        advice="run it again; if it hangs again, look at the log",
        remedy=Remedy.FRESH_PROCESS,
    )


def _killed_by_kernel(
    observation: Observation, certainty: Certainty, counter: str, rise: int
) -> Outcome:
    evidence = f"{_death(observation)}; the {counter}'s OOM counter rose by {rise}"
    return Outcome(_OOM, "the kernel killed the worker because memory ran out", certainty, evidence)


def _killed_by_guard(observation: Observation) -> Outcome:
    """Return the outcome after a kill by the memory guard.

    It counts as OOM only if the worker had a large part of the memory that the machine had lost.
    """
    own, lost = observation.footprint_peak_bytes, observation.machine_lost_bytes
    footprint = "unknown" if own is None else show_size(own)
    evidence = (
        f"{observation.alarm}, in phase {observation.phase}; the worker's footprint: {footprint}; "
        f"available memory fell by {show_size(lost)} since its start"
    )
    shortage = f"the machine ran short of memory ({observation.alarm})"
    if own is not None and 2 * own < lost:
        reason = (
            f"other programs used up the memory ({observation.alarm}); close them and try again"
        )
        return Outcome(_ERROR, reason, Certainty.MEDIUM, evidence)
    if (
        not own or not lost or observation.phase is Phase.IMPORT
    ):  # the model is loaded in a later phase
        reason = f"{shortage}, cause unknown; close other programs and try again"
        return Outcome(_ERROR, reason, Certainty.LOW, evidence)
    return Outcome(_OOM, f"{shortage}, so the worker was stopped", Certainty.HIGH, evidence)


def _from_signal(observation: Observation) -> Outcome:
    number = -observation.returncode
    if number == signal.SIGKILL and observation.oom_kills is None and observation.machine_oom_kills:
        return _killed_by_kernel(
            observation, Certainty.HIGH, "machine", observation.machine_oom_kills
        )
    reason = f"the worker was killed by {_signal_name(number)}, cause unknown"
    evidence = _death(observation)
    if number == signal.SIGKILL and observation.final_pressure == "critical":
        reason = (
            "the worker was killed while macOS reported critical memory pressure, so memory "
            "probably ran out"
        )
        return Outcome(_OOM, reason, Certainty.MEDIUM, evidence)
    is_fault_on_cpu = number in (signal.SIGSEGV, signal.SIGBUS) and (
        observation.device is None or observation.device.backend == "cpu"
    )
    if is_fault_on_cpu and observation.memory_limited:
        # MLX's CPU allocator does not check malloc, so out of memory looks like any other bug.
        reason = "segmentation fault under a memory limit, possibly out of memory"
        evidence += "; RLIMIT_AS is set"
    return Outcome(_CRASH, reason, Certainty.LOW, evidence)


def _from_exit(observation: Observation) -> Outcome:
    evidence = f"exit {observation.returncode} without a result, in phase {observation.phase}"
    last = observation.log_tail.strip().splitlines()[-1:]
    reason = ": ".join(["the worker ended without a result", *last])
    return Outcome(_CRASH, reason, evidence=evidence)


def _known_message(text: str) -> Outcome | None:
    """Return the outcome for the last line that matches: the worker survived earlier ones."""
    for line in reversed(text.splitlines()):
        for pattern, outcome in _MESSAGES.items():
            if re.search(pattern, line):
                return replace(outcome, evidence=line.strip())
    return None


def _death(observation: Observation) -> str:
    return f"killed by {_signal_name(-observation.returncode)}, in phase {observation.phase}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has a number only
        return f"signal {number}"
