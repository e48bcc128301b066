"""A machine with several NVIDIA GPUs: nvidia-smi and CUDA number them in different orders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import PLAIN, ROOT, Finished, benchmark
from tests.support.fakes.recorded_device import environment_with
from your_ai.units import MB

FIRST = "GPU-0019ef91-ac4c-7e29-6ab3-554b260553d2"
SECOND = "GPU-1b0a3d2e-25ac-5a35-9d2f-0c4a9a4f5a11"

FREE = 150_000 * MB
"""The memory that MLX reports as free."""

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
    done = attempt(folder, uuid, *arguments, CUDA_VISIBLE_DEVICES=uuid)
    assert done.code == 0, done.stdout + done.stderr
    return done


def attempt(folder: Path, uuid: str, *arguments: str, **changed: str) -> Finished:
    info = {"device_name": "NVIDIA H200", "uuid": uuid, "total_memory": 150754820096}
    env = environment_with("cuda", {**info, "free_memory": FREE}, folder / "site", str(ROOT))
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return benchmark(folder, *arguments, env={**env, "PATH": path, **changed})


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


@pytest.mark.usefixtures("asked")
def test_the_memory_that_is_free_is_read_again_for_each_run(tmp_path: Path) -> None:
    first = run(tmp_path, FIRST, "--model", "smoke-tiny", *PLAIN).document
    (tmp_path / "run").rename(tmp_path / "first")
    second = run(tmp_path, FIRST, "--model", "smoke-tiny", *PLAIN).document
    assert first["device"]["free_bytes"] == FREE
    assert second["device"] == {**first["device"], "free_bytes": 143156 * MB}


@pytest.mark.usefixtures("asked")
def test_a_run_does_not_continue_on_another_gpu_than_it_was_planned_for(tmp_path: Path) -> None:
    model = ["--model", "smoke-tiny", *PLAIN]
    assert attempt(tmp_path, FIRST, *model).code == 0
    (tmp_path / "run").rename(tmp_path / "first")
    changed = attempt(tmp_path, SECOND, *model)
    assert changed.code == 3, changed.stdout
    assert "Start a new run" in changed.stderr
    assert changed.only["outcome"] == "error"
    (tmp_path / "run").rename(tmp_path / "second")
    assert attempt(tmp_path, SECOND, *model).code == 0
