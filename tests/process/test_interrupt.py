"""Signals during a real run: results are on disk, and no process is left."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.command import at_a_terminal
from tests.support.trials import is_gone, wait_for
from your_ai.supervision.supervisor import Limits

STEPS = 60
# The second model's steps take ten times as long as the first one's.
OPTIONS = [
    *("--model", "smoke-tiny", "--model", "smoke-large", "--quantize", "none"),
    *("--seq-length", "32", "--batch-size", "1"),
]
TRAINED_SECONDS = 0.7


@contextmanager
def benchmark(
    tmp_path: Path,
    steps: int = STEPS,
    *options: str,
    ignoring: signal.Signals | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Start a run in ``tmp_path / "run"``, like at a terminal or with nohup."""
    arguments = ["benchmark", *OPTIONS, "--steps", str(steps), "--run-dir", "run", *options]
    with subprocess.Popen(
        at_a_terminal(*arguments, ignoring=ignoring),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as parent:
        try:
            yield parent
        finally:
            parent.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_results_are_kept_after_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    results_file = tmp_path / "run" / "results.json"
    with benchmark(tmp_path) as parent:
        worker = wait_for_second_training(parent.pid, results_file)
        parent.send_signal(number)
        out, err = parent.communicate(timeout=30)
    assert parent.returncode == 130, out + err
    assert is_gone(worker)
    assert err == ""
    assert "– Interrupted" in out
    assert re.search(r"Continue with: your_ai benchmark --resume --run-dir /\S+/run\n$", out)
    results = json.loads(results_file.read_text())
    assert (results["recommended"], results["complete"]) == ("smoke-tiny", False)
    finished, interrupted = results["results"]
    counted = [step for step in finished["steps"] if step["phase"] == "relaxed"]
    assert (finished["outcome"], len(counted)) == ("pass", STEPS)
    assert (interrupted["outcome"], interrupted["success"]) == ("interrupted", False)
    assert interrupted["load"]["resident_bytes"] > 0
    assert 0 < len(interrupted["steps"]) < STEPS


def test_a_second_signal_after_a_hangup_kills_a_stuck_worker(
    tmp_path: Path,
) -> None:
    results_file = tmp_path / "run" / "results.json"
    with benchmark(tmp_path) as parent:
        worker = wait_for_second_training(parent.pid, results_file)
        # A suspended worker cannot react to SIGTERM, so the parent waits until the second signal.
        psutil.Process(worker).suspend()
        parent.send_signal(signal.SIGHUP)
        wait_for(lambda: was_asked_to_end(worker), "the worker to be asked to end")
        asked = time.monotonic()
        parent.send_signal(signal.SIGINT)
        out, err = parent.communicate(timeout=30)
    assert time.monotonic() - asked < Limits().grace
    assert (parent.returncode, err) == (130, ""), out
    assert is_gone(worker)
    assert "/run/results.json" in out
    finished, interrupted = json.loads(results_file.read_text())["results"]
    assert (finished["outcome"], interrupted["outcome"]) == ("pass", "interrupted")


def test_an_ignored_hangup_has_no_effect(tmp_path: Path) -> None:
    with benchmark(tmp_path, steps=1, ignoring=signal.SIGHUP) as parent:
        wait_for((tmp_path / "run" / "results.json").exists, "the first results")
        parent.send_signal(signal.SIGHUP)
        out, err = parent.communicate(timeout=90)
    assert (parent.returncode, err) == (0, ""), out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["complete"] is True


def test_a_signal_ends_a_cooldown_at_once(tmp_path: Path) -> None:
    with benchmark(tmp_path, 1, "--cooldown", "1e300") as parent:
        out = interrupt_before("[2/2]", parent, signal.SIGTERM)
    assert "– Interrupted" in out
    first, second = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert (first["outcome"], second["outcome"]) == ("pass", "interrupted")
    assert second["exit_status"] is None
    with benchmark(tmp_path, 1, "--resume", "--cooldown", "0.01") as parent:
        out, err = parent.communicate(timeout=90)
    assert (parent.returncode, err) == (0, ""), out


def interrupt_before(trial: str, parent: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal when the line of ``trial`` begins, before the cooldown; return the rest."""
    assert parent.stdout is not None
    shown = ""
    while trial not in shown:
        read = parent.stdout.read(1)
        assert read, shown
        shown += read
    parent.send_signal(number)
    out, err = parent.communicate(timeout=30)
    assert (parent.returncode, err) == (130, ""), out
    return out


def was_asked_to_end(pid: int) -> bool:
    """Return whether SIGTERM is pending (the mask ShdPnd in proc_pid_status(5))."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("this system does not tell which signals are pending")
    (mask,) = [line.split()[1] for line in status.read_text().splitlines() if "ShdPnd" in line]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def wait_for_second_training(parent: int, results: Path) -> int:
    """Wait until the second worker has used more CPU time than the first one, and return its id.

    Its steps take far longer, so by then it is training, and far from finished.
    """
    before: dict[int, float] = {}

    def first_is_done() -> bool:
        seen = cpu_seconds_of_children(parent)
        if results.exists():  # the children may already include the second worker
            return True
        before.update(seen)
        return False

    def second_is_as_far() -> int | None:
        seen = cpu_seconds_of_children(parent)
        enough = max(before.values()) + TRAINED_SECONDS
        return next((pid for pid in seen.keys() - before.keys() if seen[pid] > enough), None)

    wait_for(first_is_done, "the first trial's results", every=0.05)
    return wait_for(second_is_as_far, "the second trial's training", every=0.05)


def cpu_seconds_of_children(parent: int) -> dict[int, float]:
    seconds: dict[int, float] = {}
    for child in psutil.Process(parent).children():
        with suppress(psutil.NoSuchProcess):
            seconds[child.pid] = child.cpu_times().user
    return seconds
