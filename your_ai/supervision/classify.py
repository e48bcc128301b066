"""Classify how a trial ended, from what was observed: pure.

The rules are ordered by the strength of the evidence: the worker's final event, what the supervisor
did, what the kernel counted, what MLX wrote. A cause is never stated as a fact without proof.
"""

from __future__ import annotations

import re
import signal
from dataclasses import replace

from worker.protocol.messages import Failed, FinalEvent, OverBudget, Passed, Phase, Trained
from your_ai.supervision.known_messages import known_message
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import Certainty, Outcome, OutcomeKind, Remedy
from your_ai.units import show_size

STOPPED = Outcome(OutcomeKind.INTERRUPTED, "interrupted", evidence="stopped by the user")

_HANGS = {
    Kill.SILENCE: "the worker stopped reporting",
    Kill.STALL: "the worker made no progress, so MLX or the GPU probably hangs",
    Kill.CLOSED: "the worker stopped reporting and did not exit",
}

_CUDA_FAILURE = re.compile(r"^cuda\w+\(.*\) failed: ")
"""Seen once in 16 trainings on an H200, with MLX 0.32.4: cudaMemcpy failed: invalid argument."""

_MAY_WORK_LATER = ("CheckpointError", "RuntimeError")
"""Errors of the worker that may not happen again: the disk was full, or MLX failed."""


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
        return STOPPED
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
        return Outcome(OutcomeKind.CRASH, "the worker sent invalid data", evidence=evidence)
    if observation.returncode and (known := known_message(observation.log_tail)):
        return known
    return _from_signal(observation) if observation.returncode < 0 else _from_exit(observation)


def _from_final_event(observation: Observation, final: FinalEvent, steps: int) -> Outcome:
    match final:
        case Passed():
            return _passed(observation, steps)
        case Trained():
            done = f"{final.iterations} iterations finished without an MLX error"
            evidence = f"{done}, losses finite, weights changed"
            return Outcome(OutcomeKind.PASS, "all iterations finished", evidence=evidence)
        case OverBudget():
            return _over_budget(final)
        case Failed():
            return known_message(final.message) or _failed(final)


def _passed(observation: Observation, steps: int) -> Outcome:
    done = len(observation.counted_steps)
    if done != steps:
        evidence = f"{done} of {steps} steps were reported"
        return Outcome(
            OutcomeKind.CRASH, "the worker reported fewer steps than requested", evidence=evidence
        )
    evidence = f"{done} steps finished without an MLX error, losses finite, weights changed"
    if observation.returncode < 0 and observation.killed is None:
        # By then everything was measured and checked. MLX may crash while the process exits.
        evidence += f"; then {_signal_name(-observation.returncode)} at exit"
    return Outcome(OutcomeKind.PASS, "every step ran within the budget", evidence=evidence)


def weights_over_budget(weights_bytes: int) -> Outcome:
    """Return the outcome of a trial whose weights are too large, which is known in advance."""
    reason = f"the weights alone take {show_size(weights_bytes)}"
    evidence = f"{weights_bytes} bytes of weights, counted before they were loaded"
    return Outcome(OutcomeKind.OVER_BUDGET, reason, evidence=evidence)


def _over_budget(final: OverBudget) -> Outcome:
    if final.planned:
        return weights_over_budget(final.measured_bytes)
    size = show_size(final.measured_bytes)
    if final.phase is Phase.RELAXED:
        reason = f"could not keep the peak ({size}) within the budget"
    else:
        reason = f"needs at least {size}"
    evidence = f"{final.measured_bytes} bytes in phase {final.phase}"
    return Outcome(OutcomeKind.OVER_BUDGET, reason, evidence=evidence)


def _failed(final: Failed) -> Outcome:
    evidence = f"{final.error}: {final.message}, in phase {final.phase}"
    if final.error.endswith("MemoryError"):  # numpy's is called _ArrayMemoryError
        return Outcome(OutcomeKind.OOM, "the machine ran out of memory", Certainty.HIGH, evidence)
    reason = final.message.strip().partition("\n")[0].rstrip() or final.error
    remedy = Remedy.USER if final.error in _MAY_WORK_LATER else None
    if _CUDA_FAILURE.search(reason):
        remedy = Remedy.RETRY
    return Outcome(OutcomeKind.ERROR, reason, evidence=evidence, remedy=remedy)


def _timed_out(observation: Observation, killed: Kill) -> Outcome:
    after = f"after {observation.wall_seconds:.0f} s, in phase {observation.phase}"
    evidence = f"stopped by the supervisor {after}"
    if killed is Kill.DEADLINE:
        reason = "the trial took longer than its time limit; raise --timeout"
        return Outcome(OutcomeKind.TIMEOUT, reason, evidence=evidence)
    certainty = Certainty.CERTAIN
    if killed is Kill.STALL:
        certainty = Certainty.MEDIUM  # a disk that does not answer looks the same
        evidence += (
            f"; no progress for {observation.idle_seconds:.0f} s, although a step takes "
            f"{observation.step_seconds or 0.0:.1f} s"
        )
    return Outcome(
        OutcomeKind.TIMEOUT,
        _HANGS[killed],
        certainty,
        evidence,
        advice="run it again; if it hangs again, look at the log",
        remedy=Remedy.FRESH_PROCESS,
    )


def _killed_by_kernel(
    observation: Observation, certainty: Certainty, counter: str, rise: int
) -> Outcome:
    evidence = f"{_death(observation)}; the {counter}'s OOM counter rose by {rise}"
    return Outcome(
        OutcomeKind.OOM, "the kernel killed the worker because memory ran out", certainty, evidence
    )


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
        return Outcome(OutcomeKind.ERROR, reason, Certainty.MEDIUM, evidence)
    if (
        not own or not lost or observation.phase is Phase.IMPORT
    ):  # the model is loaded in a later phase
        reason = f"{shortage}, cause unknown; close other programs and try again"
        return Outcome(OutcomeKind.ERROR, reason, Certainty.LOW, evidence)
    return Outcome(
        OutcomeKind.OOM, f"{shortage}, so the worker was stopped", Certainty.HIGH, evidence
    )


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
        return Outcome(OutcomeKind.OOM, reason, Certainty.MEDIUM, evidence)
    is_fault_on_cpu = number in (signal.SIGSEGV, signal.SIGBUS) and (
        observation.device is None or observation.device.backend == "cpu"
    )
    if is_fault_on_cpu and observation.memory_limited:
        # MLX's CPU allocator does not check malloc, so out of memory looks like any other bug.
        reason = "segmentation fault under a memory limit, possibly out of memory"
        evidence += "; RLIMIT_AS is set"
    return Outcome(OutcomeKind.CRASH, reason, Certainty.LOW, evidence)


def _from_exit(observation: Observation) -> Outcome:
    evidence = f"exit {observation.returncode} without a result, in phase {observation.phase}"
    last = observation.log_tail.strip().splitlines()[-1:]
    reason = ": ".join(["the worker ended without a result", *last])
    return Outcome(OutcomeKind.CRASH, reason, evidence=evidence)


def _death(observation: Observation) -> str:
    return f"killed by {_signal_name(-observation.returncode)}, in phase {observation.phase}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has a number only
        return f"signal {number}"
