"""A machine with several NVIDIA GPUs: nvidia-smi and CUDA number them in different orders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import PLAIN, ROOT, benchmark
from tests.support.fakes.recorded_device import environment_with

FIRST = "GPU-0019ef91-ac4c-7e29-6ab3-554b260553d2"
SECOND = "GPU-1b0a3d2e-25ac-5a35-9d2f-0c4a9a4f5a11"


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Install an nvidia-smi that writes each GPU it is asked for to this file."""
    (tmp_path / "bin").mkdir()
    program, file = tmp_path / "bin" / "nvidia-smi", tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$1" >> {file}\necho "143771, 143156, Disabled"\n')
    program.chmod(0o755)
    return file


def run(folder: Path, uuid: str, *arguments: str) -> int:
    """Run the benchmark of one model where MLX reports the GPU ``uuid``."""
    info = {"device_name": "NVIDIA H200", "uuid": uuid, "total_memory": 150754820096}
    env = environment_with("cuda", info, folder / "site", str(ROOT))
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return benchmark(folder, *arguments, env={**env, "PATH": path}).code


def test_the_gpu_that_mlx_reports_is_watched_also_after_a_resume(
    asked: Path, tmp_path: Path
) -> None:
    assert run(tmp_path, FIRST, "--model", "smoke-tiny", *PLAIN) == 0
    assert set(asked.read_text().splitlines()) == {f"--id={FIRST}"}
    asked.unlink()
    assert run(tmp_path, SECOND, "--resume") == 0
    assert set(asked.read_text().splitlines()) == {f"--id={SECOND}"}
    assert FIRST not in (tmp_path / "run" / "results.json").read_text()
