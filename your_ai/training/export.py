"""Export a training as a configuration for ``mlx_lm.lora``: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from worker.protocol.configuration import FineTuneType, QuantizationMode
from worker.protocol.requests import TrainingRequest
from your_ai.models.quantization import Quantization, stored

SAME_NAMES = (
    *("mask_prompt", "seed", "iters", "val_batches", "learning_rate", "steps_per_eval"),
    *("save_every",),
)
"""Options with the same name in `your_ai train`, `TrainingRequest` and mlx_lm.lora."""


def lora_config(
    request: TrainingRequest, model: str, steps_per_report: int, keys: Sequence[str]
) -> dict[str, Any]:
    """Return the content of a file for ``mlx_lm.lora --config``, and of ``adapter_config.json``.

    ``model`` is a folder or Hub id; ``keys`` are the names of the modules with adapters.
    """
    configuration = request.configuration
    is_full = configuration.fine_tune_type is FineTuneType.FULL
    optimizer = configuration.optimizer.value
    arguments = dict(text.split("=", 1) for text in configuration.optimizer_config)
    return {
        "model": model,
        "train": True,
        "data": request.data,
        "fine_tune_type": configuration.fine_tune_type.value,
        "optimizer": optimizer,
        "optimizer_config": {optimizer: {n: json.loads(v) for n, v in arguments.items()}},
        "num_layers": configuration.lora_layers,
        "batch_size": configuration.batch_size,
        "steps_per_report": steps_per_report,
        **{name: getattr(request, name) for name in SAME_NAMES},
        "grad_accumulation_steps": configuration.grad_accumulation_steps,
        **({} if request.lr_schedule is None else {"lr_schedule": request.lr_schedule}),
        "adapter_path": request.adapter_path,
        "max_seq_length": configuration.seq_length,
        "grad_checkpoint": configuration.grad_checkpoint,
        "lora_parameters": None if is_full else _lora_parameters(request, keys),
    }


def _lora_parameters(request: TrainingRequest, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "rank": request.configuration.lora_rank,
        "scale": request.lora_scale,
        "dropout": request.configuration.lora_dropout,
        "keys": [*keys],
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
    found_in = Quantization.of(request.configuration)
    if found_in.bits is not None and stored(request.model.config) is None:
        found += [
            f"Measured with {found_in.label} weights, but this model is not quantized. "
            "Convert it with:",
            f"mlx_lm.convert --hf-path {model} {_convert_options(found_in)} --mlx-path DIR",
            "and set `model: DIR` below.",
        ]
    return found


def _convert_options(quantization: Quantization) -> str:
    is_affine = quantization.mode is QuantizationMode.AFFINE
    mode = [] if is_affine else ["--q-mode", quantization.mode.value]
    group = (
        [] if quantization.is_default_group else ["--q-group-size", str(quantization.group_size)]
    )
    return " ".join(["-q", "--q-bits", str(quantization.bits), *mode, *group])


def as_yaml(config: Mapping[str, Any], comments: Sequence[str]) -> str:
    """Return the configuration as YAML, preceded by ``comments``."""
    import yaml

    head = "".join(f"# {comment}\n" for comment in comments)
    return head + str(yaml.safe_dump(dict(config), sort_keys=False))
