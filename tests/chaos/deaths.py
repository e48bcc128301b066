"""Workers that really die, in every way that can be caused here, over and over."""

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
from worker.protocol.messages import ModelSource, Step, TrialRequest
from your_ai.supervision.outcome import classify
from your_ai.supervision.supervisor import WORKER, Limits, supervise
from your_ai.supervision.trial_log import TrialLog

LIMITED = ["sh", "-c", 'ulimit -c 0; ulimit -v 2097152; exec "$@"', "sh"]
HURRIED = Limits(deadline=60.0, silence=0.5, grace=0.3, closing=0.3)

Death = Callable[[Path], str]
"""Causes a death in a folder; how it was named: ``oom, certain``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to die, and what it must be called."""

    name: str
    cause: Death
    named: str


def deaths(times: int, kinds: Sequence[Kind] | None = None) -> Report:
    """Cause each kind of death so often; count how each was named."""
    failures = []
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, ThreadPoolExecutor(2) as pool:
        for kind in KINDS if kinds is None else kinds:
            folders = [Path(name) / f"{len(figures)}-{number}" for number in range(times)]
            named = Counter(pool.map(lambda folder: _caused(kind.cause, folder), folders))  # noqa: B023 - used at once
            figures[f"{kind.name}: {kind.named}"] = f"{named[kind.named]} of {times}"
            wrong = {other: count for other, count in named.items() if other != kind.named}
            failures += [f"{kind.name}: {count} times {other}" for other, count in wrong.items()]
            print(f"{kind.name}: {dict(named)}", flush=True)
    return Report("Workers that die: how each is named", figures, failures)


def _caused(cause: Death, folder: Path) -> str:
    folder.mkdir()
    try:
        return cause(folder)
    except Exception as error:  # noqa: BLE001 - it counts as the parent's own failure
        return f"parent failed: {error!r}"


def _faked(part: Callable[..., None], steps: int = dying.STEPS, limits: Limits = PATIENT) -> Death:
    def cause(folder: Path) -> str:
        log = TrialLog(folder / "log")
        outcome = classify(supervise(b"{}\n", log=log, limits=limits, command=fake(part)), steps)
        return f"{outcome.kind}, {outcome.certainty}"

    return cause


def _trained(spec: TrialRequest, command: list[str] | None = None) -> Death:
    def cause(folder: Path) -> str:
        log = TrialLog(folder / "log")
        command_line = command or [*WORKER]
        seen = supervise(encode(spec), log=log, limits=PATIENT, command=command_line)
        outcome = classify(seen, spec.steps)
        return f"{outcome.kind}, {outcome.certainty}"

    return cause


def _killed_in_training(folder: Path) -> str:
    spec, events = tiny_request(FOREVER), folder / "events"
    with supervising(encode(spec), TrialLog(folder / "log"), recorded_worker(events)) as supervised:
        wait_for(lambda: events_in(events, Step), "the first step")
        (pid,) = {json.loads(line)["pid"] for line in events.read_bytes().splitlines()[:1]}
        os.kill(pid, signal.SIGKILL)
        outcome = classify(supervised.result(), spec.steps)
    return f"{outcome.kind}, {outcome.certainty}"


def _killed_by_the_kernel(folder: Path) -> str:
    parent = [sys.executable, "-m", "tests.support.parent", str(folder / "log"), "5", "0"]
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
    unknown = replace(tiny_request(), model=ModelSource({"model_type": "nothing-like-it"}))
    beyond = replace(tiny_request(), budget_bytes=300_000)
    return [
        Kind("the kernel's OOM killer, in a cgroup", _killed_by_the_kernel, "oom, certain"),
        Kind(
            "ulimit -v: MLX's segfault",
            _trained(giant_request(), [*LIMITED, *WORKER]),
            "crash, low",
        ),
        Kind("SIGKILL in training", _killed_in_training, "crash, low"),
        Kind("CUDA's text", _faked(dying.fail_with_cudas_text), "oom, certain"),
        Kind("MLX's malloc text", _faked(dying.fail_with_mallocs_text), "oom, high"),
        Kind("Metal's text, SIGABRT", _faked(dying.abort_with_metals_text), "oom, high"),
        Kind("SIGABRT without a text", _faked(dying.abort_without_text), "crash, low"),
        Kind("SIGSEGV", _faked(dying.fault), "crash, low"),
        Kind("SIGSEGV after the last word", _faked(dying.pass_and_fault), "pass, certain"),
        Kind("steps left out", _faked(dying.pass_without_all_steps), "crash, certain"),
        Kind("exit 0 without a result", _faked(dying.exit_without_a_result), "crash, certain"),
        Kind("exit 3 with a traceback", _faked(dying.exit_with_a_traceback), "crash, certain"),
        Kind("dead before it reads", _faked(dying.die_before_reading), "crash, certain"),
        Kind("garbage on the pipe", _faked(garbling.write_binary), "crash, certain"),
        Kind("silence", _faked(hanging.say_nothing_more, 1, HURRIED), "timeout, certain"),
        Kind("stopped", _faked(hanging.stop, 1, HURRIED), "timeout, certain"),
        Kind("a closed pipe", _faked(hanging.close_the_pipe, 1, HURRIED), "timeout, certain"),
        Kind("an unknown model type", _trained(unknown), "error, certain"),
        Kind("over the budget", _trained(beyond), "over-budget, certain"),
    ]


KINDS = _kinds()
