"""GitHub's hosted Macs: virtual machines of 7 GB whose GPU has little memory, or is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import ROOT, benchmark, your_ai_command
from tests.support.fakes.recorded_device import environment_with
from tests.support.macs import NO_METAL, SMALL_PARAVIRTUAL

GB = 2**30


def test_the_largest_smoke_model_passes_within_the_memory_of_a_hosted_mac(tmp_path: Path) -> None:
    env = environment_with("metal", SMALL_PARAVIRTUAL, tmp_path / "site", str(ROOT))
    done = benchmark(tmp_path, "--model", "smoke-large", "--steps", "1", env=env)
    assert done.code == 0, done.stdout + done.stderr
    device = done.document["device"]
    assert (device["name"], device["backend"]) == ("Apple Paravirtual device", "metal")
    assert done.document["budget_bytes"] == GB
    assert done.only["outcome"] == "pass"
    assert done.only["peak_memory_bytes"] < GB // 16


def test_doctor_approves_of_a_hosted_mac(tmp_path: Path) -> None:
    env = environment_with("metal", SMALL_PARAVIRTUAL, tmp_path / "site", str(ROOT))
    done = your_ai_command(tmp_path, "doctor", env=env)
    assert done.code == 0, done.stdout
    assert "Budget: 1.0 GB of the device's 7.0 GB; Metal recommends at most 1.0 GB" in done.stdout


@pytest.mark.parametrize("command", ["benchmark", "doctor"])
def test_no_metal_is_exit_3_with_the_reason(command: str, tmp_path: Path) -> None:
    package = tmp_path / "in-front" / "mlx"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"raise RuntimeError({NO_METAL!r})\n")
    env = {"PYTHONPATH": f"{package.parent}{os.pathsep}{ROOT}"}
    done = your_ai_command(tmp_path, command, env=env)
    assert done.code == 3
    assert "no Metal device" in done.stdout + done.stderr
    assert "pip install" not in done.stdout + done.stderr
