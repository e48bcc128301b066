"""What the bench scripts share: running the command for real, and printing what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GB = 2**30


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """One real run of a command that measures: its results document, exit status, wall time."""

    document: dict[str, Any]
    exit_status: int
    seconds: float

    @property
    def results(self) -> list[dict[str, Any]]:
        """The trials' entries, in order."""
        entries: list[dict[str, Any]] = self.document["results"]
        return entries


def benchmark(*options: str) -> BenchmarkRun:
    """Run ``your_ai benchmark`` with ``options`` in a process of its own, its output shown."""
    return your_ai("benchmark", *options)


def your_ai(*arguments: str) -> BenchmarkRun:
    """Run a command that measures, in a process of its own, its output shown."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "your_ai", *arguments, "--run-dir", str(run_dir)]
        began = time.perf_counter()
        status = subprocess.run(command, check=False).returncode
        seconds = time.perf_counter() - began
        document = json.loads((run_dir / "results.json").read_text())
    return BenchmarkRun(document, status, seconds)


def one_trial(*options: str) -> dict[str, Any]:
    """The entry of a run of one trial, which must pass."""
    (entry,) = benchmark(*options).results
    if not entry["success"]:
        raise SystemExit(f"the trial was to pass: {entry['outcome']}: {entry['error']}")
    return entry


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table, as docs/measurements.md holds them."""
    print(f"\n### {title}\n")
    print(f"| {' | '.join(head)} |")
    print(f"|{' --- |' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)


def gb(nbytes: int | None) -> str:
    """GB with two digits, or a dash."""
    return "–" if nbytes is None else f"{nbytes / GB:.2f}"


def lora_config(
    model: Path, data: Path, adapters: Path, *, layers: int, rank: int, seq: int, batch: int
) -> dict[str, Any]:
    """The configuration with which ``mlx_lm.lora`` trains what a trial of these sizes trains."""
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
