#!/usr/bin/env python3
"""Compare a trial's peak memory with that of plain ``mlx_lm.lora --train``, without a limit.

Both train as mlx_lm.lora does by default: batch 4, rank 8, 16 layers, all modules, adam, sequences
of 2048 tokens, no gradient checkpointing; or the same with another kind of training. mlx_lm.lora
runs its own code on a data set in which every sequence has full length. Only its weights are
synthesized in memory, with the shapes and the quantization of the model, instead of loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchlib import GB, one_trial, table
from make_model import make_model, make_text, make_tokenizer

from your_ai.models import presets

_LORA = """
import json, sys
from pathlib import Path
import mlx.core as mx
from mlx_lm import lora
from mlx_lm.utils import load_tokenizer
from worker import weights
from worker.protocol.codec import decode_request

request = decode_request(sys.argv.pop(1).encode())
tokenizer = load_tokenizer(Path(sys.argv.pop(1)))

def load(*_, **__):
    mx.random.seed(0)
    model = weights.plan(request.model, request.configuration)
    weights.materialize(model, synthesize=True)
    return model, tokenizer

lora.load = load
lora.main()
print("peak", mx.get_peak_memory())
"""

KINDS: dict[str, tuple[list[str], list[str]]] = {
    "lora": ([], []),
    "dora": (["--fine-tune-type=dora"], ["--fine-tune-type=dora"]),
    "full": (["--fine-tune-type=full"], ["--fine-tune-type=full"]),
    "mxfp4": (["--quantize=mxfp4"], []),
    "checkpointed": (["--grad-checkpoint"], ["--grad-checkpoint"]),
    "accumulated": (["--grad-accumulation-steps=2"], ["--grad-accumulation-steps=2"]),
}
"""By kind of training: the options of your_ai benchmark and those of mlx_lm.lora."""


def lora_peak(entry: dict[str, Any], config: dict[str, Any], iters: int, options: list[str]) -> int:
    """Run ``mlx_lm.lora`` like the trial in ``entry`` and return its peak in bytes."""
    from worker.protocol.codec import encode
    from worker.protocol.requests import ModelSource, TrialRequest
    from your_ai.runs.trial_result import trial_result

    trained = trial_result(entry).config
    request = TrialRequest(ModelSource(config), trained.configuration, 1, 2**50)
    with tempfile.TemporaryDirectory() as folder:
        length = trained.seq_length
        data = make_text(Path(folder) / "data", longest=length, shortest=length)
        make_tokenizer(Path(folder))
        command = [
            *(sys.executable, "-c", _LORA, encode(request).decode(), folder, "--train"),
            *("--model", "synthesized", "--data", str(data), "--iters", str(iters), *options),
            *("--batch-size", str(trained.batch_size), "--max-seq-length", str(length)),
            *("--num-layers", str(trained.lora_layers), "--adapter-path", f"{folder}/adapters"),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mlx_lm.lora failed: {done.stderr[-2000:]}")
    return int(done.stdout.rsplit("peak", 1)[1])


def compare(model: str, kind: str, arguments: argparse.Namespace) -> list[object]:
    """Return a row of the table."""
    ours, theirs = KINDS[kind]
    is_plain = kind not in ("checkpointed",)
    rank = [] if kind == "full" else ["--lora-rank=8"]
    sizes = ["--batch-size=4", *rank, f"--seq-length={arguments.seq_length}"]
    checkpointing = ["--no-grad-checkpoint"] if is_plain else []
    quantize = [f"--quantize={arguments.quantize}"] if arguments.quantize and not ours else []
    memory = [f"--max-memory={arguments.max_memory}"] if arguments.max_memory else []
    options = [f"--model={model}", *sizes, *checkpointing, *quantize, *memory, *ours]
    entry = one_trial(*options, f"--steps={arguments.iters}", "--quiet")
    peak = lora_peak(entry, config_of(model), arguments.iters, theirs)
    mine = entry["peak_memory_bytes"]
    return [Path(model).name, kind, size(mine), size(peak), f"{mine / peak:.3f}"]


def size(nbytes: int) -> str:
    """Return the size in GB or, if it is less, in MB."""
    return f"{nbytes / GB:.2f} GB" if nbytes >= GB else f"{nbytes / 2**20:.2f} MB"


def config_of(model: str) -> dict[str, Any]:
    """Return the config of a preset or of the model in a folder."""
    preset = presets.all_presets().get(model)
    if preset is not None:
        return preset.config
    found: dict[str, Any] = json.loads((Path(model) / "config.json").read_text())
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="preset or folder [default: a small one]")
    parser.add_argument("--kind", choices=KINDS, action="append", help="repeatable [default: all]")
    parser.add_argument("--quantize", default="", help="of the kinds without their own")
    parser.add_argument("--seq-length", type=int, default=2048)
    parser.add_argument("--max-memory", default="", help="budget in GB; must exceed the peak")
    parser.add_argument("--iters", type=int, default=10, help="steps of both")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plain-") as folder:
        models = chosen.model or [str(make_model(Path(folder) / "small", hidden=128, layers=4))]
        rows = [
            compare(model, kind, chosen) for model in models for kind in chosen.kind or list(KINDS)
        ]
    table(
        "Peak memory without a limit",
        ["model", "kind", "trial", "mlx_lm.lora", "ratio"],
        rows,
    )
