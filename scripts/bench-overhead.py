#!/usr/bin/env python3
"""What measuring costs on top of what is measured, as ratios within one run.

A trial's wall time without loading and steps against importing mlx-lm's trainer; a whole trial
against ``mlx_lm.lora --iters 5`` on the same model; ``your_ai --help`` against importing click.
Medians of alternating rounds, so that a busy machine touches both sides alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchlib import lora_config, one_trial, table
from make_model import make_model, make_text

Timed = Callable[[], float]


def run(*arguments: str) -> float:
    """Seconds that ``python …`` takes, its output thrown away."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def alternate(rounds: int, ours: Timed, theirs: Timed) -> tuple[float, float]:
    """The medians of both, measured in turns after one round that warms the caches."""
    pairs = [(ours(), theirs()) for _ in range(rounds + 1)][1:]
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
    )


def row(what: str, target: float, times: tuple[float, float]) -> list[object]:
    """One line of the table."""
    ours, theirs = times
    return [what, f"{ours:.3f} s", f"{theirs:.3f} s", f"{ours / theirs:.2f}", f"≤ {target}"]


def trial_overhead(options: list[str]) -> float:
    """Seconds of a trial in which it neither loads nor trains."""
    entry = one_trial(*options)
    steps: float = sum(step["seconds"] for step in entry["steps"])
    wall: float = entry["wall_seconds"]
    load: float = entry["load"]["seconds"]
    return wall - load - steps


def trial_seconds(options: list[str]) -> float:
    """Seconds of a whole trial, from the spawn until its worker was reaped."""
    wall: float = one_trial(*options)["wall_seconds"]
    return wall


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--help-rounds", type=int, default=20)
    arguments = parser.parse_args()
    rounds = arguments.rounds
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Path(name)
        model = make_model(folder / "model", hidden=128)
        # Full length, as a trial's batches are, and as many validation texts as mlx_lm.lora takes
        # by default: 25 batches, twice.
        data = make_text(folder / "data", longest=256, shortest=256, valid=50)
        options = [f"--model={model}", "--quantize=none", "--weights=real", "--quiet"]
        options += ["--seq-length=256", "--lora-rank=16", "--lora-layers=4"]
        config = lora_config(model, data, folder / "adapters", layers=4, rank=16, seq=256, batch=2)
        (folder / "lora.yaml").write_text(json.dumps({**config, "iters": 5}))
        (folder / "bare.yaml").write_text(json.dumps({**config, "iters": 5, "val_batches": 1}))

        def lora(file: str) -> float:
            return run("-m", "mlx_lm", "lora", "--config", str(folder / file))

        rows = [
            row(
                "a trial less loading and steps / import mlx_lm.tuner.trainer",
                1.1,
                alternate(
                    rounds,
                    lambda: trial_overhead(options),
                    lambda: run("-c", "import mlx_lm.tuner.trainer"),
                ),
            ),
            row(
                "a whole trial / mlx_lm.lora --iters 5",
                0.5,
                alternate(rounds, lambda: trial_seconds(options), lambda: lora("lora.yaml")),
            ),
            row(
                "a whole trial / mlx_lm.lora --iters 5 with one validation batch",
                0.5,
                alternate(rounds, lambda: trial_seconds(options), lambda: lora("bare.yaml")),
            ),
            row(
                "your_ai --help / import click",
                1.5,
                alternate(
                    arguments.help_rounds,
                    lambda: run("-m", "your_ai", "--help"),
                    lambda: run("-c", "import click"),
                ),
            ),
        ]
    table("Overhead", ["what", "ours", "theirs", "ratio", "target"], rows)


if __name__ == "__main__":
    main()
