"""Export a training as a configuration for ``mlx_lm.lora``: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker.protocol.requests import LORA_SCALE, TrainingRequest

SAME_NAMES = (
    *("mask_prompt", "seed", "iters", "val_batches", "learning_rate", "steps_per_eval"),
    *("grad_accumulation_steps", "save_every"),
)
"""Options with the same name in `your_ai train`, `TrainingRequest` and mlx_lm.lora."""


def lora_config(
    request: TrainingRequest, model: str, steps_per_report: int, keys: Sequence[str]
) -> dict[str, Any]:
    """Return the content of a file for ``mlx_lm.lora --config``, and of ``adapter_config.json``.

    ``model`` is a folder or Hub id; ``keys`` are the names of the trained projections in a layer.
    """
    configuration = request.configuration
    return {
        "model": model,
        "train": True,
        "data": request.data,
        "fine_tune_type": "lora",
        "optimizer": "adamw",
        "num_layers": configuration.lora_layers,
        "batch_size": configuration.batch_size,
        "steps_per_report": steps_per_report,
        **{name: getattr(request, name) for name in SAME_NAMES},
        "adapter_path": request.adapter_path,
        "max_seq_length": configuration.seq_length,
        "grad_checkpoint": configuration.grad_checkpoint,
        "lora_parameters": {
            "rank": configuration.lora_rank,
            "scale": LORA_SCALE,
            "dropout": 0.0,
            "keys": [*keys],
        },
    }


def notes(request: TrainingRequest, model: str, revision: str | None) -> list[str]:
    """Return notes on what the configuration cannot express.

    ``revision`` is the model's commit on the Hub.
    """
    found = [
        "For mlx_lm.lora --config: the training that your_ai train would run.",
        f"Measured with mx.set_memory_limit({request.limit_bytes}); mlx_lm.lora sets no limit.",
    ]
    if revision is not None:
        found.append(
            f"Measured with revision {revision} of the model; mlx_lm.lora uses the latest."
        )
    bits = request.configuration.quantization_bits
    if bits is not None and request.model.config.get("quantization") is None:
        found += [
            f"Measured with {bits}-bit weights, but this model is not quantized. Convert it with:",
            f"mlx_lm.convert --hf-path {model} -q --q-bits {bits} --mlx-path DIR",
            "and set `model: DIR` below.",
        ]
    return found


def as_yaml(config: Mapping[str, Any], comments: Sequence[str]) -> str:
    """Return the configuration as YAML, preceded by ``comments``."""
    import yaml

    head = "".join(f"# {comment}\n" for comment in comments)
    return head + str(yaml.safe_dump(dict(config), sort_keys=False))
