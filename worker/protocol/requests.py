"""The requests from the parent to the worker.

Imports only the standard library, because the parent imports this module and must start fast.
Sizes are in bytes, durations in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worker.protocol.configuration import Configuration

LORA_SCALE = 2.0  # default scale of the adapters
CHECKPOINT_PREFIX = "checkpoint-"  # start of the names of checkpoint folders in --adapter-path


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's ``config.json``, and the local folder of its weights if they are real."""

    config: dict[str, Any]
    path: str | None = None


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A trial of ``configuration`` with ``steps`` relaxed steps within the budget."""

    model: ModelSource
    configuration: Configuration
    steps: int
    budget_bytes: int
    seed: int = 0
    lengths: tuple[int, ...] = ()
    """Further sequence lengths at which steps are timed."""
    validation_lengths: tuple[int, ...] = ()
    """Sequence lengths at which validation is timed."""


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model's ``config.json``, and a training of it whose layers are the most wanted.

    ``memory_on`` is the backend for which the memory of steps is asked for, if any.
    """

    config: dict[str, Any]
    configuration: Configuration
    memory_on: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Asks for the device and, for each model by a key, whether it can be trained like that."""

    models: dict[str, PlannedModel]


@dataclass(frozen=True, slots=True)
class LengthsRequest:
    """Asks how many tokens each sample has in ``train.jsonl`` and ``valid.jsonl`` of ``data``.

    The folder of ``model`` needs a tokenizer, but no weights.
    """

    model: ModelSource
    data: str


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """A real training, as ``mlx_lm.lora`` would do it.

    ``data`` is a folder. ``iters`` counts batches, each trained in ``micro_batches`` equal parts.
    ``lr_schedule`` is mlx-lm's, and replaces ``learning_rate``. ``adapter_config`` is what mlx-lm
    needs to load the adapters, without the names of the adapted modules. ``resume`` continues after
    the newest checkpoint in ``adapter_path``, if any.
    """

    model: ModelSource
    configuration: Configuration
    data: str
    adapter_path: str
    iters: int
    micro_batches: int
    learning_rate: float
    mask_prompt: bool
    seed: int
    val_batches: int
    steps_per_eval: int
    save_every: int
    limit_bytes: int
    budget_bytes: int
    adapter_config: dict[str, Any]
    resume: bool
    lora_scale: float = LORA_SCALE
    lr_schedule: dict[str, Any] | None = None


Request = TrialRequest | ProbeRequest | LengthsRequest | TrainingRequest
