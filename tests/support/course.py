"""A small model of real weights, measured, with data to train it on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.cgroups import MemoryCgroup
from tests.support.command import ROOT, YOUR_AI, Finished, environment, your_ai_command
from your_ai.runs.journal import JOURNAL

ITERS = 40
ASKED = [
    *("--iters", str(ITERS), "--save-every", "5", "--steps-per-eval", "8", "--val-batches", "1"),
    *("--learning-rate", "1e-3", "--steps-per-report", "1"),
]
MAKE = """
from pathlib import Path
from make_model import make_model, make_text
make_model(Path("model"), hidden=64)
make_text(Path("data"), longest=32)
"""
_MOST_SECONDS = 120.0


@dataclass(frozen=True)
class Course:
    """A folder with a model of real weights, data, and the results of its benchmark."""

    folder: Path

    def train(self, name: str, *more: str) -> list[str]:
        """The arguments of a training with this name."""
        own = ["--run-dir", name, "--adapter-path", f"{name}-adapters"]
        return ["train", "--from", "results.json", "--data", "data", *ASKED, *own, *more]

    def run(self, *arguments: str) -> Finished:
        """Run a command that must do well."""
        done = your_ai_command(self.folder, *arguments, home=self.folder / "home")
        if done.code != 0:
            raise SystemExit(f"{arguments}: {done.stdout}{done.stderr}")
        return done

    def record(self, name: str) -> dict[str, Any]:
        """What a training has left."""
        content: dict[str, Any] = json.loads((self.folder / name / "training.json").read_bytes())
        return content

    def start(self, arguments: list[str], box: MemoryCgroup | None = None) -> subprocess.Popen[str]:
        """Begin a command, in a memory cgroup if one is given."""
        command = [*YOUR_AI, *arguments]
        return subprocess.Popen(
            command if box is None else box.command(command),
            cwd=self.folder,
            env=environment(self.folder / "home"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def iteration(self, name: str) -> int:
        """The last iteration that a training's journal speaks of."""
        found = self._reported(name)
        return int(found[-1]) if found else 0

    def reports(self, name: str) -> int:
        """How often a training's journal speaks of an iteration, again or for the first time."""
        return len(self._reported(name))

    def has_reported(self, name: str, times: int) -> bool:
        """Whether it speaks of one that often."""
        return self.reports(name) >= times

    def _reported(self, name: str) -> list[str]:
        try:
            text = (self.folder / name / JOURNAL).read_text(errors="replace")
        except OSError:
            return []
        return re.findall(r'"kind":"reported".*?"iteration":(\d+)', text)


def prepare(folder: Path) -> Course:
    """Make the model and the data, and measure it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    subprocess.run([sys.executable, "-c", MAKE], cwd=folder, env=env, check=True)
    (folder / "even").mkdir()
    draw = random.Random(0)
    for name, count in (("train", 100), ("valid", 8)):
        texts = (" ".join(f"w{draw.randrange(2, 512)}" for _ in range(24)) for _ in range(count))
        lines = (json.dumps({"text": text}) for text in texts)
        (folder / "even" / f"{name}.jsonl").write_text("\n".join(lines))
    course = Course(folder)
    spec = ["--seq-length", "32", "--batch-size", "4", "--lora-rank", "8", "--quantize", "none"]
    course.run(
        *("benchmark", "--model", str(folder / "model"), "--weights", "real", *spec),
        *("--max-memory", "1", "--output", "results.json", "--run-dir", "measured"),
    )
    return course


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until it holds, or the process has ended."""
    until = time.monotonic() + _MOST_SECONDS
    while not condition() and process.poll() is None:
        if time.monotonic() > until:
            process.kill()
            raise SystemExit(f"waited in vain: {process.communicate()[0]}")
        time.sleep(0.01)


def worker_of(parent: subprocess.Popen[str]) -> psutil.Process:
    """Its worker: what keeps the machine awake is its child too, and maybe dead."""
    for child in psutil.Process(parent.pid).children():
        with contextlib.suppress(psutil.ZombieProcess):
            if "worker" in child.cmdline():
                return child
    raise AssertionError("there is no worker")
