#!/usr/bin/env python3
"""Compare the predicted time and peak of a training on data with those of ``mlx_lm.lora``.

Makes a small model and data with several mixes of lengths. For each of them it measures one trial
with ``--data``, and trains with ``mlx_lm.lora``. The time is that from the first iteration to the
end, including validation. Run it on an idle machine, or with ``--cpu-time``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchlib import one_trial, table
from make_model import make_model, write_text

_LORA = """
import sys, time, mlx.core as mx
from mlx_lm import lora
train = lora.train
def timed(*arguments, **named):
    began = time.perf_counter()
    train(*arguments, **named)
    print("measured", time.perf_counter() - began, mx.get_peak_memory())
lora.train = timed
lora.main()
"""

LONGEST, SAMPLES, VALID = 150, 400, 40
Mix = Callable[[random.Random], int]
MIXES: dict[str, Mix] = {
    "equal": lambda draw: LONGEST,
    "uniform": lambda draw: draw.randint(8, LONGEST),
    "few long": lambda draw: LONGEST if draw.random() < 0.02 else draw.randint(8, LONGEST // 4),
    "two groups": lambda draw: draw.choice([LONGEST // 8, LONGEST]),
    "lognormal": lambda draw: max(8, min(LONGEST, int(draw.lognormvariate(3.5, 0.8)))),
}


_CPU_TIME = "import time; time.perf_counter = time.process_time"


def use_cpu_time(folder: Path) -> None:
    """Let later processes measure CPU time, by a module that Python imports at its start."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_CPU_TIME)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def real(model: Path, data: Path, iters: int, batch: int) -> tuple[float, int]:
    """Train with ``mlx_lm.lora`` and return the seconds and the peak in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "model": str(model),
            "data": str(data),
            "train": True,
            "iters": iters,
            "batch_size": batch,
            "adapter_path": folder,
            "grad_checkpoint": True,
            "num_layers": -1,
        }
        file = Path(folder) / "lora.yaml"
        file.write_text(json.dumps(config))  # JSON is YAML
        command = [sys.executable, "-c", _LORA, "--config", str(file)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.rsplit("measured", 1)[1].split()
    return float(seconds), int(peak)


def predicted(model: Path, data: Path, iters: int, batch: int) -> dict[str, Any]:
    """Measure a trial and return the expected training."""
    sizes = [f"--data={data}", f"--iters={iters}", f"--batch-size={batch}", "--lora-rank=8"]
    entry = one_trial(f"--model={model}", "--quantize=none", "--quiet", "--weights=real", *sizes)
    expected: dict[str, Any] = entry["expected_training"]
    return expected


def compare(name: str, model: Path, root: Path, iters: int, batch: int) -> list[Any]:
    """Return the table's row for a mix of lengths."""
    draw = random.Random(0)
    data = root / name.replace(" ", "-")
    for file, count in (("train", SAMPLES), ("valid", VALID)):
        write_text(data / f"{file}.jsonl", draw, [MIXES[name](draw) for _ in range(count)])
    expected = predicted(model, data, iters, batch)
    seconds, peak = real(model, data, iters, batch)
    ours, our_peak = expected["seconds"], expected["peak_memory_bytes"]
    return [
        *(name, f"{ours:.1f}", f"{seconds:.1f}", f"{ours / seconds:.3f}"),
        *(f"{our_peak / 2**20:.2f}", f"{peak / 2**20:.2f}", f"{our_peak / peak:.3f}"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mix", choices=MIXES, nargs="*", default=list(MIXES), help="[all]")
    parser.add_argument("--iters", type=int, default=100, help="iterations [default: 100]")
    parser.add_argument("--batch-size", type=int, default=4, help="batch size [default: 4]")
    parser.add_argument(
        "--cpu-time", action="store_true", help="compare CPU times, on a machine that is not idle"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="data-") as folder:
        if arguments.cpu_time:
            use_cpu_time(Path(folder) / "cpu-time")
        model = make_model(Path(folder) / "model", hidden=64, layers=1)
        rows = (
            compare(mix, model, Path(folder), arguments.iters, arguments.batch_size)
            for mix in arguments.mix
        )
        head = ["lengths", "expected s", "real s", "ratio", "expected MB", "real MB", "ratio"]
        table(f"{arguments.iters} iterations", head, rows)
