"""What makes a cached answer of MLX invalid."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import worker
from your_ai.system import installation, macos, memory
from your_ai.system.installation import device_state


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an installed MLX, in front of the real one."""
    folder = tmp_path / "site"
    for name in ("mlx", "mlx-0.32.4.dist-info", "mlx_cpu-0.32.4.dist-info", "other"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


def update(site: Path) -> None:
    (site / "mlx-0.32.4.dist-info").rename(site / "mlx-0.32.5.dist-info")


def change_backend(site: Path) -> None:
    (site / "mlx_cpu-0.32.4.dist-info").rename(site / "mlx_cuda_13-0.32.4.dist-info")


def make_editable(site: Path) -> None:
    (site / "__editable__.mlx-0.32.4.pth").touch()


def reinstall(site: Path) -> None:
    os.utime(site / "mlx-0.32.4.dist-info", (1, 1))


@pytest.mark.parametrize("change", [update, change_backend, make_editable, reinstall])
def test_a_changed_mlx_is_another_installation(site: Path, change: object) -> None:
    assert callable(change)
    before = installation.installation()
    change(site)
    assert installation.installation() != before


def test_another_folder_with_mlx_is_another_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = installation.installation()
    (tmp_path / "mlx").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert installation.installation() != before


def test_bytecode_and_other_packages_do_not_change_the_installation(site: Path) -> None:
    before = installation.installation()
    (site / "mlx" / "__pycache__").mkdir()
    (site / "mlx" / "core.py").touch()
    os.utime(site / "mlx", (1, 1))
    (site / "numpy").mkdir()
    assert installation.installation() == before


def test_a_changed_worker_is_another_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "worker" / "protocol" / "messages.py"
    source.parent.mkdir(parents=True)
    source.touch()
    monkeypatch.setattr(worker, "__path__", [str(tmp_path / "worker")])
    before = installation.installation()
    os.utime(source, (2**31, 2**31))
    assert installation.installation() != before


def test_another_version_of_your_ai_is_another_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = installation.installation()
    monkeypatch.setattr(installation, "__version__", "0.0")
    assert installation.installation() != before


def test_the_device_is_asked_for_again_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = device_state()
    assert device_state() == before
    monkeypatch.setattr(installation, "boot_id", lambda: "another")
    assert device_state() != before


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"])
def test_the_device_depends_on_the_choice_of_gpu(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = device_state()
    monkeypatch.setenv(variable, "1")
    assert device_state() != before


def test_the_device_depends_on_the_limit_for_the_gpu_of_a_mac(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {b"iogpu.wired_limit_mb": (0).to_bytes(4, "little")}
    monkeypatch.setattr(macos, "_sysctl", lambda name: values.get(name, b""))
    before = device_state()
    values[b"iogpu.wired_limit_mb"] = (28_000).to_bytes(4, "little")
    assert macos.wired_limit_mb() == 28_000
    assert device_state() != before


def test_the_device_depends_on_the_limit_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    before = device_state()
    smaller = memory.MachineMemory(2**30, 2**29, 0, None)
    monkeypatch.setattr(memory, "read", lambda: smaller)
    assert device_state() != before


def test_the_device_depends_on_the_driver_and_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "_NVIDIA_DRIVER", tmp_path)
    without = device_state()
    (tmp_path / "version").write_text("NVRM version: 580.65.06")
    (tmp_path / "gpus" / "0000:1b:00.0").mkdir(parents=True)
    before = device_state()
    (tmp_path / "gpus" / "0000:3d:00.0").mkdir()
    with_second = device_state()
    (tmp_path / "version").write_text("NVRM version: 580.95.05")
    assert len({without, before, with_second, device_state()}) == 4
