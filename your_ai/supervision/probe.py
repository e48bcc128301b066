"""Ask a worker about the device and models, so that the parent need not import MLX."""

from __future__ import annotations

import platform
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from worker.protocol.codec import encode
from worker.protocol.messages import Device, ProbeAnswer
from worker.protocol.requests import PlannedModel, ProbeRequest
from your_ai.errors import MachineError, UsageError
from your_ai.supervision.classify import classify
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import OutcomeKind
from your_ai.supervision.probe_cache import Facts, Kind, ProbeCache
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog

LIMITS = Limits(deadline=300)
_CLOSE = "Close other programs and try again."


def probe_device() -> Device:
    """Return the device that MLX trains on; raise MachineError if MLX does not work here."""
    device, _ = probe([])
    return device


def probe(kinds: Sequence[Kind]) -> tuple[Device, list[Facts]]:
    """Ask one worker for the device, and for the facts about the models of each kind of training.

    The answers are kept in the cache.

    Raises:
        UsageError: if the config of a model crashes the worker.
        MachineError: if MLX does not work here, or the worker ended for another reason that has
            nothing to do with the models.
    """
    cache = ProbeCache.open()  # before the probe, during which MLX may be installed anew
    asked = {f"{n} {name}": kind[name] for n, kind in enumerate(kinds) for name in kind}
    seen = _run(asked)
    device = next((event for event in seen.events if isinstance(event, Device)), None)
    if device is None:
        cache.forget_device()
        raise blameless(seen) or _broken(seen)
    last = seen.events[-1]
    if not isinstance(last, ProbeAnswer):
        raise blameless(seen) or _refused({name for kind in kinds for name in kind}, seen)
    answers: Facts = {**last.models, **last.problems}
    found = [{name: answers[f"{n} {name}"] for name in kind} for n, kind in enumerate(kinds)]
    cache.keep(device, kinds, found)
    return device, found


def _broken(seen: Observation) -> MachineError:
    return MachineError(
        f"MLX does not work ({last_words(seen)}). Install it with: {install_line()}"
    )


def _refused(names: Iterable[str], seen: Observation) -> UsageError:
    listed = " or ".join(sorted(names))
    return UsageError(
        f"mlx-lm cannot create the model {listed}: {last_words(seen)}. Choose another model."
    )


def install_line() -> str:
    """Return the command that installs the MLX backend for this machine."""
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    if platform.system() == "Darwin":
        return f"{pip} --force-reinstall mlx"
    if shutil.which("nvidia-smi"):
        return f"{pip} 'mlx[cuda13]' (cuda12 for a driver older than 580)"
    return f"{pip} 'mlx[cpu]'"


def _run(models: Mapping[str, PlannedModel]) -> Observation:
    """Run the probe's worker to its end; raise KeyboardInterrupt if the user stopped it."""
    with tempfile.TemporaryDirectory(prefix="your_ai-") as folder:
        log = TrialLog(Path(folder) / "probe.log")
        seen = supervise(encode(ProbeRequest(dict(models))), log=log, limits=LIMITS)
    if seen.killed is Kill.INTERRUPT:
        raise KeyboardInterrupt
    return seen


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
