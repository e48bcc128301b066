"""Describe a configuration in words: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from worker.protocol.configuration import (
    ALL_KEYS,
    ATTENTION_KEYS,
    Configuration,
    FineTuneType,
)
from your_ai.models.quantization import Quantization
from your_ai.planning.lora_config import LoraConfig

SIZES = ("batch_sizes", "lora_ranks", "lora_layers")
"""The axes that are shown unless a search varies others."""

PLAIN = LoraConfig().configuration()
"""What ``mlx_lm.lora --train`` does by default (CONFIG_DEFAULTS in mlx_lm/lora.py)."""

_TYPES = {FineTuneType.LORA: "LoRA", FineTuneType.DORA: "DoRA"}


def trained(c: Configuration) -> str:
    """Return what is trained: ``LoRA on all modules``."""
    if c.fine_tune_type is FineTuneType.FULL:
        return "full fine-tuning"
    return f"{_TYPES[c.fine_tune_type]} on {_keys(c.lora_keys)}"


def sizes(c: Configuration, sign: str = "=", axes: Collection[str] = SIZES) -> str:
    """Return the places on axes of a search: ``batch=2, rank=64, layers=16``."""
    return ", ".join(places(c, sign, axes).values())


def places(c: Configuration, sign: str, axes: Collection[str]) -> dict[str, str]:
    """Return the places on axes (by the names of `search.grid.Axes`); full training has no rank."""
    numbers = {
        "batch_sizes": ("batch", c.batch_size),
        "lora_ranks": ("rank", c.lora_rank),
        "lora_layers": ("layers", c.lora_layers),
        "seq_lengths": ("length", c.seq_length),
    }
    found = {axis: f"{name}{sign}{n}" for axis, (name, n) in numbers.items() if n}
    found["quantizations"] = Quantization.of(c).label
    found["grad_checkpoints"] = f"{'with' if c.grad_checkpoint else 'without'} checkpointing"
    return {axis: text for axis, text in found.items() if axis in axes}


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
    weights = dict.fromkeys(Quantization.of(each).label for each in configurations)
    kept = [f"{' or '.join(weights)} weights", *_dropout(first), *_optimizer(first)]
    parts = [trained(first), f"{rank}{where}", batches, *kept, _checkpointing(first)]
    return ", ".join(parts)


def fixed_in_search(configuration: Configuration, varied: Collection[str]) -> str:
    """Return what a search that varies these axes leaves as it is, in one line."""
    c = configuration
    parts = {
        "lora_ranks": f"rank {c.lora_rank}" if c.lora_rank else "",
        "lora_layers": f"{c.lora_layers} layers",
        "batch_sizes": f"batches of {c.batch_size}",
        "seq_lengths": f"sequences of {c.seq_length} tokens",
        "quantizations": f"{Quantization.of(c).label} weights",
        "": ", ".join([*_dropout(c), *_optimizer(c)]),
        "grad_checkpoints": _checkpointing(c),
    }
    fixed = (text for axis, text in parts.items() if text and axis not in varied)
    return ", ".join([trained(c), *fixed])


def _checkpointing(c: Configuration) -> str:
    return f"{'with' if c.grad_checkpoint else 'without'} gradient checkpointing"


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
