"""``your_ai doctor``: check whether this machine can run trials."""

from __future__ import annotations

import math
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import click

from worker.protocol.codec import encode
from your_ai import __version__
from your_ai.errors import ExitCode, MachineError
from your_ai.models import hub, presets, resolve
from your_ai.models.quantization import NONE
from your_ai.planning.device import Device, budget_bytes, from_probe, gpu_uuid
from your_ai.planning.plan import TrainingOptions, plan
from your_ai.runs.run_dir import runs_dir
from your_ai.supervision import memory_guard
from your_ai.supervision.classify import classify
from your_ai.supervision.observation import Kill
from your_ai.supervision.outcome import OutcomeKind
from your_ai.supervision.probe import install_line, probe_device
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog
from your_ai.system import cgroups, machine, memory, nvidia, worker_cgroup
from your_ai.system.machine import Machine
from your_ai.system.nvidia import Gpu
from your_ai.terminal.output import say
from your_ai.units import GB, show_size

MIN_FOR_RUNS = GB // 10
"""Disk space in bytes for the journal and logs of a long run."""

MIN_FOR_WEIGHTS = 16 * GB
"""Disk space in bytes for the weights of a 7B model at 2 bytes per parameter."""

_RUNS_ADVICE = "free some space, make the folder writable, or start runs with --run-dir elsewhere"
_CACHE_ADVICE = (
    "free some space, make the folder writable, or set HF_HOME to another one; this folder is "
    "needed only to download weights"
)

_OOM_ADVICE = (
    "start your_ai as the only process of a container with a memory limit and a writable cgroup "
    "file system, or set singleProcessOOMKill in the kubelet's configuration; otherwise, continue "
    "with --resume after such a kill"
)

TRAINING = TrainingOptions(batch_size=1, lora_rank=4, seq_length=32, steps=2, quantize=NONE)


class Mark(StrEnum):
    """How serious a finding is."""

    OK = "✓"
    WARNING = "!"
    ERROR = "✗"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; ``advice`` says what to do about a problem."""

    mark: Mark
    text: str
    advice: str | None = None


@click.command(name="doctor")
def command() -> ExitCode:
    """Check everything that a run depends on, and run a short trial.

    ✓ ok, ! warning, ✗ trials cannot run (exit code 3).
    """
    is_ok = True
    for finding in findings(machine.describe()):
        is_ok = is_ok and finding.mark is not Mark.ERROR
        say(f"{finding.mark} {finding.text}")
        if finding.advice is not None:
            say(f"    {finding.advice}")
    return ExitCode.OK if is_ok else ExitCode.MACHINE


def findings(machine: Machine) -> Iterator[Finding]:
    """Run the checks, a trial last; those that need MLX are left out if it does not work."""
    yield Finding(
        Mark.OK,
        f"your_ai {__version__}, Python {machine.python}, {machine.system} {machine.release} "
        f"({machine.architecture}, {machine.cpus} CPUs)",
    )
    yield from _oom_kill()
    yield _disk("runs", runs_dir(), MIN_FOR_RUNS, Mark.ERROR, _RUNS_ADVICE)
    yield _disk("model cache", hub.cache_dir(), MIN_FOR_WEIGHTS, Mark.WARNING, _CACHE_ADVICE)
    try:
        answer = probe_device()
    except MachineError as error:
        yield Finding(Mark.ERROR, str(error))
        return
    device = from_probe(answer, machine)
    yield _device(device)
    memory_found = _memory(nvidia.gpu_of(device.backend, gpu_uuid(answer)))
    yield memory_found
    yield _budget(device)
    if memory_found.mark is not Mark.ERROR:  # `benchmark` would not start a trial either
        yield _trial(device)


def _oom_kill() -> Iterator[Finding]:
    """Warn if the kernel's OOM killer would end this process together with the worker."""
    own = cgroups.of_process(os.getpid())
    if own is None or not own.is_killed_as_a_whole():
        return
    with worker_cgroup.created() as separate:
        if separate is None:
            text = "OOM killer: it would kill your_ai together with the worker (memory.oom.group=1)"
            yield Finding(Mark.WARNING, text, _OOM_ADVICE)


def _memory(gpu: Gpu | None) -> Finding:
    now = memory.for_trials(gpu)
    shown = (
        f"Memory: {show_size(now.available_bytes)} of {show_size(now.total_bytes)} available, "
        f"{show_size(now.swap_used_bytes)} in swap"
    )
    if now.pressure is not None:
        shown += f", pressure {now.pressure}"
    if short := memory_guard.shortage(now):
        advice = "close other programs or, in a container, raise its memory limit"
        return Finding(Mark.ERROR, shown, f"{short}, so no trial can start; {advice}")
    return Finding(Mark.OK, shown)


def _disk(name: str, folder: Path, least: int, severity: Mark, advice: str) -> Finding:
    folders = (folder, *folder.absolute().parents)
    existing = next(each for each in folders if os.path.exists(each))  # noqa: PTH110 - Path may raise
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(severity, f"Disk for the {name}: {existing} is not writable", advice)
    free = shutil.disk_usage(existing).free
    shown = f"Disk for the {name}: {show_size(free)} free ({folder})"
    return Finding(severity, shown, advice) if free < least else Finding(Mark.OK, shown)


def _device(device: Device) -> Finding:
    versions = ", ".join(f"{name} {device.versions[name]}" for name in ("mlx", "mlx-lm"))
    shown = f"Device: {device.name} ({device.backend}), {versions}"
    if device.backend != "cpu":
        return Finding(Mark.OK, shown)
    advice = "training real models on a CPU takes hours"
    if platform.system() != "Darwin" and shutil.which("nvidia-smi"):
        advice = f"this machine has an NVIDIA GPU; to use it: {install_line()}"
    return Finding(Mark.WARNING, shown, advice)


def _budget(device: Device) -> Finding:
    budget = budget_bytes(device, None)
    shown = f"Budget: {show_size(budget)} of the device's {show_size(device.memory_bytes)}"
    if device.working_set_bytes is not None:
        shown += f"; Metal recommends at most {show_size(device.working_set_bytes)}"
    if device.free_bytes is not None and budget == device.free_bytes:
        return Finding(
            Mark.WARNING,
            shown,
            "other programs use some of the GPU's memory; close them for a larger budget",
        )
    available = memory.read().available_bytes
    if device.free_bytes is None and budget > available:
        advice = (
            f"only {show_size(available)} is available now, so a run may swap; close other "
            f"programs, or pass --max-memory {_rounded_down(available / GB):g}"
        )
        return Finding(Mark.WARNING, shown, advice)
    return Finding(Mark.OK, shown)


def _rounded_down(size: float) -> float:
    """Return ``size`` with one decimal, so that it is accepted and not more than there is."""
    return max(0.1, math.floor(size * 10) / 10)


def _trial(device: Device) -> Finding:
    model = resolve.from_preset(presets.all_presets()["smoke-tiny"])
    (trial,) = plan([model], TRAINING, budget_bytes(device, None))
    with tempfile.TemporaryDirectory(prefix="your_ai-") as folder:
        log = TrialLog(Path(folder) / "doctor.log")
        seen = supervise(encode(trial.request), log=log, limits=Limits(deadline=300))
    if seen.killed is Kill.INTERRUPT:
        raise KeyboardInterrupt
    outcome = classify(seen, trial.request.steps)
    shown = f"Trial of {model.name}: {outcome.kind} in {seen.wall_seconds:.1f} s"
    if outcome.kind is OutcomeKind.PASS:
        return Finding(Mark.OK, shown)
    return Finding(
        Mark.ERROR,
        f"{shown} ({outcome.reason})",
        f"{outcome.evidence}; run `your_ai benchmark --suite smoke` to get a log",
    )
