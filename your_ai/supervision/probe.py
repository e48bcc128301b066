"""Ask a worker about the device and models, so that the parent need not import MLX."""

from __future__ import annotations

import platform
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from worker.protocol.codec import encode
from worker.protocol.messages import Device, ModelFacts, ProbeAnswer
from worker.protocol.requests import PlannedModel, ProbeRequest
from your_ai.errors import MachineError, UsageError
from your_ai.supervision.classify import classify
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import OutcomeKind
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog

LIMITS = Limits(deadline=300)
_CLOSE = "Close other programs and try again."


def probe_device() -> Device:
    """Return the device that MLX trains on; raise MachineError if MLX does not work here."""
    seen = _probe({})
    if answer := _answer(seen):
        return answer.device
    raise blameless(seen) or MachineError(
        f"MLX does not work ({last_words(seen)}). Install it with: {install_line()}"
    )


def probe_models(models: Mapping[str, PlannedModel]) -> dict[str, ModelFacts | str]:
    """Return the facts about each model by name or, as a string, why mlx-lm cannot train it.

    Raises UsageError if a config crashes the worker, and MachineError if it ended for a reason
    that has nothing to do with the models.
    """
    if not models:
        return {}
    seen = _probe(models)
    if answer := _answer(seen):
        return {**answer.models, **answer.problems}
    names = " or ".join(models)
    raise blameless(seen) or UsageError(
        f"mlx-lm cannot create the model {names}: {last_words(seen)}. Choose another model."
    )


def install_line() -> str:
    """Return the command that installs the MLX backend for this machine."""
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    if platform.system() == "Darwin":
        return f"{pip} --force-reinstall mlx"
    if shutil.which("nvidia-smi"):
        return f"{pip} 'mlx[cuda13]' (cuda12 for a driver older than 580)"
    return f"{pip} 'mlx[cpu]'"


def _probe(models: Mapping[str, PlannedModel]) -> Observation:
    """Run the probe's worker to its end; raise KeyboardInterrupt if the user stopped it."""
    request = ProbeRequest(dict(models))
    with tempfile.TemporaryDirectory(prefix="your_ai-") as folder:
        log = TrialLog(Path(folder) / "probe.log")
        seen = supervise(encode(request), log=log, limits=LIMITS)
    if seen.killed is Kill.INTERRUPT:
        raise KeyboardInterrupt
    return seen


def _answer(seen: Observation) -> ProbeAnswer | None:
    last = seen.events[-1] if seen.events else None
    return last if isinstance(last, ProbeAnswer) else None


def blameless(seen: Observation) -> MachineError | None:
    """Return what to tell the user if neither the installation nor a model is proven to be bad."""
    outcome = classify(seen, steps=0)
    reason = _sentence(outcome.reason)
    if seen.killed is Kill.MEMORY:
        return MachineError(f"This machine is short of memory: {seen.alarm}. {_CLOSE}")
    if outcome.kind is OutcomeKind.TIMEOUT:
        check = f"{shlex.quote(sys.executable)} -c 'import mlx_lm'"
        return MachineError(
            f"MLX did not answer within {seen.wall_seconds:.0f} s. Try again. If that does not "
            f"help, check whether this command finishes: {check}"
        )
    if outcome.kind is OutcomeKind.OOM or seen.returncode == -signal.SIGKILL:
        return MachineError(f"{reason} {_CLOSE}")
    if outcome.kind is OutcomeKind.ERROR:  # a known message of MLX, such as that there is no GPU
        return MachineError(" ".join([reason, *map(_sentence, filter(None, [outcome.advice]))]))
    return None


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def last_words(seen: Observation) -> str:
    """Return the worker's last line or, after a crash, which ends in a stack trace, the signal."""
    lines = seen.log_tail.strip().splitlines()
    return lines[-1] if lines and seen.returncode > 0 else classify(seen, steps=0).reason
