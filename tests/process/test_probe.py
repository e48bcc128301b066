"""The probe's real worker, ended in ways that do not prove a broken installation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.support.cgroups import MIB, memory_cgroup
from tests.support.macs import NO_METAL, NO_METAL_BEFORE_0_32
from worker.protocol.configuration import Configuration
from worker.protocol.requests import PlannedModel
from your_ai.errors import MachineError, UsageError
from your_ai.supervision import probe
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.system.memory import MachineMemory

ALARM = "only 200 MB of memory left"
MODELS = {"org/model": PlannedModel({"model_type": "llama"}, Configuration())}

RAISED = f"raise RuntimeError({NO_METAL!r})"
"""What MLX does without Metal from 0.32 on; earlier versions abort while they are imported."""
ABORTED = f"import os; os.write(2, {NO_METAL_BEFORE_0_32.encode()!r}); os.abort()"

Probe = Callable[[], object]
WITHOUT_GUARD = """
from your_ai.supervision import probe, supervisor
supervisor.supervise.__kwdefaults__["alarm"] = lambda _: None
probe.probe_device()
"""
PROBES = [
    pytest.param(probe.probe_device, id="device"),
    pytest.param(lambda: probe.probe([MODELS]), id="models"),
]


def always(recent: Sequence[MachineMemory]) -> str:
    return ALARM


def mlx(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package called mlx that runs ``code`` in front of the real one."""
    package = folder / "in-front" / "mlx"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)


def message(run: Probe, kind: type[Exception] = MachineError) -> str:
    with pytest.raises(kind) as raised:
        run()
    return str(raised.value)


@pytest.mark.parametrize("run", PROBES)
def test_a_probe_ended_by_the_memory_guard_reports_the_shortage(
    run: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "supervise", partial(supervise, alarm=always))
    text = message(run)
    assert ALARM in text
    assert "Close other programs" in text
    assert "pip install" not in text


@pytest.mark.parametrize("run", PROBES)
@pytest.mark.parametrize("limits", [Limits(deadline=0.5), Limits(silence=0.5)])
def test_a_probe_that_does_not_answer_in_time_is_not_called_broken(
    run: Probe, limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlx(tmp_path, "import time; time.sleep(600)", monkeypatch)
    monkeypatch.setattr(probe, "LIMITS", limits)
    text = message(run)
    assert text.startswith("MLX did not answer within ")
    assert "import mlx_lm" in text
    assert "pip install" not in text


@pytest.mark.parametrize("run", PROBES)
def test_a_probe_killed_for_an_unknown_reason_names_the_signal(
    run: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlx(tmp_path, "import os; os.kill(os.getpid(), 9)", monkeypatch)
    text = message(run)
    assert "killed by SIGKILL" in text
    assert "Close other programs" in text
    assert "MLX does not work" not in text


@pytest.mark.root
def test_a_probe_killed_by_the_kernel_reports_that_memory_ran_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlx(tmp_path, "blocks = [b'x' * (4 << 20) for _ in range(256)]", monkeypatch)
    with memory_cgroup(256 * MIB) as box:
        command = box.command([sys.executable, "-c", WITHOUT_GUARD])
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    text = done.stderr.splitlines()[-1]
    assert text.startswith("your_ai.errors.MachineError: The kernel killed the worker"), done.stderr
    assert "Close other programs" in text
    assert "pip install" not in text


@pytest.mark.parametrize("code", [RAISED, ABORTED], ids=["raised", "aborted"])
@pytest.mark.parametrize("run", PROBES)
def test_a_mac_without_metal_is_reported_as_such(
    run: Probe, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlx(tmp_path, code, monkeypatch)
    text = message(run)
    assert "no Metal device" in text
    assert "virtual machine" in text
    assert "pip install" not in text


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
@pytest.mark.parametrize("run", PROBES)
def test_a_crash_while_mlx_is_imported_is_a_broken_installation(
    run: Probe, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlx(tmp_path, f"import os; os.kill(os.getpid(), {int(number)})", monkeypatch)
    text = message(run)
    assert text.startswith("MLX does not work (")
    assert number.name in text
    assert "pip install" in text


CRASHING_MODEL = """
import os, sys
if "worker" in sys.orig_argv:
    from worker import probe
    probe.facts = lambda _: os.abort()
"""


def test_a_model_that_crashes_the_worker_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASHING_MODEL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    text = message(lambda: probe.probe([MODELS]), UsageError)
    assert "org/model" in text
    assert "SIGABRT" in text
