"""Makes workers die, repeatedly and in many ways, and checks how each death is classified."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.chaos.report import Report
from tests.support.cgroups import MIB, memory_cgroup
from tests.support.fakes import dying, garbling, hanging
from tests.support.trials import (
    FOREVER,
    PATIENT,
    events_in,
    fake,
    giant_request,
    recorded_worker,
    supervising,
    tiny_request,
    wait_for,
)
from worker.protocol.codec import encode
from worker.protocol.messages import Step
from worker.protocol.requests import ModelSource, TrialRequest
from your_ai.supervision.classify import classify
from your_ai.supervision.supervisor import WORKER, Limits, supervise
from your_ai.supervision.trial_log import TrialLog

LIMITED = ["sh", "-c", 'ulimit -c 0; ulimit -v 2097152; exec "$@"', "sh"]
IMPATIENT = Limits(deadline=60.0, silence=0.5, grace=0.3, closing=0.3)

Death = Callable[[Path], str]
"""Makes a worker die, with its files in a folder. Returns the outcome, such as "oom, certain"."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to die, and the expected outcome."""

    name: str
    cause: Death
    expected: str


def deaths(times: int, kinds: Sequence[Kind] | None = None) -> Report:
    """Cause each kind of death ``times`` times, and count the outcomes."""
    failures = []
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, ThreadPoolExecutor(2) as pool:
        for kind in KINDS if kinds is None else kinds:
            folders = [Path(name) / f"{len(figures)}-{number}" for number in range(times)]
            outcomes = Counter(pool.map(partial(_caused, kind.cause), folders))
            figures[f"{kind.name}: {kind.expected}"] = f"{outcomes[kind.expected]} of {times}"
            wrong = {other: count for other, count in outcomes.items() if other != kind.expected}
            failures += [f"{kind.name}: {count} times {other}" for other, count in wrong.items()]
            print(f"{kind.name}: {dict(outcomes)}", flush=True)
    return Report("Workers that die: outcomes", figures, failures)


def _caused(cause: Death, folder: Path) -> str:
    folder.mkdir()
    try:
        return cause(folder)
    except Exception as error:  # noqa: BLE001 - whatever the parent raises is the failure to count
        return f"parent failed: {error!r}"


def _fake_death(
    behavior: Callable[..., None], steps: int = dying.STEPS, limits: Limits = PATIENT
) -> Death:
    def cause(folder: Path) -> str:
        log = TrialLog(folder / "log")
        seen = supervise(b"{}\n", log=log, limits=limits, command=fake(behavior))
        outcome = classify(seen, steps)
        return f"{outcome.kind}, {outcome.certainty}"

    return cause


def _real_death(request: TrialRequest, command: list[str] | None = None) -> Death:
    def cause(folder: Path) -> str:
        log = TrialLog(folder / "log")
        command_line = command or [*WORKER]
        seen = supervise(encode(request), log=log, limits=PATIENT, command=command_line)
        outcome = classify(seen, request.steps)
        return f"{outcome.kind}, {outcome.certainty}"

    return cause


def _killed_in_training(folder: Path) -> str:
    request, events = tiny_request(FOREVER), folder / "events"
    log = TrialLog(folder / "log")
    with supervising(encode(request), log, recorded_worker(events)) as supervised:
        wait_for(lambda: events_in(events, Step), "the first step")
        (pid,) = {json.loads(line)["pid"] for line in events.read_bytes().splitlines()[:1]}
        os.kill(pid, signal.SIGKILL)
        outcome = classify(supervised.result(), request.steps)
    return f"{outcome.kind}, {outcome.certainty}"


def _killed_by_the_kernel(folder: Path) -> str:
    words = [str(folder / "log"), "5", "0", "unguarded"]
    parent = [sys.executable, "-m", "tests.support.parent", *words]
    with memory_cgroup(400 * MIB) as cgroup:
        answer = subprocess.run(
            cgroup.command([*parent, *WORKER]),
            input=encode(giant_request()),
            capture_output=True,
            check=True,
            timeout=PATIENT.deadline,
        )
    seen = json.loads(answer.stdout)
    return f"{seen['kind']}, {seen['certainty']}"


def _kinds() -> list[Kind]:
    unsupported = replace(tiny_request(), model=ModelSource({"model_type": "nonesuch"}))
    too_large = replace(tiny_request(), budget_bytes=300_000)
    return [
        Kind("killed by the kernel in a cgroup", _killed_by_the_kernel, "oom, certain"),
        Kind(
            "MLX segfault under ulimit -v",
            _real_death(giant_request(), [*LIMITED, *WORKER]),
            "crash, low",
        ),
        Kind("SIGKILL while training", _killed_in_training, "crash, low"),
        Kind("CUDA message", _fake_death(dying.fail_with_cuda_message), "oom, certain"),
        Kind("malloc message", _fake_death(dying.fail_with_malloc_message), "oom, high"),
        Kind("SIGABRT, Metal message", _fake_death(dying.abort_with_metal_message), "oom, high"),
        Kind("SIGABRT, no message", _fake_death(dying.abort_without_message), "crash, low"),
        Kind("SIGSEGV", _fake_death(dying.segfault), "crash, low"),
        Kind(
            "SIGSEGV after the final event", _fake_death(dying.pass_and_segfault), "pass, certain"
        ),
        Kind("missing steps", _fake_death(dying.pass_without_all_steps), "crash, certain"),
        Kind("exit 0 without result", _fake_death(dying.exit_without_a_result), "crash, certain"),
        Kind("exit 3 with traceback", _fake_death(dying.exit_with_a_traceback), "crash, certain"),
        Kind("exit before reading", _fake_death(dying.exit_before_reading), "crash, certain"),
        Kind("garbage on the pipe", _fake_death(garbling.write_binary), "crash, certain"),
        Kind("silence", _fake_death(hanging.stay_silent, 1, IMPATIENT), "timeout, certain"),
        Kind("stopped", _fake_death(hanging.stop, 1, IMPATIENT), "timeout, certain"),
        Kind("closed pipe", _fake_death(hanging.close_the_pipe, 1, IMPATIENT), "timeout, certain"),
        Kind("unknown model type", _real_death(unsupported), "error, certain"),
        Kind("over budget", _real_death(too_large), "over-budget, certain"),
    ]


KINDS = _kinds()
