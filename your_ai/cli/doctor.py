"""``your_ai doctor``: whether this machine and its installation can run trials."""

from __future__ import annotations

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
from your_ai.planning.device import Device, budget_bytes, from_probe
from your_ai.planning.plan import TrainingOptions, plan
from your_ai.runs.run_dir import runs_dir
from your_ai.supervision import memory_guard
from your_ai.supervision.observation import Kill
from your_ai.supervision.outcome import OutcomeKind, classify
from your_ai.supervision.probe import install_line, probe_device
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog
from your_ai.system import machine, memory
from your_ai.system.machine import Machine
from your_ai.terminal.output import say
from your_ai.units import GB, show_size

LEAST_FOR_RUNS = GB // 10
"""Bytes of disk: the journal and logs of a long night."""

TRAINING = TrainingOptions(batch_size=1, lora_rank=4, seq_length=32, steps=2, quantize=0)


class Mark(StrEnum):
    """How a finding is meant."""

    GOOD = "✓"
    NOTE = "!"
    BAD = "✗"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found; ``advice`` is what to do about it where that is something."""

    mark: Mark
    text: str
    advice: str | None = None


@click.command(name="doctor")
def command() -> ExitCode:
    """Check everything a run depends on, with a real trial of a few seconds.

    ✓ ok, ! warning, ✗ trials cannot run (exit code 3).
    """
    is_well = True
    for finding in findings(machine.describe()):
        is_well = is_well and finding.mark is not Mark.BAD
        say(f"{finding.mark} {finding.text}")
        if finding.advice is not None:
            say(f"    {finding.advice}")
    return ExitCode.OK if is_well else ExitCode.MACHINE


def findings(machine: Machine) -> Iterator[Finding]:
    """Look at one thing after another, a real trial last; only what needs MLX stops without it."""
    yield Finding(
        Mark.GOOD,
        f"your_ai {__version__}, Python {machine.python}, {machine.system} {machine.release} "
        f"({machine.architecture}, {machine.cpus} CPUs)",
    )
    yield _disk("runs", runs_dir(), LEAST_FOR_RUNS, "make room, or give --run-dir elsewhere")
    yield _disk("model cache", hub.cache_dir(), 0, "set HF_HOME to another folder")
    try:
        device = from_probe(probe_device(), machine)
    except MachineError as error:
        yield Finding(Mark.BAD, str(error))
        return
    yield _device(device)
    yield _memory(device)
    yield _budget(device)
    yield _trial(device)


def _memory(device: Device) -> Finding:
    now = memory.for_trials(device.backend)
    shown = (
        f"Memory: {show_size(now.available_bytes)} of {show_size(now.total_bytes)} available, "
        f"{show_size(now.swap_used_bytes)} in swap"
    )
    if now.pressure is not None:
        shown += f", pressure {now.pressure}"
    if short := memory_guard.shortage(now):
        return Finding(Mark.BAD, shown, f"{short}: no trial will be started; close other programs")
    return Finding(Mark.GOOD, shown)


def _disk(what: str, folder: Path, least: int, advice: str) -> Finding:
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(Mark.BAD, f"Disk for the {what}: {there} cannot be written to", advice)
    free = shutil.disk_usage(there).free
    shown = f"Disk for the {what}: {show_size(free)} free ({folder})"
    return Finding(Mark.BAD, shown, advice) if free < least else Finding(Mark.GOOD, shown)


def _device(device: Device) -> Finding:
    versions = ", ".join(f"{name} {device.versions[name]}" for name in ("mlx", "mlx-lm"))
    shown = f"Device: {device.name} ({device.backend}), {versions}"
    if device.backend != "cpu":
        return Finding(Mark.GOOD, shown)
    advice = "real models take hours on a CPU"
    if platform.system() != "Darwin" and shutil.which("nvidia-smi"):
        advice = f"there is an NVIDIA GPU: {install_line()}"
    return Finding(Mark.NOTE, shown, advice)


def _budget(device: Device) -> Finding:
    budget = budget_bytes(device, None)
    shown = f"Budget: {show_size(budget)} of the {show_size(device.memory_bytes)} to train in"
    if device.working_set_bytes is not None:
        shown += f"; Metal recommends at most {show_size(device.working_set_bytes)}"
    if device.free_bytes is not None and budget == device.free_bytes:
        return Finding(Mark.NOTE, shown, "other programs hold some of the GPU's memory")
    available = memory.read().available_bytes
    if device.free_bytes is None and budget > available:
        advice = (
            f"only {show_size(available)} is available now: a run may swap; close other "
            f"programs, or give --max-memory {available / GB:.0f}"
        )
        return Finding(Mark.NOTE, shown, advice)
    return Finding(Mark.GOOD, shown)


def _trial(device: Device) -> Finding:
    model = resolve.from_preset(presets.all_presets()["smoke-tiny"])
    (trial,) = plan([model], TRAINING, budget_bytes(device, None))
    with tempfile.TemporaryDirectory(prefix="your_ai-") as folder:
        log = TrialLog(Path(folder) / "doctor.log")
        seen = supervise(encode(trial.request), log=log, limits=Limits(deadline=300))
    if seen.killed is Kill.INTERRUPT:
        raise KeyboardInterrupt
    outcome = classify(seen, trial.request.steps)
    shown = f"A real trial of {model.name}: {outcome.kind} in {seen.wall_seconds:.1f} s"
    if outcome.kind is OutcomeKind.PASS:
        return Finding(Mark.GOOD, shown)
    return Finding(Mark.BAD, f"{shown} ({outcome.reason})", f"evidence: {outcome.evidence}")
