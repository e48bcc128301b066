"""Classifying observations: all known endings, and which evidence takes precedence."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import CPU, METAL, began, observed, passing_events, result
from tests.support.macs import NO_METAL, NO_METAL_BEFORE_0_32
from worker.protocol.messages import Event, Failed, OverBudget, Passed, Phase, PhaseBegan, Step
from your_ai.supervision.classify import classify, weights_over_budget
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import Certainty, Outcome, OutcomeKind, Remedy
from your_ai.units import GB

STEPS = 5

CUDA_OOM = "cudaMallocAsync(&data, size, stream) failed: out of memory"
MALLOC_OOM = "[malloc] Unable to allocate 8589934592 bytes."
CUDA_COPY = "cudaMemcpy(data, buf.data, buf.size, kind) failed: invalid argument"
METAL_OOM = (
    "[METAL] Command buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
)
BUFFER_SIZE = (
    "[metal::malloc] Attempting to allocate 33554432000 bytes which is greater than the maximum "
    "allowed buffer size of 14495514624 bytes."
)
RESOURCE_LIMIT = "[metal::malloc] Resource limit (499000) exceeded."
INTERACTIVITY = (
    "[METAL] Command buffer execution failed: Impacting Interactivity "
    "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
)
GPU_TIMEOUT = (
    "[METAL] Command buffer execution failed: Caused GPU Timeout Error "
    "(00000002:kIOGPUCommandBufferCallbackErrorTimeout)"
)
HANG = (
    "[METAL] Command buffer execution failed: Caused GPU Hang Error "
    "(00000003:kIOGPUCommandBufferCallbackErrorHang)"
)
PAGE_FAULT = (
    "[METAL] Command buffer execution failed: Caused GPU Address Fault Error "
    "(0000000b:kIOGPUCommandBufferCallbackErrorPageFault)"
)
VICTIM = (
    "[METAL] Command buffer execution failed: Innocent Victim Error "
    "(00000005:kIOGPUCommandBufferCallbackErrorInnocentVictim)"
)
IGNORED = (
    "[METAL] Command buffer execution failed: Ignored "
    "(00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)"
)

TEXTS = [
    pytest.param(CUDA_OOM, OutcomeKind.OOM, Certainty.CERTAIN, id="cuda"),
    pytest.param(MALLOC_OOM, OutcomeKind.OOM, Certainty.HIGH, id="malloc"),
    pytest.param(METAL_OOM, OutcomeKind.OOM, Certainty.HIGH, id="metal"),
    pytest.param(BUFFER_SIZE, OutcomeKind.ERROR, Certainty.CERTAIN, id="buffer-size"),
    pytest.param(RESOURCE_LIMIT, OutcomeKind.ERROR, Certainty.CERTAIN, id="resource-limit"),
    pytest.param(NO_METAL, OutcomeKind.ERROR, Certainty.CERTAIN, id="no-metal"),
    pytest.param(
        NO_METAL_BEFORE_0_32.splitlines()[0],
        *(OutcomeKind.ERROR, Certainty.CERTAIN),
        id="no-metal-before-0.32",
    ),
    pytest.param(INTERACTIVITY, OutcomeKind.CRASH, Certainty.HIGH, id="interactivity"),
    pytest.param(GPU_TIMEOUT, OutcomeKind.CRASH, Certainty.HIGH, id="gpu-timeout"),
    pytest.param(HANG, OutcomeKind.CRASH, Certainty.MEDIUM, id="hang"),
    pytest.param(PAGE_FAULT, OutcomeKind.CRASH, Certainty.MEDIUM, id="page-fault"),
    pytest.param(VICTIM, OutcomeKind.CRASH, Certainty.MEDIUM, id="innocent-victim"),
    pytest.param(IGNORED, OutcomeKind.CRASH, Certainty.MEDIUM, id="submissions-ignored"),
]


def failed(message: str, error: str = "RuntimeError") -> Observation:
    return observed(
        *began(Phase.TIGHT, 2.0), Failed(3.0, Phase.TIGHT, error, message), returncode=1
    )


def died(number: int, log: str = "", **changed: Any) -> Observation:
    seen = observed(*began(Phase.TIGHT, 2.0), returncode=-number, log_tail=log)
    return replace(seen, **changed)


def test_an_oom_kill_after_closing_the_pipe_is_an_oom() -> None:
    outcome = classify(died(signal.SIGKILL, killed=Kill.CLOSED, oom_kills=1), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.CERTAIN)


def test_an_oom_in_the_relaxed_phase_reports_needed_memory() -> None:
    text = "cudaMallocAsync(&data, size, stream) failed: out of memory"
    events = [e for e in passing_events(STEPS) if not isinstance(e, Passed)]
    failure = Failed(29.0, Phase.RELAXED, "RuntimeError", text)
    outcome = classify(observed(*events, failure, returncode=1), STEPS)
    assert outcome.kind is OutcomeKind.OOM
    assert outcome.reason.endswith(
        "the training itself needs only 6.0 GB and should run with a lower --max-memory"
    )


def test_over_budget_in_the_relaxed_phase_is_not_reported_as_needed() -> None:
    over = OverBudget(20.0, Phase.RELAXED, 9 * 2**30, planned=False)
    outcome = classify(observed(*began(Phase.RELAXED, 10.0), over, returncode=1), STEPS)
    assert outcome.reason == "could not keep the peak (9.0 GB) within the budget"


def test_the_last_known_message_is_the_cause() -> None:
    survived = "[metal::malloc] Resource limit (499000) exceeded"
    fatal = "[malloc] Unable to allocate 5 bytes"
    outcome = classify(died(signal.SIGABRT, f"{survived}\nand on\n{fatal}\nstack"), STEPS)
    assert (outcome.kind, outcome.evidence) == (OutcomeKind.OOM, fatal)


def passed(**changed: Any) -> Observation:
    return replace(observed(*passing_events(STEPS)), **changed)


@pytest.mark.parametrize(("text", "kind", "certainty"), TEXTS)
def test_a_known_message_in_an_exception(
    text: str, kind: OutcomeKind, certainty: Certainty
) -> None:
    outcome = classify(failed(text), STEPS)
    assert (outcome.kind, outcome.certainty, outcome.evidence) == (kind, certainty, text)


@pytest.mark.parametrize(("text", "kind", "certainty"), TEXTS)
def test_a_known_message_in_the_log_of_an_abort(
    text: str, kind: OutcomeKind, certainty: Certainty
) -> None:
    line = f"libc++abi: terminating due to uncaught exception of type std::runtime_error: {text}"
    log = f"Fetching 3 files\n{line}\nFatal Python error: Aborted\n"
    outcome = classify(died(signal.SIGABRT, log), STEPS)
    assert (outcome.kind, outcome.certainty, outcome.evidence) == (kind, certainty, line)


@pytest.mark.parametrize(("text", "kind", "_certainty"), TEXTS)
def test_a_known_message_is_explained(text: str, kind: OutcomeKind, _certainty: Certainty) -> None:
    reason = classify(failed(text), STEPS).reason
    assert "\n" not in reason
    assert ("ran out of memory" in reason) == (kind is OutcomeKind.OOM)


INNOCENT = [
    "memory",
    "out of memory",
    "error: memory",
    "Model type nonesuch not supported.",
    "Missing 4 parameters: \nmodel.layers.0.self_attn.q_proj.weight",
    "Expected shape (512, 64) but received shape (512, 32) for parameter model.weight",
    "401 Client Error. Cannot access gated repo: memory-lab/out-of-memory-7b",
    "403 Forbidden: Please enable access to public gated repositories",
    "Repository Not Found for url: https://huggingface.co/a/b",
    "Revision Not Found for url: https://huggingface.co/a/b",
    "Offline mode is enabled",
    "[Errno 28] No space left on device",
    "[load_safetensors] Invalid json header length /m/model.safetensors",
    "cudaGraphLaunch(graph) failed: invalid argument",
    "metal::malloc succeeded",
    "",
]


@pytest.mark.parametrize("message", INNOCENT)
def test_unknown_messages_are_not_a_cause(message: str) -> None:
    outcome = classify(failed(message, "ValueError"), STEPS)
    assert outcome.kind is OutcomeKind.ERROR
    assert outcome.reason == (message.partition("\n")[0].strip() or "ValueError")
    assert message in outcome.evidence
    assert classify(died(signal.SIGABRT, message), STEPS).kind is OutcomeKind.CRASH


def test_pythons_own_memory_error_is_an_oom() -> None:
    outcome = classify(failed("", "MemoryError"), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.HIGH)


def test_a_pass() -> None:
    outcome = classify(passed(), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.PASS, Certainty.CERTAIN)
    assert (
        outcome.evidence == "5 steps finished without an MLX error, losses finite, weights changed"
    )


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_signal_after_the_final_event_is_a_pass(number: int) -> None:
    outcome = classify(passed(returncode=-number, log_tail=METAL_OOM), STEPS)
    assert outcome.kind is OutcomeKind.PASS
    assert outcome.evidence.endswith(f"then {signal.Signals(number).name} at exit")


@pytest.mark.parametrize("counted", [0, 4, 6])
def test_a_pass_with_the_wrong_number_of_steps_is_a_crash(counted: int) -> None:
    outcome = classify(observed(*passing_events(counted)), STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.evidence == f"{counted} of 5 steps were reported"


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        (True, weights_over_budget(12 * GB)),
        (
            False,
            Outcome(
                OutcomeKind.OVER_BUDGET,
                "needs at least 12.0 GB",
                evidence="12884901888 bytes in phase load",
            ),
        ),
    ],
)
def test_over_budget_reports_the_size(planned: bool, expected: Outcome) -> None:
    final = OverBudget(3.0, Phase.LOAD, 12 * GB, planned)
    outcome = classify(observed(*began(Phase.LOAD, 1.0), final, returncode=1), STEPS)
    assert outcome == expected
    assert outcome.certainty is Certainty.CERTAIN
    assert "12.0 GB" in outcome.reason
    assert outcome.evidence.startswith("12884901888 bytes ")


def test_sigkill_with_an_increased_counter_is_an_oom() -> None:
    outcome = classify(died(signal.SIGKILL, oom_kills=1, machine_oom_kills=1), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.CERTAIN)
    assert "SIGKILL" in outcome.evidence
    assert "the kernel's OOM counter rose by 1" in outcome.evidence


def test_sigkill_with_only_the_machines_counter_is_less_certain() -> None:
    outcome = classify(died(signal.SIGKILL, oom_kills=None, machine_oom_kills=2), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.HIGH)
    assert "the machine's OOM counter rose by 2" in outcome.evidence


@pytest.mark.parametrize(
    "counts",
    [(None, None), (0, 0), (None, 0), (0, None), (0, 3)],
    ids=["no-counters", "none-rose", "machine-none-rose", "own-none-rose", "another-process"],
)
def test_sigkill_without_an_increased_counter_has_no_known_cause(
    counts: tuple[int | None, int | None],
) -> None:
    own, machine = counts
    outcome = classify(died(signal.SIGKILL, oom_kills=own, machine_oom_kills=machine), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.CRASH, Certainty.LOW)
    assert outcome.reason == "the worker was killed by SIGKILL, cause unknown"


def test_sigkill_under_critical_pressure_is_probably_out_of_memory() -> None:
    outcome = classify(died(signal.SIGKILL, final_pressure="critical"), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.MEDIUM)
    assert "probably" in outcome.reason


def test_sigkill_long_after_critical_pressure_has_no_known_cause() -> None:
    seen = died(signal.SIGKILL, pressure="critical", final_pressure="normal")
    assert classify(seen, STEPS).kind is OutcomeKind.CRASH


def test_a_hang_is_no_certain_cause() -> None:
    outcome = classify(died(signal.SIGKILL, killed=Kill.STALL, idle_seconds=301.0), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.TIMEOUT, Certainty.MEDIUM)
    assert "no progress for 301 s" in outcome.evidence


@pytest.mark.parametrize(
    ("seen", "remedy"),
    [
        (died(signal.SIGKILL, killed=Kill.MEMORY, alarm="swap"), Remedy.WAIT),
        (died(signal.SIGKILL, killed=Kill.STALL), Remedy.FRESH_PROCESS),
        (died(signal.SIGTERM, killed=Kill.SILENCE), Remedy.FRESH_PROCESS),
        (died(signal.SIGTERM, killed=Kill.DEADLINE), None),
        (died(signal.SIGABRT, log_tail=RESOURCE_LIMIT), Remedy.FRESH_PROCESS),
        (died(signal.SIGABRT, log_tail=HANG), Remedy.RETRY),
        (died(signal.SIGABRT, log_tail=METAL_OOM), None),
        (failed(CUDA_OOM), None),
        (failed(CUDA_COPY), Remedy.RETRY),
        (failed("another problem"), Remedy.USER),
        (died(signal.SIGKILL), None),
        (observed(Failed(1.0, Phase.TRAIN, "CheckpointError", "cannot write")), Remedy.USER),
        (observed(Failed(1.0, Phase.TRAIN, "EvidenceError", "nothing changed")), None),
    ],
)
def test_what_can_help(seen: Observation, remedy: Remedy | None) -> None:
    assert classify(seen, STEPS).remedy is remedy


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS])
def test_a_fault_on_the_cpu_under_a_memory_limit_is_only_suspected_as_oom(number: int) -> None:
    outcome = classify(died(number, memory_limited=True), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.CRASH, Certainty.LOW)
    assert "possibly out of memory" in outcome.reason
    assert "RLIMIT_AS" in outcome.evidence


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS])
def test_a_fault_without_a_limit_is_not_suspected_as_oom(number: int) -> None:
    assert "memory" not in classify(died(number), STEPS).reason


def test_a_fault_on_a_gpu_is_not_suspected_as_oom() -> None:
    seen = observed(*began(Phase.TIGHT, 2.0, METAL), returncode=-signal.SIGSEGV)
    assert "memory" not in classify(replace(seen, memory_limited=True), STEPS).reason


def test_an_abort_without_a_message_has_no_known_cause() -> None:
    outcome = classify(died(signal.SIGABRT), STEPS)
    assert outcome == Outcome(
        OutcomeKind.CRASH,
        "the worker was killed by SIGABRT, cause unknown",
        Certainty.LOW,
        "killed by SIGABRT, in phase tight",
    )


def test_a_signal_without_a_name_is_reported() -> None:
    assert classify(died(35), STEPS).reason == "the worker was killed by signal 35, cause unknown"


@pytest.mark.parametrize("returncode", [0, 1, 139])
def test_an_exit_without_a_final_event_is_never_a_pass(returncode: int) -> None:
    seen = observed(*passing_events(STEPS)[:-1], returncode=returncode)
    outcome = classify(seen, STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.CRASH, Certainty.CERTAIN)
    assert outcome.evidence == f"exit {returncode} without a result, in phase relaxed"


def test_an_exit_quotes_the_logs_last_line() -> None:
    seen = observed(returncode=1, log_tail="Traceback:\n  File x\nModuleNotFoundError: mlx\n\n")
    assert classify(seen, STEPS).reason.endswith("without a result: ModuleNotFoundError: mlx")


@pytest.mark.parametrize(
    ("kill", "words"), [(Kill.DEADLINE, "--timeout"), (Kill.SILENCE, "stopped reporting")]
)
def test_a_timeout_is_neither_a_pass_nor_an_oom(kill: Kill, words: str) -> None:
    seen = died(signal.SIGKILL, killed=kill, oom_kills=1, machine_oom_kills=1)
    outcome = classify(seen, STEPS)
    assert outcome.kind is OutcomeKind.TIMEOUT
    assert words in outcome.reason
    assert "after 31 s, in phase tight" in outcome.evidence


SHORT = "0.3 GB of memory left"


def ended(own: int | None, lost: int, phase: Phase = Phase.TIGHT) -> Observation:
    """Return the observation of a worker that the memory guard killed."""
    seen = observed(*began(phase, 2.0), returncode=-signal.SIGKILL)
    return replace(
        seen,
        killed=Kill.MEMORY,
        alarm=SHORT,
        footprint_peak_bytes=own,
        machine_lost_bytes=lost,
    )


@pytest.mark.parametrize("own", [3 * GB, 6 * GB, 30 * GB])
def test_a_worker_that_used_up_the_memory_is_an_oom(own: int) -> None:
    outcome = classify(ended(own, 6 * GB), STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.HIGH)
    assert outcome.reason == f"the machine ran short of memory ({SHORT}), so the worker was stopped"
    assert outcome.evidence == (
        f"{SHORT}, in phase tight; the worker's footprint: "
        f"{own / GB:.1f} GB; available memory fell by 6.0 GB since its start"
    )


@pytest.mark.parametrize(
    ("seen", "certainty", "words"),
    [
        pytest.param(ended(3 * GB - 1, 6 * GB), Certainty.MEDIUM, "other programs", id="less"),
        pytest.param(ended(1, 6 * GB, Phase.IMPORT), Certainty.MEDIUM, "other", id="import-less"),
        pytest.param(ended(None, 6 * GB), Certainty.LOW, "cause unknown", id="unknown"),
        pytest.param(ended(6 * GB, 0), Certainty.LOW, "cause unknown", id="nothing-lost"),
        pytest.param(ended(0, 0), Certainty.LOW, "cause unknown", id="nothing-at-all"),
        pytest.param(ended(GB, GB, Phase.IMPORT), Certainty.LOW, "cause unknown", id="no-model"),
    ],
)
def test_a_worker_is_not_blamed_without_evidence(
    seen: Observation, certainty: Certainty, words: str
) -> None:
    outcome = classify(seen, STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.ERROR, certainty)
    assert words in outcome.reason
    assert SHORT in outcome.reason
    assert not result(None, seen, outcome).proves_too_large


def test_only_an_oom_in_the_tight_phase_proves_a_model_too_large() -> None:
    seen = ended(6 * GB, 6 * GB)
    assert result(None, seen).proves_too_large
    relaxed = tuple(e for e in passing_events(STEPS) if not isinstance(e, Passed))
    ahead = replace(seen, events=relaxed)
    outcome = classify(ahead, STEPS)
    assert outcome.kind is OutcomeKind.OOM
    assert outcome.reason.endswith(
        "the training itself needs only 6.0 GB and should run with a lower --max-memory"
    )
    assert not result(None, ahead, outcome).proves_too_large


def test_an_interrupt() -> None:
    outcome = classify(died(signal.SIGTERM, killed=Kill.INTERRUPT), STEPS)
    assert outcome.kind is OutcomeKind.INTERRUPTED


def test_a_corrupt_pipe_is_always_a_crash() -> None:
    seen = passed(corrupt="not a JSON line: \x00garbage", killed=Kill.CORRUPT, returncode=-9)
    outcome = classify(seen, STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert "garbage" in outcome.evidence


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        pytest.param(passed(killed=Kill.DEADLINE), OutcomeKind.PASS, id="last-word-over-deadline"),
        pytest.param(passed(killed=Kill.SILENCE), OutcomeKind.PASS, id="last-word-over-silence"),
        pytest.param(passed(killed=Kill.MEMORY), OutcomeKind.PASS, id="last-word-over-watchdog"),
        pytest.param(
            replace(ended(6 * GB, 6 * GB), log_tail=BUFFER_SIZE),
            OutcomeKind.OOM,
            id="watchdog-over-text",
        ),
        pytest.param(
            died(signal.SIGTERM, METAL_OOM, killed=Kill.DEADLINE),
            OutcomeKind.TIMEOUT,
            id="our-own-kill-over-text",
        ),
        pytest.param(
            died(signal.SIGTERM, METAL_OOM, killed=Kill.INTERRUPT),
            OutcomeKind.INTERRUPTED,
            id="the-users-interrupt-over-text",
        ),
        pytest.param(
            died(signal.SIGKILL, INTERACTIVITY, oom_kills=1),
            OutcomeKind.OOM,
            id="the-kernels-count-over-text",
        ),
        pytest.param(
            died(signal.SIGKILL, BUFFER_SIZE, machine_oom_kills=1),
            OutcomeKind.ERROR,
            id="text-over-the-machines-count",
        ),
        pytest.param(
            replace(failed("shape mismatch"), log_tail=METAL_OOM, oom_kills=1),
            OutcomeKind.ERROR,
            id="last-word-over-log-and-count",
        ),
        pytest.param(
            died(signal.SIGSEGV, CUDA_OOM, memory_limited=True),
            OutcomeKind.OOM,
            id="text-over-suspicion",
        ),
    ],
)
def test_the_stronger_evidence_prevails(seen: Observation, kind: OutcomeKind) -> None:
    assert classify(seen, STEPS).kind is kind


def test_only_the_last_event_can_be_final() -> None:
    events = passing_events(STEPS)
    seen = observed(*events, events[1], returncode=0)
    assert classify(seen, STEPS).kind is OutcomeKind.CRASH


def test_only_the_last_relaxed_attempt_is_counted() -> None:
    whole = passing_events(STEPS)
    cut = whole.index(PhaseBegan(10.0, Phase.RELAXED, 8 * 2**30))
    abandoned = (
        PhaseBegan(8.5, Phase.RELAXED, 8 * 2**30),
        Step(9.0, Phase.RELAXED, 1, 0.5, 2046, 6.9, 9 * 2**30),
    )
    seen = observed(*whole[:cut], *abandoned, *whole[cut:])
    assert len(seen.steps) == len(observed(*whole).steps) + 1
    assert classify(seen, STEPS).kind is OutcomeKind.PASS


EVENT_TUPLES: st.SearchStrategy[tuple[Event, ...]] = st.sampled_from(
    [
        (),
        (CPU,),
        tuple(began(Phase.LOAD, 1.0)),
        passing_events(STEPS),
        passing_events(3),
        (Failed(1.0, Phase.LOAD, "ValueError", "memory error"),),
        (OverBudget(1.0, Phase.LOAD, 5, planned=True),),
        (Passed(1.0, 1, 1, 1, 1),),
    ]
)
COUNTS = st.none() | st.integers(0, 2)
SIZES = st.sampled_from([0, 1, 3 * GB, 6 * GB])
OBSERVATIONS = st.builds(
    Observation,
    events=EVENT_TUPLES,
    returncode=st.integers(-64, 255),
    wall_seconds=st.floats(0, 1e6),
    killed=st.none() | st.sampled_from(Kill),
    corrupt=st.none() | st.text(),
    log_tail=st.text() | st.sampled_from([METAL_OOM, HANG, "out of memory", "\n\n \n"]),
    log_discarded_bytes=st.just(0),
    oom_kills=COUNTS,
    machine_oom_kills=COUNTS,
    memory_limited=st.booleans(),
    final_pressure=st.none() | st.sampled_from(["normal", "warning", "critical"]),
    alarm=st.just(SHORT),
    machine_lost_bytes=SIZES,
    footprint_peak_bytes=st.none() | SIZES,
    footprints=st.just(()),
)


@given(OBSERVATIONS)
def test_every_observation_has_an_outcome_with_evidence(seen: Observation) -> None:
    outcome = classify(seen, STEPS)
    assert outcome.evidence
    assert outcome.reason
    assert "\n" not in outcome.reason


@given(OBSERVATIONS)
def test_a_pass_or_an_oom_requires_evidence(seen: Observation) -> None:
    kind = classify(seen, STEPS).kind
    if kind is OutcomeKind.PASS:
        assert isinstance(seen.final, Passed)
        assert len(seen.counted_steps) == STEPS
    if kind is OutcomeKind.OOM:
        counted = seen.returncode == -signal.SIGKILL and (seen.oom_kills or seen.machine_oom_kills)
        own, lost = seen.footprint_peak_bytes, seen.machine_lost_bytes
        took = seen.killed is Kill.MEMORY and own is not None and 2 * own >= lost > 0
        pressed = seen.returncode == -signal.SIGKILL and seen.final_pressure == "critical"
        assert counted or took or pressed or METAL_OOM in seen.log_tail


def test_the_labels_of_outcomes() -> None:
    assert [kind.label for kind in OutcomeKind] == [
        "Pass",
        "OOM",
        "Over budget",
        "Timeout",
        "Crash",
        "Error",
        "Skipped",
        "Interrupted",
    ]
