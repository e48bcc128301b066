#!/usr/bin/env python3
"""Compare the memory that a trial reports with that of real ``mlx_lm.lora`` trainings.

Makes a small model with tokenizer and data, in bf16 and 4-bit. For each of them it

- compares a trial's peak memory with that of a training on texts of varying length,
- compares synthetic with real weights,
- trains under a memory limit of exactly the needed memory,
- runs trials with budgets just above and just below needed memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchlib import GB, benchmark, lora_config, one_trial, table
from make_model import make_model, make_text, quantize

_LORA = """
import sys, mlx.core as mx
from mlx_lm import lora
limit = int(sys.argv.pop(1))
if limit:
    mx.set_memory_limit(limit)
lora.main()
print("peak", mx.get_peak_memory())
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings shared by trial and training."""

    batch: int
    rank: int
    layers: int
    seq: int
    iterations: int

    def options(self, model: Path, *more: str) -> list[str]:
        """Return options of ``your_ai benchmark`` for these settings."""
        sizes = [
            f"--batch-size={self.batch}",
            f"--lora-rank={self.rank}",
            f"--seq-length={self.seq}",
        ]
        kept = ["--quiet"] if "4bit" in model.name else ["--quiet", "--quantize=none"]
        return [f"--model={model}", f"--lora-layers={self.layers}", *kept, *sizes, *more]


# Hidden size and settings. The 4-bit model is smaller, because MLX's CPU backend is far slower with
# quantized weights.
SIZES = {
    "bf16": (128, Setting(batch=2, rank=16, layers=4, seq=256, iterations=50)),
    "4-bit": (64, Setting(batch=2, rank=16, layers=4, seq=128, iterations=50)),
}


def lora_peak(model: Path, data: Path, setting: Setting, limit: int = 0) -> int:
    """Run ``mlx_lm.lora``, with an MLX memory limit if it is not 0. Return the peak in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"layers": setting.layers, "rank": setting.rank, "seq": setting.seq}
        config = lora_config(model, data, Path(folder), batch=setting.batch, **sizes)
        config["iters"] = setting.iterations
        config_file = Path(folder) / "lora.yaml"
        config_file.write_text(json.dumps(config))  # JSON is YAML
        command = [sys.executable, "-c", _LORA, str(limit), "--config", str(config_file)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.rsplit("peak", 1)[1])


def mb(nbytes: int) -> str:
    """Return the size in MB (2^20 bytes) with three decimals."""
    return f"{nbytes / 2**20:.3f}"


def comparisons(name: str, model: Path, data: Path, setting: Setting) -> list[list[Any]]:
    """Return the table's rows for one model."""
    real = one_trial(*setting.options(model, "--weights=real"))
    synthetic = one_trial(*setting.options(model))
    needed, peak = real["needed_memory_bytes"], real["peak_memory_bytes"]
    lora = lora_peak(model, data, setting)
    rows = [compare(f"{name}: peak of a trial, peak of mlx_lm.lora", peak, lora)]
    for key in ("needed", "peak"):
        ours, theirs = synthetic[f"{key}_memory_bytes"], real[f"{key}_memory_bytes"]
        rows.append(compare(f"{name}: {key}, synthetic and real weights", ours, theirs))
    lora = lora_peak(model, data, setting, needed)
    rows.append(compare(f"{name}: mlx_lm.lora limited to needed memory", lora, needed))
    lora = lora_peak(model, data, setting, real["needed_memory_limit_bytes"])
    rows.append(compare(f"{name}: mlx_lm.lora under the tight phase's limit", lora, needed))
    for factor in (1.01, 0.99):
        run = benchmark(*setting.options(model, f"--max-memory={needed * factor / GB:.12f}"))
        (entry,) = run.results
        rows.append([f"{name}: budget of {factor} × needed", entry["outcome"], "", ""])
    return rows


def compare(name: str, size: int, reference: int) -> list[Any]:
    """Return a row of the table."""
    return [name, mb(size), mb(reference), f"{size / reference:.4f}"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", choices=SIZES, nargs="*", default=list(SIZES), help="models [default: both]"
    )
    chosen = parser.parse_args().weights
    rows = []
    for weights in chosen:
        hidden, setting = SIZES[weights]
        with tempfile.TemporaryDirectory(prefix="truth-") as folder:
            model = make_model(Path(folder) / "bf16", hidden=hidden, layers=setting.layers)
            data = make_text(Path(folder) / "data", longest=setting.seq)
            if weights == "4-bit":
                model = quantize(model, Path(folder) / "4bit", 4)
            rows += comparisons(weights, model, data, setting)
    table("Memory in MB", ["comparison", "first", "second", "ratio"], rows)
