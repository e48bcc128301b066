#!/usr/bin/env python3
"""``your_ai train``: losses and wall time against mlx_lm.lora's, memory against what it said.

Without options on a small model of our own; with ``--preset`` on one of that preset's size, whose
4-bit weights are synthesized once, in a folder as mlx_lm.convert leaves it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchlib import gb, table
from make_model import make_model, make_preset, make_text

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def seconds(*arguments: str, folder: Path) -> tuple[float, str]:
    """How long ``python -m …`` takes in a folder, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began, ANSI.sub("", done.stdout + done.stderr)


def losses_of(printed: str) -> list[float]:
    """The training losses that mlx_lm.lora printed, three digits each."""
    return [float(loss) for loss in re.findall(r"^ +\d+ +([\d.]+)(?: [▲▼]|  )", printed, re.M)]


def record(folder: Path, name: str) -> dict[str, Any]:
    """What a training left behind."""
    content: dict[str, Any] = json.loads((folder / name / "training.json").read_bytes())
    return content


def against_lora(folder: Path, training: Sequence[str], rounds: int) -> list[object]:
    """One line: the same training by both, in turns, after one round that warms the caches."""
    pairs = []
    found: list[float] = []
    worst = 0.0
    for n in range(rounds + 1):
        here = ["--run-dir", f"ours-{n}", "--adapter-path", f"ours-{n}-adapters", "--quiet"]
        export = ["--export", "lora.yaml", "--adapter-path", f"theirs-{n}"]
        seconds("your_ai", "train", *training, *export, folder=folder)
        ours, _ = seconds("your_ai", "train", *training, *here, folder=folder)
        theirs, printed = seconds("mlx_lm", "lora", "--config", "lora.yaml", folder=folder)
        expected = losses_of(printed)
        found = [loss for _, loss in record(folder, f"ours-{n}")["losses"]]
        if len(found) != len(expected):
            raise SystemExit(f"{len(found)} losses against {len(expected)}")
        worst = max(worst, *(abs(a - b) for a, b in zip(found, expected, strict=True)))
        if n:
            pairs.append((ours, theirs))
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return [len(found), f"{worst:.4f}", f"{ours:.1f} s", f"{theirs:.1f} s", f"{ours / theirs:.2f}"]


def prediction(name: str, found: dict[str, Any]) -> list[object]:
    """One line: what a training said, and what it took."""
    said, took = found["expected"], found["measured"]
    return [
        name,
        found["iterations"],
        gb(said["peak_bytes"]),
        gb(took["peak_bytes"]),
        f"{took['peak_bytes'] / said['peak_bytes']:.3f}",
        f"{said['seconds_per_iteration']:.3f}",
        f"{took['seconds_per_iteration']:.3f}",
    ]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", help="such as llama-8b; then mlx_lm.lora is left out")
    parser.add_argument("--max-memory", default="12", help="of the preset, in GB")
    parser.add_argument("--iters", default="50")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    length = "1024" if arguments.preset else "128"
    with tempfile.TemporaryDirectory(prefix="train-") as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = name
        spec = ["--weights", "real", "--seq-length", length]
        if arguments.preset:
            model = make_preset(folder / "model", arguments.preset)
            spec += ["--max-memory", arguments.max_memory]
        else:
            model = make_model(folder / "model")
            spec += ["--quantize", "none", "--batch-size", "4", "--lora-rank", "8"]
        make_text(folder / "data", longest=int(length), shortest=int(length) // 2)
        output = ["--output", "results.json", "--run-dir", "measured"]
        _, told = seconds(
            "your_ai", "benchmark", "--model", str(model), *spec, *output, folder=folder
        )
        print(told, file=sys.stderr)
        training = ["--from", "results.json", "--data", "data", "--iters", arguments.iters]
        training += ["--steps-per-report", "1", "--val-batches", "2", "--steps-per-eval", "20"]
        head = ["model", "iterations", "peak said", "peak", "ratio", "s/iteration said", "s"]
        if arguments.preset:
            here = ["--run-dir", "ours", "--adapter-path", "adapters"]
            _, told = seconds("your_ai", "train", *training, *here, folder=folder)
            print(told[-1500:], file=sys.stderr)
            rows = [prediction(arguments.preset, record(folder, "ours"))]
            table("What your_ai train said, and what it took", head, rows)
            return
        line = against_lora(folder, training, arguments.rounds)
        told_head = ["iterations", "largest difference of a loss", "ours", "mlx_lm.lora", "ratio"]
        table("your_ai train against mlx_lm.lora", told_head, [line])
        table(
            "What your_ai train said, and what it took",
            head,
            [prediction("small", record(folder, "ours-0"))],
        )


if __name__ == "__main__":
    main()
