#!/usr/bin/env python3
"""Compare ``your_ai train`` with mlx_lm.lora (losses, wall time) and with its own expectations.

Uses a small model by default. With ``--preset`` it uses a model of that preset's size with
synthetic 4-bit weights.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchlib import table
from make_model import make_model, make_preset, make_text

from your_ai.units import show_size

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def seconds(*arguments: str, folder: Path) -> tuple[float, str]:
    """Run ``python -m …`` in a folder. Return the seconds it takes and its output."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began, ANSI.sub("", done.stdout + done.stderr)


def losses_of(printed: str) -> list[float]:
    """Return the training losses in the output of mlx_lm.lora, which have three decimals."""
    return [float(loss) for loss in re.findall(r"^ +\d+ +([\d.]+)(?: [▲▼]|  )", printed, re.M)]


def record(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of a training's ``training.json``."""
    content: dict[str, Any] = json.loads((folder / name / "training.json").read_bytes())
    return content


def against_lora(folder: Path, training: Sequence[str], rounds: int) -> list[object]:
    """Return a row that compares your_ai with mlx_lm.lora.

    Runs the same training with both, alternating, after one round to fill caches.
    """
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
            raise SystemExit(f"{len(found)} losses, but mlx_lm.lora has {len(expected)}")
        worst = max(worst, *(abs(a - b) for a, b in zip(found, expected, strict=True)))
        if n:
            pairs.append((ours, theirs))
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return [len(found), f"{worst:.4f}", f"{ours:.1f} s", f"{theirs:.1f} s", f"{ours / theirs:.2f}"]


def starved(folder: Path, training: Sequence[str], iters: int) -> list[object]:
    """Return a row about a training during which another process takes the GPU's memory."""
    command = [sys.executable, "-m", "your_ai", "train", *training, "--save-every", "10"]
    command += ["--run-dir", "starved", "--adapter-path", "starved-adapters"]
    trainer = subprocess.Popen(command, cwd=folder)
    _wait(trainer, lambda: _journal(folder).count('"kind":"reported"') >= iters // 2)
    with subprocess.Popen([sys.executable, "-c", TAKE_MEMORY], cwd=folder) as other:
        try:
            _wait(trainer, lambda: '"kind":"failed"' in _journal(folder))
        finally:
            other.kill()
    if trainer.wait() != 0:
        raise SystemExit("the training did not finish")
    found = record(folder, "starved")
    failures = ", ".join(f"{each['outcome']} ({each['reason']})" for each in found["failures"])
    count = found["setting"]["micro_batches"]
    return [found["iterations"], failures, f"{count} micro-batches", found["samples"]]


TAKE_MEMORY = """
import time
import mlx.core as mx
mx.set_cache_limit(0)
held = []
while True:
    try:
        held.append(mx.zeros(2**26, dtype=mx.uint32))
        mx.eval(held[-1])
    except RuntimeError:  # no memory is free; try again, in case the training frees some
        time.sleep(0.01)
"""


def _journal(folder: Path) -> str:
    path = folder / "starved" / "journal.jsonl"
    return path.read_text() if path.exists() else ""


def _wait(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` returns True. Exit if the training ends before that."""
    while not condition():
        if process.poll() is not None:
            raise SystemExit("the training ended before its memory was taken")
        time.sleep(0.05)


def prediction(name: str, found: dict[str, Any]) -> list[object]:
    """Return a row with the expected and the measured figures of a training."""
    expected, measured = found["expected"], found["measured"]
    return [
        name,
        found["iterations"],
        show_size(expected["peak_bytes"]),
        show_size(measured["peak_bytes"]),
        f"{measured['peak_bytes'] / expected['peak_bytes']:.3f}",
        f"{expected['seconds_per_iteration']:.3f}",
        f"{measured['seconds_per_iteration']:.3f}",
    ]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", help="preset to train, such as llama-8b")
    parser.add_argument(
        "--max-memory", default="12", help="memory budget for the preset in GB [default: 12]"
    )
    parser.add_argument("--iters", type=int, default=50, help="iterations [default: 50]")
    parser.add_argument(
        "--rounds", type=int, default=3, help="comparisons with mlx_lm.lora, or 0 [default: 3]"
    )
    parser.add_argument(
        "--starve", action="store_true", help="also take away the GPU's memory halfway"
    )
    arguments = parser.parse_args()
    length = 1024 if arguments.preset else 128
    with tempfile.TemporaryDirectory(prefix="train-") as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = name
        spec = ["--weights", "real", "--seq-length", str(length)]
        if arguments.preset:
            model = make_preset(folder / "model", arguments.preset)
            spec += ["--max-memory", arguments.max_memory]
        else:
            model = make_model(folder / "model")
            spec += ["--quantize", "none", "--batch-size", "4", "--lora-rank", "8"]
        make_text(folder / "data", longest=length, shortest=length // 2)
        output = ["--output", "results.json", "--run-dir", "measured"]
        measure = ["benchmark", "--model", str(model), *spec, *output]
        print(seconds("your_ai", *measure, folder=folder)[1], file=sys.stderr)
        training = ["--from", "results.json", "--data", "data", "--iters", str(arguments.iters)]
        training += ["--steps-per-report", "1", "--val-batches", "2", "--steps-per-eval", "20"]
        here = ["--run-dir", "ours", "--adapter-path", "adapters"]
        output_of_train = seconds("your_ai", "train", *training, *here, folder=folder)[1]
        print(output_of_train[-1500:], file=sys.stderr)
        table(
            "Expected and measured figures of your_ai train",
            [
                *("model", "iterations", "expected peak", "measured peak", "ratio"),
                *("expected s/iteration", "measured s/iteration"),
            ],
            [prediction(arguments.preset or "small", record(folder, "ours"))],
        )
        if arguments.starve:
            table(
                "Another process takes the GPU's memory halfway",
                ["iterations", "failures", "restarted with", "samples seen"],
                [starved(folder, training, arguments.iters)],
            )
        if arguments.rounds:
            table(
                "your_ai train compared with mlx_lm.lora",
                ["iterations", "largest loss difference", "your_ai", "mlx_lm.lora", "ratio"],
                [against_lora(folder, training, arguments.rounds)],
            )


if __name__ == "__main__":
    main()
