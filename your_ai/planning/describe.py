"""Describe a configuration in words: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from worker.protocol.configuration import (
    ALL_KEYS,
    ATTENTION_KEYS,
    Configuration,
    FineTuneType,
)
from your_ai.models.quantization import Quantization
from your_ai.planning.lora_config import LoraConfig

PLAIN = LoraConfig().configuration()
"""What ``mlx_lm.lora --train`` does by default (CONFIG_DEFAULTS in mlx_lm/lora.py)."""

_TYPES = {FineTuneType.LORA: "LoRA", FineTuneType.DORA: "DoRA"}


def trained(c: Configuration) -> str:
    """Return what is trained: ``LoRA on all modules``."""
    if c.fine_tune_type is FineTuneType.FULL:
        return "full fine-tuning"
    return f"{_TYPES[c.fine_tune_type]} on {_keys(c.lora_keys)}"


def sizes(c: Configuration, sign: str = "=") -> str:
    """Return what a search varies: ``batch=2, rank=64, layers=16``; full training has no rank."""
    rank = [("rank", c.lora_rank)] if c.lora_rank else []
    axes = [("batch", c.batch_size), *rank, ("layers", c.lora_layers)]
    return ", ".join(f"{name}{sign}{size}" for name, size in axes)


def configuration(configurations: Sequence[Configuration]) -> str:
    """Return what these configurations have in common, in one line.

    Models in a run can differ in their quantization and in their number of layers.
    """
    first = configurations[0]
    layers = sorted({each.lora_layers for each in configurations})
    count = f"{layers[0]}" if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
    where = f"the last {count} layers" if layers[-1] > 1 else "the last layer"
    rank = f"rank {first.lora_rank} in " if first.lora_rank else ""
    batches = f"batches of {first.batch_size} × {first.seq_length} tokens"
    return ", ".join([trained(first), f"{rank}{where}", batches, *_settings(configurations)])


def fixed_in_search(configurations: Sequence[Configuration]) -> str:
    """Return what a search for batch size, rank and layers does not vary, in one line."""
    first = configurations[0]
    length = f"sequences of {first.seq_length} tokens"
    return ", ".join([trained(first), length, *_settings(configurations)])


def _settings(configurations: Sequence[Configuration]) -> list[str]:
    first = configurations[0]
    weights = dict.fromkeys(Quantization.of(each).label for each in configurations)
    checkpointing = f"{'with' if first.grad_checkpoint else 'without'} gradient checkpointing"
    kept = [*_dropout(first), *_optimizer(first)]
    return [f"{' or '.join(weights)} weights", *kept, checkpointing]


def kind(c: Configuration) -> list[str]:
    """Return what tells configurations with the same sizes apart, if it is not the default."""
    is_plain = c.optimizer is PLAIN.optimizer and not c.optimizer_config
    parts = [] if trained(c) == trained(PLAIN) else [trained(c)]
    return parts + _dropout(c) + _optimizer(c)[1 if is_plain else 0 :]


def differences(
    c: Configuration, *, is_own_quantization: bool, plain: Configuration = PLAIN
) -> list[str]:
    """Return what differs from ``plain``, the defaults of ``mlx_lm.lora``; each with both values.

    ``is_own_quantization`` says whether the weights are as in the model's files.
    """
    return list(_differences(c, is_own_quantization, plain))


def _differences(
    c: Configuration, is_own_quantization: bool, other: Configuration
) -> Iterator[str]:
    if trained(c) != trained(other):
        yield f"{trained(c)} ({trained(other)})"
    sizes = (
        ("batch size", c.batch_size, other.batch_size),
        ("rank", c.lora_rank, other.lora_rank),
        ("sequence length", c.seq_length, other.seq_length),
        ("layers", c.lora_layers, other.lora_layers),
    )
    for name, ours, plain in sizes:
        if ours != plain and ours:  # full fine-tuning has no rank
            yield f"{name} {ours} ({plain})"
    if c.lora_dropout != other.lora_dropout:
        yield f"dropout {c.lora_dropout:g} ({other.lora_dropout:g})"
    if (c.optimizer, c.optimizer_config) != (other.optimizer, other.optimizer_config):
        yield f"{_optimizer(c)[0]} ({_optimizer(other)[0]})"
    if c.grad_accumulation_steps != other.grad_accumulation_steps:
        batches = f"{c.grad_accumulation_steps} batches per optimizer step"
        yield f"{batches} ({other.grad_accumulation_steps})"
    if c.grad_checkpoint != other.grad_checkpoint:
        on, off = ("", "off") if c.grad_checkpoint else ("no ", "on")
        yield f"{on}gradient checkpointing ({off})"
    if not is_own_quantization:
        yield f"{Quantization.of(c).label} weights (the model's own)"


def _keys(keys: tuple[str, ...]) -> str:
    if keys == ALL_KEYS:
        return "all modules"
    return "attention" if keys == ATTENTION_KEYS else ", ".join(keys)


def _dropout(c: Configuration) -> list[str]:
    return [f"dropout {c.lora_dropout:g}"] if c.lora_dropout else []


def _optimizer(c: Configuration) -> list[str]:
    arguments = f" ({', '.join(c.optimizer_config)})" if c.optimizer_config else ""
    steps = c.grad_accumulation_steps
    return [f"{c.optimizer}{arguments}", *([f"{steps} batches per update"] if steps > 1 else [])]
