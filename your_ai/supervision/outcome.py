"""How a trial ended, and what proves it: a pure function of what was observed.

The rules are ordered by strength of evidence: the worker's own last word, what the supervisor did,
what the kernel counted, what MLX wrote. An unproven cause is never asserted.
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
        """The outcome as people read it: ``Pass``, ``OOM``, ``Over budget``."""
        return "OOM" if self is OutcomeKind.OOM else self.replace("-", " ").capitalize()


class Certainty(StrEnum):
    """How sure the named cause is."""

    CERTAIN = "certain"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended: one line of ``reason`` for people, and the ``evidence`` it rests on."""

    kind: OutcomeKind
    reason: str
    certainty: Certainty = Certainty.CERTAIN
    evidence: str = ""


_OOM, _ERROR, _CRASH = OutcomeKind.OOM, OutcomeKind.ERROR, OutcomeKind.CRASH

_TEXTS = {
    r"cudaMalloc\w*\(.*\) failed: out of memory": Outcome(_OOM, "the GPU ran out of memory"),
    r"\[malloc\] Unable to allocate \d+ bytes": Outcome(
        _OOM, "the device ran out of memory", Certainty.HIGH
    ),
    # Up to MLX 0.31 an abort with this text, from 0.32 an exception (mlx #3390, #3523, #3742).
    r"kIOGPUCommandBufferCallbackErrorOutOfMemory": Outcome(
        _OOM, "the GPU ran out of memory", Certainty.HIGH
    ),
    r"\[metal::malloc\] Attempting to allocate .* maximum allowed buffer size": Outcome(
        _ERROR, "one tensor is larger than Metal takes; try a smaller batch or a shorter sequence"
    ),
    r"\[metal::malloc\] Resource limit \(\d+\) exceeded": Outcome(
        _ERROR, "MLX used more buffers than Metal allows; this is not about memory (mlx-lm #1185)"
    ),
    # Often on a machine that swaps (mlx #3267, #3896).
    r"ImpactingInteractivity|Impacting Interactivity|GPU Timeout|CallbackErrorTimeout": Outcome(
        _CRASH,
        "macOS stopped the GPU work for taking too long; close other programs and try again",
        Certainty.HIGH,
    ),
    r"kIOGPUCommandBufferCallbackError(Hang|PageFault|InnocentVictim|SubmissionsIgnored)": Outcome(
        _CRASH,
        "the GPU driver failed, or failed earlier and refuses work; try again",
        Certainty.MEDIUM,
    ),
}
"""Texts that MLX or a driver writes, and what each means if it ends a worker."""

_TIMEOUTS = {
    Kill.DEADLINE: "the trial took longer than its time limit; raise --timeout",
    Kill.SILENCE: "the worker stopped reporting",
    Kill.CLOSED: "the worker stopped reporting and did not end",
}


def classify(seen: Observation, steps: int) -> Outcome:
    """What ``seen`` proves of a trial of that many counted ``steps``."""
    outcome = _classify(seen, steps)
    if outcome.kind is OutcomeKind.OOM and seen.needed_bytes is not None:
        needed = show_size(seen.needed_bytes)
        reason = f"{outcome.reason}; it needs only {needed}, so give a smaller --max-memory"
        return replace(outcome, reason=reason)
    return outcome


def _classify(seen: Observation, steps: int) -> Outcome:
    if seen.corrupt is None and seen.final is not None:
        return _by_last_word(seen, seen.final, steps)
    if seen.killed is Kill.INTERRUPT:
        return Outcome(OutcomeKind.INTERRUPTED, "interrupted", evidence="stopped by the user")
    if seen.killed is Kill.MEMORY:
        return _ended_for_the_machine(seen)
    # One that had closed its pipe was dying already, and not of our signals.
    if seen.killed in (None, Kill.CLOSED) and seen.returncode == -signal.SIGKILL and seen.oom_kills:
        return _killed_by_kernel(seen, Certainty.CERTAIN, "kernel", seen.oom_kills)
    if seen.killed in _TIMEOUTS:
        evidence = f"ended by the supervisor after {seen.wall_seconds:.0f} s, in phase {seen.phase}"
        return Outcome(OutcomeKind.TIMEOUT, _TIMEOUTS[seen.killed], evidence=evidence)
    if seen.corrupt is not None:
        evidence = f"no event: {seen.corrupt!r}"
        return Outcome(_CRASH, "the worker's event pipe was corrupted", evidence=evidence)
    if seen.returncode and (known := _known_text(seen.log_tail)):
        return known
    return _by_signal(seen) if seen.returncode < 0 else _by_exit(seen)


def _by_last_word(seen: Observation, final: FinalEvent, steps: int) -> Outcome:
    match final:
        case Passed():
            return _passed(seen, steps)
        case Trained():
            evidence = f"{final.iterations} iterations done, synchronized, losses finite"
            return Outcome(OutcomeKind.PASS, "every iteration was done", evidence=evidence)
        case OverBudget():
            return _over_budget(final)
        case Failed():
            return _known_text(final.message) or _failed(final)


def _passed(seen: Observation, steps: int) -> Outcome:
    done = len(seen.counted_steps)
    if done != steps:
        evidence = f"{done} of {steps} counted steps were reported"
        return Outcome(_CRASH, "the worker reported fewer steps than requested", evidence=evidence)
    evidence = f"{done} steps done, synchronized, losses finite, adapters changed"
    if seen.returncode < 0 and seen.killed is None:
        # All was measured and checked before; MLX can fault while it is torn down.
        evidence += f"; then {_signal_name(-seen.returncode)} at exit"
    return Outcome(OutcomeKind.PASS, "every step ran inside the budget", evidence=evidence)


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
    evidence = f"{final.error}: {final.message}, while in phase {final.phase}"
    if final.error.endswith("MemoryError"):  # numpy has one of its own
        return Outcome(_OOM, "the machine ran out of memory", Certainty.HIGH, evidence)
    reason = final.message.strip().partition("\n")[0].rstrip() or final.error
    return Outcome(_ERROR, reason, evidence=evidence)


def _killed_by_kernel(seen: Observation, certainty: Certainty, counter: str, rise: int) -> Outcome:
    evidence = f"{_death(seen)}; the {counter}'s OOM counter rose by {rise}"
    return Outcome(_OOM, "the kernel killed the worker for memory", certainty, evidence)


def _ended_for_the_machine(seen: Observation) -> Outcome:
    """The watchdog ended it: by its fault only if it had much of what the machine had lost."""
    own, lost = seen.footprint_peak_bytes, seen.machine_lost_bytes
    had = "what the worker had is not known" if own is None else f"the worker had {show_size(own)}"
    evidence = (
        f"{seen.alarm}, in phase {seen.phase}; {had}, "
        f"the machine {show_size(lost)} less than when it was started"
    )
    short = f"the machine ran short of memory ({seen.alarm})"
    if own is not None and 2 * own < lost:
        reason = f"other programs took the machine's memory ({seen.alarm}); close them, try again"
        return Outcome(_ERROR, reason, Certainty.MEDIUM, evidence)
    if not own or not lost or seen.phase is Phase.IMPORT:  # no model is too large for it
        reason = f"{short}, and nothing shows that the model took it; close other programs"
        return Outcome(_ERROR, reason, Certainty.LOW, evidence)
    return Outcome(_OOM, f"{short}; the worker was ended first", Certainty.HIGH, evidence)


def _by_signal(seen: Observation) -> Outcome:
    number = -seen.returncode
    if number == signal.SIGKILL and seen.oom_kills is None and seen.machine_oom_kills:
        return _killed_by_kernel(seen, Certainty.HIGH, "machine", seen.machine_oom_kills)
    reason = f"the worker was killed by {_signal_name(number)}, cause unknown"
    evidence = _death(seen)
    if number == signal.SIGKILL and seen.pressure == "critical":
        reason += " (macOS reported critical memory pressure)"
    is_fault_on_cpu = number in (signal.SIGSEGV, signal.SIGBUS) and (
        seen.device is None or seen.device.backend == "cpu"
    )
    if is_fault_on_cpu and seen.memory_limited:
        # MLX's CPU allocator does not check malloc: exhaustion looks like any other bug.
        reason = "segmentation fault under a memory limit: suspected out of memory"
        evidence += "; RLIMIT_AS is set"
    return Outcome(_CRASH, reason, Certainty.LOW, evidence)


def _by_exit(seen: Observation) -> Outcome:
    evidence = f"exit {seen.returncode} without a result, in phase {seen.phase}"
    last = seen.log_tail.strip().splitlines()[-1:]
    reason = ": ".join(["the worker ended without a result", *last])
    return Outcome(_CRASH, reason, evidence=evidence)


def _known_text(text: str) -> Outcome | None:
    """The outcome that the last line with a known text means: earlier ones were survived."""
    for line in reversed(text.splitlines()):
        for pattern, outcome in _TEXTS.items():
            if re.search(pattern, line):
                return replace(outcome, evidence=line.strip())
    return None


def _death(seen: Observation) -> str:
    return f"killed by {_signal_name(-seen.returncode)}, in phase {seen.phase}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has a number only
        return f"signal {number}"
