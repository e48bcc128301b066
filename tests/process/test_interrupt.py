"""Ctrl-C in the middle of a real run: what was measured is on disk, and nothing runs on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from tests.process.trials import is_gone, wait_for

# Short steps, many of them: some seconds a trial.
OPTIONS = ["--suite", "smoke", "--seq-length", "8", "--batch-size", "1", "--steps", "300"]
NEARLY = 0.85
# As at a terminal; a job of a script's background would inherit SIGINT ignored.
INTERRUPTIBLE = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
INTERRUPTIBLE += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    command = ["-m", "your_ai", "benchmark", *OPTIONS, "--run-dir", str(run_dir)]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as parent:
        try:
            worker = wait_for_second_training(parent.pid, run_dir / "results.json")
            parent.send_signal(signal.SIGINT)
            out, err = parent.communicate(timeout=30)
        finally:
            parent.kill()
    assert parent.returncode == 130, out + err
    assert is_gone(worker)
    assert "Traceback" not in err
    assert "– Interrupted" in out
    results = json.loads((run_dir / "results.json").read_text())
    assert results["recommended"] == "smoke-tiny"
    finished, interrupted = results["results"]
    counted = [step for step in finished["steps"] if step["phase"] == "relaxed"]
    assert (finished["outcome"], len(counted)) == ("pass", 300)
    assert (interrupted["outcome"], interrupted["success"]) == ("interrupted", False)
    assert interrupted["load"]["resident_bytes"] > 0
    assert 0 < len(interrupted["steps"]) < 303


def wait_for_second_training(parent: int, results: Path) -> int:
    """The second trial's worker, once it has computed nearly as long as the first one in all.

    Its model is larger, so it is then past its import and load, and not yet done.
    """
    before: dict[int, float] = {}

    def first_is_done() -> bool:
        seen = cpu_seconds_of_children(parent)
        if results.exists():  # what was seen may be the second one already
            return True
        before.update(seen)
        return False

    def second_is_as_far() -> int | None:
        seen = cpu_seconds_of_children(parent)
        enough = NEARLY * max(before.values())
        return next((pid for pid in seen.keys() - before.keys() if seen[pid] > enough), None)

    wait_for(first_is_done, "the first trial's results")
    return wait_for(second_is_as_far, "the second trial's training")


def cpu_seconds_of_children(parent: int) -> dict[int, float]:
    seconds: dict[int, float] = {}
    for child in psutil.Process(parent).children():
        with suppress(psutil.NoSuchProcess):
            seconds[child.pid] = child.cpu_times().user
    return seconds
