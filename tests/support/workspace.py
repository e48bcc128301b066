"""A folder with everything that trainings need: a small real model, its results, and data."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.cgroups import MemoryCgroup
from tests.support.command import ROOT, YOUR_AI, Finished, environment, your_ai_command
from your_ai.runs.journal import JOURNAL

ITERS = 40
OPTIONS = [
    *("--iters", str(ITERS), "--save-every", "5", "--steps-per-eval", "8", "--val-batches", "1"),
    *("--learning-rate", "1e-3", "--steps-per-report", "1"),
]
MAKE = """
from pathlib import Path
from make_model import make_model, make_text
make_model(Path("model"), hidden=64)
make_text(Path("data"), longest=32)
"""
_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Workspace:
    """A folder with a model with real weights, its benchmark results, and training data."""

    folder: Path

    def train(self, name: str, *more: str) -> list[str]:
        """Return the arguments of a training that uses ``name`` for its folders."""
        folders = ["--run-dir", name, "--adapter-path", f"{name}-adapters"]
        return ["train", "--from", "results.json", "--data", "data", *OPTIONS, *folders, *more]

    def run(self, *arguments: str) -> Finished:
        """Run a command that must succeed."""
        done = your_ai_command(self.folder, *arguments, home=self.folder / "home")
        if done.code != 0:
            raise SystemExit(f"{arguments}: {done.stdout}{done.stderr}")
        return done

    def record(self, name: str) -> dict[str, Any]:
        """Return the content of a training's ``training.json``."""
        content: dict[str, Any] = json.loads((self.folder / name / "training.json").read_bytes())
        return content

    def start(
        self,
        arguments: list[str],
        cgroup: MemoryCgroup | None = None,
        program: Sequence[str] = YOUR_AI,
    ) -> subprocess.Popen[str]:
        """Start a command, in a memory cgroup if one is given."""
        command = [*program, *arguments]
        return subprocess.Popen(
            command if cgroup is None else cgroup.command(command),
            cwd=self.folder,
            env=environment(self.folder / "home"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def iteration(self, name: str) -> int:
        """Return the last iteration in a training's journal, or 0."""
        return (reported(self.folder / name) or [0])[-1]

    def reports(self, name: str) -> int:
        """Return the number of iterations in a training's journal, including repeated ones."""
        return len(reported(self.folder / name))

    def has_reported(self, name: str, times: int) -> bool:
        """Return whether a training's journal has at least ``times`` iterations."""
        return self.reports(name) >= times


def reported(run_dir: Path) -> list[int]:
    """Return the iterations in a training's journal, in order."""
    try:
        text = (run_dir / JOURNAL).read_text(errors="replace")
    except OSError:
        return []
    return list(map(int, re.findall(r'"kind":"reported".*?"iteration":(\d+)', text)))


def disturbed(workspace: Workspace, kind: str, name: str, iteration: int) -> str:
    """Run a training that is disturbed once (see tests/support/disturbed.py); return its output."""
    program = [sys.executable, "-m", "tests.support.disturbed", kind, name, str(iteration)]
    process = workspace.start(workspace.train(name, "--restarts", "0"), program=program)
    output, _ = process.communicate(timeout=_TIMEOUT_SECONDS)
    if process.returncode != 0:
        raise SystemExit(output)
    return output


def prepare(folder: Path) -> Workspace:
    """Make the model and the data in ``folder``, and benchmark the model."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    subprocess.run([sys.executable, "-c", MAKE], cwd=folder, env=env, check=True)
    (folder / "even").mkdir()
    draw = random.Random(0)
    for name, count in (("train", 100), ("valid", 8)):
        texts = (" ".join(f"w{draw.randrange(2, 512)}" for _ in range(24)) for _ in range(count))
        lines = (json.dumps({"text": text}) for text in texts)
        (folder / "even" / f"{name}.jsonl").write_text("\n".join(lines))
    workspace = Workspace(folder)
    spec = ["--seq-length", "32", "--batch-size", "4", "--lora-rank", "8", "--quantize", "none"]
    workspace.run(
        *("benchmark", "--model", str(folder / "model"), "--weights", "real", *spec),
        *("--max-memory", "1", "--output", "results.json", "--run-dir", "measured"),
    )
    return workspace


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until ``condition`` returns a true value or the process ends."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not condition() and process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"timed out; the output was: {process.communicate()[0]}")
        time.sleep(0.01)


def worker_of(parent: subprocess.Popen[str]) -> psutil.Process:
    """Return the parent's worker. The process that prevents sleep is a child, too."""
    for child in psutil.Process(parent.pid).children():
        with contextlib.suppress(psutil.ZombieProcess):
            if "worker" in child.cmdline():
                return child
    raise AssertionError("the command has no worker")
