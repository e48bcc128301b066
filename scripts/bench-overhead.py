#!/usr/bin/env python3
"""Measure the overhead of your_ai as ratios of wall times.

It compares:

- a trial (minus loading and steps) and the import of mlx-lm's trainer;
- a whole trial and ``mlx_lm.lora --iters 5`` on the same model;
- ``your_ai --help`` and the import of click.

Both sides alternate and the medians are compared, so that a busy machine affects both equally.
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
    """Run ``python`` with these arguments and return the seconds it takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def alternate(rounds: int, ours: Timed, theirs: Timed) -> tuple[float, float]:
    """Return the medians of both times. They alternate, after one round to fill caches."""
    pairs = [(ours(), theirs()) for _ in range(rounds + 1)][1:]
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
    )


def row(what: str, target: float, times: tuple[float, float]) -> list[object]:
    """Return a row of the table."""
    ours, theirs = times
    return [what, f"{ours:.3f} s", f"{theirs:.3f} s", f"{ours / theirs:.2f}", f"≤ {target}"]


def trial_overhead(options: list[str]) -> float:
    """Run a trial and return its wall time without loading and steps, in seconds."""
    entry = one_trial(*options)
    steps: float = sum(step["seconds"] for step in entry["steps"])
    wall: float = entry["wall_seconds"]
    load: float = entry["load"]["seconds"]
    return wall - load - steps


def trial_seconds(options: list[str]) -> float:
    """Run a trial and return the lifetime of its worker in seconds."""
    wall: float = one_trial(*options)["wall_seconds"]
    return wall


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of trials [default: 5]")
    parser.add_argument(
        "--help-rounds", type=int, default=20, help="rounds of your_ai --help [default: 20]"
    )
    arguments = parser.parse_args()
    rounds = arguments.rounds
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Path(name)
        model = make_model(folder / "model", hidden=128)
        # All texts have full length, as in a trial. There are enough validation texts for the 25
        # batches of 2 that mlx_lm.lora uses by default.
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
                "a trial without loading and steps / import mlx_lm.tuner.trainer",
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
    table("Overhead", ["comparison", "your_ai", "other", "ratio", "target"], rows)


if __name__ == "__main__":
    main()
