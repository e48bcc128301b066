"""Runs workers that hang, or only seem to, and checks which of them are ended."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.chaos.report import Report, counted
from tests.support.fakes import hanging
from tests.support.trials import fake
from your_ai.supervision.classify import classify
from your_ai.supervision.observation import Kill
from your_ai.supervision.outcome import OutcomeKind
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog

LIMITS = Limits(deadline=15.0, stall=3.0)
"""Each worker begins with a step, so the duration of steps is known."""

LONGEST_STEP = 0.1
LONGEST_PAUSE = 1.0
AT_ONCE = 8

Script = list[tuple[str, float]]


def hangs(number: int = 100) -> Report:
    """Run ``number`` workers; half of them hang."""
    draw = random.Random(number)
    scripts = [_script(draw, hangs=bool(n % 2)) for n in range(number)]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, ThreadPoolExecutor(AT_ONCE) as pool:
        logs = [Path(name) / f"{n}.log" for n in range(number)]
        failures = [each for each in pool.map(_problem, scripts, logs) if each]
    figures = {
        "workers that hang": number // 2,
        "workers that compile kernels for longer than their deadline": _compiling(scripts),
        "actions": counted(action for script in scripts for action, _ in script),
        "workers that were ended although they did not hang, or the reverse": len(failures),
    }
    return Report("Workers that hang, or only seem to", figures, failures)


def _script(draw: random.Random, *, hangs: bool) -> Script:
    """Return what a worker does, with pauses much shorter than a stall."""
    actions = draw.choices(["step", "advance", "compile", "save"], k=draw.randrange(1, 12))
    script = [(action, draw.uniform(0.0, _longest(action))) for action in ["step", *actions]]
    if draw.random() < 0.1:  # the deadline must not include this
        script += [("compile", LONGEST_PAUSE)] * int(LIMITS.deadline / LONGEST_PAUSE + 1)
    return [*script, ("hang", 0.0)] if hangs else script


def _longest(action: str) -> float:
    return LONGEST_STEP if action == "step" else LONGEST_PAUSE


def _problem(script: Script, path: Path) -> str | None:
    """Run the worker; return what is wrong about its outcome, or ``None``."""
    seen = supervise(
        json.dumps(script).encode() + b"\n",
        log=TrialLog(path),
        limits=LIMITS,
        command=fake(hanging.follow),
    )
    steps = [action for action, _ in script].count("step")
    kind = classify(seen, steps).kind
    hung = script[-1][0] == "hang"
    expected: tuple[Any, Any] = (
        (Kill.STALL, OutcomeKind.TIMEOUT) if hung else (None, OutcomeKind.PASS)
    )
    return None if (seen.killed, kind) == expected else f"{seen.killed}, {kind} after {script}"


def _compiling(scripts: Iterable[Script]) -> int:
    seconds = (sum(s for action, s in script if action == "compile") for script in scripts)
    return sum(each > LIMITS.deadline for each in seconds)
