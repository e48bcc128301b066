"""A machine with several NVIDIA GPUs: nvidia-smi and CUDA number them in different orders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import PLAIN, ROOT, Finished, benchmark
from tests.support.fakes.recorded_device import environment_with

FIRST = "GPU-0019ef91-ac4c-7e29-6ab3-554b260553d2"
SECOND = "GPU-1b0a3d2e-25ac-5a35-9d2f-0c4a9a4f5a11"

# It is slowed by heat, for one second between any two queries.
NVIDIA_SMI = """#!/bin/sh
echo "$1" >> {file}
echo "143771, 143156, Disabled, 900, 1980, 0x0000000000000020, $(date +%s)000000, 0, 0, 0"
"""


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Install an nvidia-smi that writes each GPU it is asked for to this file."""
    (tmp_path / "bin").mkdir()
    program, file = tmp_path / "bin" / "nvidia-smi", tmp_path / "asked"
    program.write_text(NVIDIA_SMI.format(file=file))
    program.chmod(0o755)
    return file


def run(folder: Path, uuid: str, *arguments: str) -> Finished:
    """Run the benchmark of one model where MLX reports the GPU ``uuid``."""
    info = {"device_name": "NVIDIA H200", "uuid": uuid, "total_memory": 150754820096}
    env = environment_with("cuda", info, folder / "site", str(ROOT))
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = benchmark(folder, *arguments, env={**env, "PATH": path})
    assert done.code == 0, done.stdout + done.stderr
    return done


def test_the_gpu_that_mlx_reports_is_watched_also_after_a_resume(
    asked: Path, tmp_path: Path
) -> None:
    run(tmp_path, FIRST, "--model", "smoke-tiny", *PLAIN)
    assert set(asked.read_text().splitlines()) == {f"--id={FIRST}"}
    asked.unlink()
    run(tmp_path, SECOND, "--resume")
    assert set(asked.read_text().splitlines()) == {f"--id={SECOND}"}
    assert FIRST not in (tmp_path / "run" / "results.json").read_text()


def test_a_hot_gpu_is_recorded_and_noted_below_the_speed(asked: Path, tmp_path: Path) -> None:
    done = run(tmp_path, FIRST, "--model", "smoke-tiny", *PLAIN)
    before, after = (done.only[f"conditions_{when}"] for when in ("before", "after"))
    assert (before["gpu_clock_mhz"], before["gpu_max_clock_mhz"]) == (900, 1980)
    assert before["gpu_slowdowns"] == ["heat"]
    assert after["slowed_seconds"] > before["slowed_seconds"]
    _, note = done.stdout.split("tokens/s)\n", 1)
    assert note.splitlines()[0] == (
        "        note: measured while heat or the power supply slowed the device; the speed is not "
        "comparable"
    )
