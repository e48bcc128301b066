"""The memory of training steps of the presets, as scripts/make-presets.py traced it."""

from __future__ import annotations

from functools import cache
from importlib import metadata, resources

import msgspec

from worker.protocol.configuration import (
    ALL_KEYS,
    ATTENTION_KEYS,
    Configuration,
    FineTuneType,
)
from worker.protocol.memory import OLD_METAL, MemoryFacts
from your_ai.models.quantization import Quantization
from your_ai.models.resolve import Model

KINDS = {"all": ALL_KEYS, "attention": ATTENTION_KEYS}
"""The adapters for which there are tables, by the value of --lora-keys."""

Tables = dict[str, dict[str, MemoryFacts]]
"""Memory by the kind of adapters, then by the backend."""


def is_shipped(model: Model, configuration: Configuration) -> bool:
    """Return whether a preset's tables cover this training, or a probe could not add to them."""
    is_default_group = Quantization.of(configuration).is_default_group
    return model.is_preset and is_default_group and _kind(configuration) is not None


def shipped(model: Model, configuration: Configuration, backend: str) -> MemoryFacts | None:
    """Return the memory of a preset's step; ``None`` if there is no table for this training."""
    kind = _kind(configuration)
    if kind is None or not model.is_preset:
        return None
    return _tables(model.name).get(kind, {}).get(table_of(backend))


def table_of(backend: str) -> str:
    """Return the name of the tables for a backend. Before MLX 0.32.4 Metal had fewer kernels."""
    is_old = backend == "metal" and _version("mlx") < (0, 32, 4)
    return OLD_METAL if is_old else backend


def _version(package: str) -> tuple[int, ...]:
    parts = metadata.version(package).split(".")
    return tuple(int(part) for part in parts[:3] if part.isdecimal())


def _kind(configuration: Configuration) -> str | None:
    if configuration.fine_tune_type is not FineTuneType.LORA:
        return None
    return next((name for name, keys in KINDS.items() if keys == configuration.lora_keys), None)


@cache
def _tables(preset: str) -> Tables:
    file = resources.files("your_ai.models").joinpath("memory", f"{preset}.json")
    return msgspec.json.decode(file.read_bytes(), type=Tables) if file.is_file() else {}
