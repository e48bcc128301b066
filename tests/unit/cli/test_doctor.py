"""The checks of ``your_ai doctor``."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.macs import PARAVIRTUAL
from tests.support.unreadable import unreadable
from worker.protocol.messages import Device
from your_ai.cli import doctor
from your_ai.cli.doctor import Mark
from your_ai.errors import MachineError
from your_ai.planning.device import from_probe
from your_ai.system import cgroups, machine, memory, worker_cgroup
from your_ai.system.cgroups import MemoryCgroup
from your_ai.units import GB


def no_device() -> None:
    raise MachineError("no MLX")


def test_an_unwritable_disk_prevents_runs_but_only_warns_about_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(doctor, "probe_device", no_device)
    disks = [f for f in doctor.findings(machine.describe()) if f.text.startswith("Disk")]
    assert [disk.mark for disk in disks] == [Mark.ERROR, Mark.WARNING]


def test_no_trial_is_run_if_a_run_would_not_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    full = replace(memory.read(), available_bytes=GB // 4, pressure=None)
    answer = Device(0.1, "cpu", {"device_name": "AMD EPYC"}, {"mlx": "1", "mlx-lm": "1"})
    monkeypatch.setattr(memory, "read", lambda: full)
    monkeypatch.setattr(doctor, "probe_device", lambda: answer)
    found = [*doctor.findings(machine.describe())]
    (short,) = (f for f in found if f.text.startswith("Memory"))
    assert (short.mark, "raise its memory limit" in (short.advice or "")) == (Mark.ERROR, True)
    assert not [f for f in found if f.text.startswith("Trial")]


def test_a_runs_folder_that_cannot_be_read_is_not_writable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    (state / "your_ai" / "runs").mkdir(parents=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setattr(doctor, "probe_device", no_device)
    with unreadable(state):
        (runs,) = (f for f in doctor.findings(machine.describe()) if "for the runs" in f.text)
    assert runs.mark is Mark.ERROR
    assert runs.text.endswith(" is not writable")


@pytest.mark.parametrize(
    ("free", "runs", "cache"),
    [
        (100 * GB, Mark.OK, Mark.OK),
        (doctor.MIN_FOR_WEIGHTS - 1, Mark.OK, Mark.WARNING),
        (0, Mark.ERROR, Mark.WARNING),
    ],
)
def test_a_full_disk_prevents_runs_but_only_warns_about_the_cache(
    free: int, runs: Mark, cache: Mark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(doctor, "probe_device", no_device)
    disks = [f for f in doctor.findings(machine.describe()) if f.text.startswith("Disk")]
    assert [disk.mark for disk in disks] == [runs, cache]
    assert [disk.advice is None for disk in disks] == [m is Mark.OK for m in (runs, cache)]


@pytest.mark.parametrize(
    ("files", "warned"),
    [
        ({"memory.oom.group": 1, "memory.max": 4 * GB}, True),
        ({"memory.oom.group": 1, "memory.max": "max"}, True),  # the whole machine may run out
        ({"memory.oom.group": 0, "memory.max": 4 * GB}, False),
        ({"memory.max": 4 * GB}, False),
    ],
)
def test_a_kernel_oom_that_would_end_the_parent_too(
    files: dict[str, object], warned: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(cgroups, "of_process", lambda _: MemoryCgroup(2, tmp_path))
    monkeypatch.setattr(doctor, "probe_device", no_device)
    found = [f for f in doctor.findings(machine.describe()) if f.text.startswith("OOM")]
    assert [each.mark for each in found] == [Mark.WARNING] * warned


def test_no_warning_if_the_worker_gets_a_cgroup_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memory.oom.group").write_text("1\n")
    own = MemoryCgroup(2, tmp_path)
    monkeypatch.setattr(cgroups, "of_process", lambda _: own)
    monkeypatch.setattr(worker_cgroup, "created", lambda: nullcontext(own))
    monkeypatch.setattr(doctor, "probe_device", no_device)
    assert not [f for f in doctor.findings(machine.describe()) if f.text.startswith("OOM")]


@pytest.mark.parametrize(
    ("available", "advised"), [(0.04, "0.1"), (0.65, "0.6"), (2.69, "2.6"), (4.0, "4")]
)
def test_the_advised_budget_is_valid_and_not_more_than_is_available(
    available: float, advised: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = replace(memory.read(), available_bytes=int(available * GB))
    monkeypatch.setattr(memory, "read", lambda: now)
    device = from_probe(Device(0.1, "metal", PARAVIRTUAL, {}), machine.describe())
    finding = doctor._budget(device)
    assert finding.mark is Mark.WARNING
    assert (finding.advice or "").endswith(f"--max-memory {advised}")
