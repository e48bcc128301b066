"""Shared by the bench scripts: runs your_ai commands and prints tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GB = 2**30
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """A finished run: its results document, exit status and wall time."""

    document: dict[str, Any]
    exit_status: int
    seconds: float

    @property
    def results(self) -> list[dict[str, Any]]:
        """The entries in the results, in order."""
        entries: list[dict[str, Any]] = self.document["results"]
        return entries


@dataclass(frozen=True, slots=True)
class Version:
    """A checkout of your_ai, and the folder for its runs and caches and the working directory."""

    checkout: Path
    home: Path

    def environment(self) -> dict[str, str]:
        """Return the environment in which Python imports this checkout and writes bytecode."""
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        own = {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("STATE", "CACHE")}
        path = os.pathsep.join(filter(None, (str(self.checkout), os.environ.get("PYTHONPATH"))))
        # The models downloaded so far stay where they are.
        hub = os.environ.get("HF_HOME", str(Path.home() / ".cache/huggingface"))
        return {**inherited, **own, "HF_HOME": hub, "PYTHONPATH": path}

    def prepare(self) -> None:
        """Compile the checkout and check that its packages are imported, in a worker too."""
        self.home.mkdir()
        packages = [str(self.checkout / name) for name in ("your_ai", "worker")]
        self.run("-m", "compileall", "-q", *packages)
        for package in packages:
            name = Path(package).name
            found = self.run("-P", "-c", f"import {name}; print({name}.__path__[0])").strip()
            if Path(found).resolve() != Path(package).resolve():
                raise SystemExit(f"Python imports {name} from {found}, not from {package}.")

    def run(self, *arguments: str) -> str:
        """Run ``python`` with these arguments and return what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            command = " ".join(("python", *arguments))
            output = f"{done.stdout}{done.stderr}"
            raise SystemExit(f"{command} failed with exit code {done.returncode}:\n{output}")
        return done.stdout

    def seconds(self, *arguments: str) -> float:
        """Run ``python`` with these arguments and return the seconds it takes."""
        began = time.perf_counter()
        self.run(*arguments)
        return time.perf_counter() - began

    def measure(self, *arguments: str) -> tuple[float, list[dict[str, Any]]]:
        """Run ``your_ai``, and return the seconds it takes and the entries in its results."""
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            seconds = self.seconds("-m", "your_ai", *arguments, "--run-dir", f"{folder}/run")
            document = json.loads(Path(folder, "run/results.json").read_text())
        entries: list[dict[str, Any]] = document["results"]
        if failed := [entry["preset"] for entry in entries if not entry["success"]]:
            raise SystemExit(f"these trials did not pass: {', '.join(failed)}")
        return seconds, entries


def benchmark(*options: str) -> BenchmarkRun:
    """Run ``your_ai benchmark`` in a new process. Its output is shown."""
    return your_ai("benchmark", *options)


def your_ai(*arguments: str) -> BenchmarkRun:
    """Run ``your_ai benchmark`` or ``optimize`` in a new process. Its output is shown."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "your_ai", *arguments, "--run-dir", str(run_dir)]
        began = time.perf_counter()
        status = subprocess.run(command, check=False).returncode
        seconds = time.perf_counter() - began
        document = json.loads((run_dir / "results.json").read_text())
    return BenchmarkRun(document, status, seconds)


def one_trial(*options: str) -> dict[str, Any]:
    """Run one trial, which must pass, and return its entry in the results."""
    (entry,) = benchmark(*options).results
    if not entry["success"]:
        raise SystemExit(f"the trial did not pass: {entry['outcome']}: {entry['error']}")
    return entry


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table for docs/measurements.md."""
    print(f"\n### {title}\n")
    print(f"| {' | '.join(head)} |")
    print(f"|{' --- |' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)


def gb(nbytes: int | None) -> str:
    """Return the size in GB with two decimals, or a dash if it is unknown."""
    return "–" if nbytes is None else f"{nbytes / GB:.2f}"


def lora_config(
    model: Path, data: Path, adapters: Path, *, layers: int, rank: int, seq: int, batch: int
) -> dict[str, Any]:
    """Return the configuration with which ``mlx_lm.lora`` trains like a trial of these sizes."""
    return {
        "model": str(model),
        "data": str(data),
        "train": True,
        "optimizer": "adamw",
        "batch_size": batch,
        "num_layers": layers,
        "max_seq_length": seq,
        "grad_checkpoint": True,
        "adapter_path": str(adapters),
        "lora_parameters": {
            "rank": rank,
            "scale": 2.0,
            "dropout": 0.0,
            "keys": [f"self_attn.{name}_proj" for name in "qkvo"],
        },
    }
