"""If the parent is killed, its worker ends too, whatever it is doing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.trials import (
    FOREVER,
    events_in,
    is_gone,
    recorded_worker,
    tiny_request,
    wait_for,
)
from worker.protocol.codec import encode
from worker.protocol.messages import Device, Started, Step
from your_ai.supervision.supervisor import WORKER

WITHIN_SECONDS = 1.0


@contextmanager
def parent_of(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [str(log), str(FOREVER), "0", "guarded", *command]
    argv = [sys.executable, "-m", "tests.support.parent", *arguments]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        parent.stdin.write(encode(tiny_request(FOREVER)))
        parent.stdin.flush()
        try:
            yield parent
        finally:
            parent.kill()


def worker_of(parent: subprocess.Popen[bytes]) -> int:
    children = wait_for(lambda: psutil.Process(parent.pid).children(), "a worker")
    return children[0].pid


def outlived(parent: subprocess.Popen[bytes], worker: int) -> float:
    """Kill the parent, and return how many seconds the worker outlived it."""
    assert not is_gone(worker)
    killed_at = time.monotonic()
    parent.kill()
    wait_for(lambda: is_gone(worker), "the worker's end", WITHIN_SECONDS)
    return time.monotonic() - killed_at


def test_killed_during_real_training(tmp_path: Path) -> None:
    tap = tmp_path / "events"
    with parent_of(recorded_worker(tap), tmp_path / "trial.log") as parent:
        wait_for(lambda: events_in(tap, Step), "the first step")
        assert outlived(parent, worker_of(parent)) < WITHIN_SECONDS


def test_killed_while_the_worker_imports_mlx(tmp_path: Path) -> None:
    tap = tmp_path / "events"
    with parent_of(recorded_worker(tap), tmp_path / "trial.log") as parent:
        wait_for(lambda: events_in(tap, Started), "the worker's start")
        assert outlived(parent, worker_of(parent)) < WITHIN_SECONDS
    assert not events_in(tap, Device)  # this event comes after the import


def test_killed_before_the_first_event(tmp_path: Path) -> None:
    with parent_of([*WORKER], tmp_path / "trial.log") as parent:
        assert outlived(parent, worker_of(parent)) < WITHIN_SECONDS
