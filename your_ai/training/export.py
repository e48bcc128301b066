"""The same training as ``mlx_lm.lora`` is told it: pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worker.protocol.messages import LORA_SCALE, TrainingRequest


def lora_config(
    spec: TrainingRequest, model: str, steps_per_report: int, keys: Sequence[str]
) -> dict[str, Any]:
    """What ``mlx_lm.lora --config`` reads, and what it leaves beside the adapters.

    ``model`` is its folder, or its id on the hub; ``keys`` are the layers' projections that are
    trained.
    """
    return {
        "model": model,
        "train": True,
        "data": spec.data,
        "fine_tune_type": "lora",
        "optimizer": "adamw",
        "mask_prompt": spec.mask_prompt,
        "seed": spec.seed,
        "num_layers": spec.lora_layers,
        "batch_size": spec.batch_size,
        "iters": spec.iters,
        "val_batches": spec.val_batches,
        "learning_rate": spec.learning_rate,
        "steps_per_report": steps_per_report,
        "steps_per_eval": spec.steps_per_eval,
        "grad_accumulation_steps": spec.grad_accumulation_steps,
        "adapter_path": spec.adapter_path,
        "save_every": spec.save_every,
        "max_seq_length": spec.max_seq_length,
        "grad_checkpoint": spec.grad_checkpoint,
        "lora_parameters": {
            "rank": spec.lora_rank,
            "scale": LORA_SCALE,
            "dropout": 0.0,
            "keys": [*keys],
        },
    }


def notes(spec: TrainingRequest, model: str, revision: str | None) -> list[str]:
    """What the configuration cannot say; ``revision`` is the model's commit on the hub, if any."""
    said = [
        "The training that your_ai train would start, for mlx_lm.lora --config.",
        f"It was measured under mx.set_memory_limit({spec.limit_bytes}); this sets none.",
    ]
    if revision is not None:
        said.append(f"And the model was that of commit {revision}; this takes the newest.")
    if spec.quantization is not None:
        bits = spec.quantization.bits
        said += [
            f"And with {bits}-bit weights, which this model's are not; to make them:",
            f"mlx_lm.convert --hf-path {model} -q --q-bits {bits} --mlx-path DIR",
        ]
    return said


def as_yaml(config: Mapping[str, Any], notes: list[str]) -> str:
    """The configuration as YAML, of which JSON's scalars and lists are a part, below ``notes``."""
    return "\n".join([*(f"# {note}" for note in notes), *_lines(config, "")]) + "\n"


def _lines(config: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {json.dumps(value)}"
