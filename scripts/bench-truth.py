#!/usr/bin/env python3
"""The truth: what a trial says against what real ``mlx_lm.lora`` trainings then take.

One small model with its tokenizer and text is made, bf16 and 4-bit. For each it prints the peak
that a trial reports against that of a training of 50 iterations on texts of varying length,
synthesized against real weights, and a training under exactly the needed memory; and whether
budgets just above and below the needed memory pass.
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
    """What trial and training have in common."""

    batch: int
    rank: int
    layers: int
    seq: int
    iterations: int

    def options(self, model: Path, *more: str) -> list[str]:
        """As ``your_ai benchmark`` takes them."""
        sizes = [
            f"--batch-size={self.batch}",
            f"--lora-rank={self.rank}",
            f"--seq-length={self.seq}",
        ]
        kept = ["--quiet"] if "4bit" in model.name else ["--quiet", "--quantize=none"]
        return [f"--model={model}", f"--lora-layers={self.layers}", *kept, *sizes, *more]


# Hidden size, and the rest. MLX's CPU backend multiplies quantized weights far more slowly than
# bf16 ones, so that model is smaller.
SIZES = {
    "bf16": (128, Setting(batch=2, rank=16, layers=4, seq=256, iterations=50)),
    "4-bit": (64, Setting(batch=2, rank=16, layers=4, seq=128, iterations=50)),
}


def lora_peak(model: Path, data: Path, setting: Setting, limit: int = 0) -> int:
    """Bytes at the peak of a real ``mlx_lm.lora``, under an MLX memory limit if one is given."""
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
    """MB of 2^20 bytes with three digits: these models are small."""
    return f"{nbytes / 2**20:.3f}"


def judge(name: str, model: Path, data: Path, setting: Setting) -> list[list[Any]]:
    """All comparisons for one model; rows of what, trial, truth and ratio."""
    real = one_trial(*setting.options(model, "--weights=real"))
    synthetic = one_trial(*setting.options(model))
    needed, peak = real["needed_memory_bytes"], real["peak_memory_bytes"]
    rows = [compare(f"{name}: peak, against mlx_lm.lora", peak, lora_peak(model, data, setting))]
    for key in ("needed", "peak"):
        ours, theirs = synthetic[f"{key}_memory_bytes"], real[f"{key}_memory_bytes"]
        rows.append(compare(f"{name}: {key}, synthesized against real", ours, theirs))
    at_needed = lora_peak(model, data, setting, needed)
    rows.append(compare(f"{name}: mlx_lm.lora limited to needed memory", at_needed, needed))
    at_its_limit = lora_peak(model, data, setting, real["needed_memory_limit_bytes"])
    rows.append(compare(f"{name}: mlx_lm.lora at needed memory's own limit", at_its_limit, needed))
    for factor in (1.01, 0.99):
        run = benchmark(*setting.options(model, f"--max-memory={needed * factor / GB:.12f}"))
        (entry,) = run.results
        rows.append([f"{name}: budget of {factor} × needed", entry["outcome"], "", ""])
    return rows


def compare(what: str, ours: int, truth: int) -> list[Any]:
    """One row of the table."""
    return [what, mb(ours), mb(truth), f"{ours / truth:.4f}"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", choices=SIZES, nargs="*", default=list(SIZES))
    chosen = parser.parse_args().weights
    rows = []
    for weights in chosen:
        hidden, setting = SIZES[weights]
        with tempfile.TemporaryDirectory(prefix="truth-") as folder:
            model = make_model(Path(folder) / "bf16", hidden=hidden, layers=setting.layers)
            data = make_text(Path(folder) / "data", longest=setting.seq)
            if weights == "4-bit":
                model = quantize(model, Path(folder) / "4bit", 4)
            rows += judge(weights, model, data, setting)
    table("The truth, MB", ["what", "measured", "against", "ratio"], rows)
