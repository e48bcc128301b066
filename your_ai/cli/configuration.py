"""The options that choose the training, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import click

from worker.protocol.configuration import GROUP_SIZE, FineTuneType, Optimizer, Weights
from your_ai.cli.groups import Group, Option, option
from your_ai.cli.params import Count, Keys, Names
from your_ai.errors import UsageError
from your_ai.models import quantization
from your_ai.planning.plan import (
    ALL_LAYERS,
    DEFAULT_LORA_LAYERS,
    DEFAULT_QUANTIZATION,
    TrainingOptions,
)

_DEFAULTS = TrainingOptions()
_KINDS = {
    "weights": Weights,
    "fine_tune_type": FineTuneType,
    "optimizer": Optimizer,
    "group_size": int,
}
"""What the texts of options with choices are converted to."""
MAX_BATCH, MAX_RANK, MAX_LAYERS = 1024, 4096, 1024
BATCH = Count(1, MAX_BATCH)
RANK = Count(1, MAX_RANK)
LAYERS = Count(ALL_LAYERS, MAX_LAYERS, zero=False)
ACCUMULATED = Count(1, 2**16)
FINE_TUNE_TYPE = click.Choice([kind.value for kind in FineTuneType])
OPTIMIZER = click.Choice([optimizer.value for optimizer in Optimizer])
KEYS = Keys()
MIN_LENGTH, MAX_LENGTH = 8, 2**24
TOKENS = Count(MIN_LENGTH, MAX_LENGTH)
_BATCH = option("--batch-size", BATCH, "Batch size.", fallback=_DEFAULTS.batch_size)
ADAPTERS = Group(
    "Training",
    (
        option("--lora-rank", RANK, "Rank of the adapters.", fallback=_DEFAULTS.lora_rank),
        option(
            "--lora-layers",
            LAYERS,
            "Number of layers to train, counted from the last; -1 for all.",
            computed=f"{DEFAULT_LORA_LAYERS}, or all if the model has fewer",
        ),
    ),
)
SIZES = Group("Training", (_BATCH, *ADAPTERS.options))
KIND = Group(
    "Training",
    (
        option(
            "--lora-keys",
            KEYS,
            "What gets adapters: all linear, expert and embedding modules of the layers (all), "
            "only attention, or modules by name, as in mlx-lm's lora_parameters.keys.",
            fallback="all",
        ),
        option(
            "--fine-tune-type",
            FINE_TUNE_TYPE,
            "Train adapters (lora, dora), or all weights of the layers (full).",
            fallback=_DEFAULTS.fine_tune_type,
        ),
        option("--optimizer", OPTIMIZER, "Optimizer.", fallback=_DEFAULTS.optimizer),
        option(
            "--grad-accumulation-steps",
            ACCUMULATED,
            "Batches per optimizer step.",
            fallback=_DEFAULTS.grad_accumulation_steps,
        ),
    ),
)
_LENGTH = option(
    "--seq-length", TOKENS, "Sequence length in tokens.", fallback=_DEFAULTS.seq_length
)
_REST = (
    option(
        "--group-size",
        click.Choice([str(size) for size in quantization.GROUP_SIZES]),
        "Weights that share a scale, if --quantize is a number of bits.",
        fallback=GROUP_SIZE,
    ),
    option(
        "--weights",
        click.Choice([weights.value for weights in Weights]),
        "synthetic: random weights with the model's shapes, no download; real: the model's own "
        "weights.",
        fallback=_DEFAULTS.weights,
    ),
)
_CHECKPOINT = "--grad-checkpoint/--no-grad-checkpoint"
_TO_SAVE_MEMORY = "Recompute activations to save memory."


def _tensors(formats: Any, metavar: str, more: str = "") -> Group:
    checkpoint = option(_CHECKPOINT, click.BOOL, _TO_SAVE_MEMORY, fallback="grad-checkpoint")
    return Group("Training", (_LENGTH, _quantize(formats, metavar, more), *_REST, checkpoint))


def _quantize(formats: Any, metavar: str, more: str = "") -> Option:
    return option(
        "--quantize",
        formats,
        "Quantization: bits per weight (2, 3, 4, 5, 6 or 8), mxfp4, mxfp8, nvfp4, or none." + more,
        metavar=metavar,
        computed=f"{DEFAULT_QUANTIZATION}, or the model's own; none in full fine-tuning",
    )


TENSORS = _tensors(click.Choice(quantization.NAMES), "FORMAT")
MAPPED_TENSORS = Group(
    "Training",
    (
        _quantize(click.Choice(quantization.NAMES), "FORMAT"),
        *_REST,
        option(_CHECKPOINT, click.BOOL, _TO_SAVE_MEMORY, computed="both are tried"),
    ),
)
"""For a map of sequence lengths, with and without gradient checkpointing."""
SEARCHED_TENSORS = _tensors(
    Names(quantization.NAMES),
    "FORMAT,…",
    " Several are searched.",
)
STEPS = Group(
    "Training",
    (option("--steps", Count(1, 100_000), "Steps to measure.", fallback=_DEFAULTS.steps),),
)


def training(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> TrainingOptions:
    """The training options, with ``defaults`` (a suite's) for those that were not given."""
    names = TrainingOptions.__dataclass_fields__
    given = {name: values[name] for name in names if values.get(name) is not None}
    for name, kind in _KINDS.items():
        if name in given:
            given[name] = kind(given[name])
    chosen = TrainingOptions(**{**defaults, **given})
    _check_training(chosen, given)
    return chosen


def trainings(
    values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[TrainingOptions, ...]:
    """The training options for each value of --quantize, least memory first.

    A group size applies to those that have a choice.
    """
    wanted = values["quantize"]
    if not isinstance(wanted, tuple):
        return (training(values, defaults),)
    ordered = sorted(wanted, key=lambda name: quantization.named(name).bits or math.inf)
    grouped = [name for name in ordered if name.isdecimal()] or ordered
    return tuple(
        training(
            {
                **values,
                "quantize": name,
                "group_size": values["group_size"] if name in grouped else None,
            },
            defaults,
        )
        for name in ordered
    )


def _check_training(chosen: TrainingOptions, given: Mapping[str, Any]) -> None:
    """Raise UsageError for options that would have no effect."""
    if chosen.is_full:
        for name in ("lora_keys", "lora_rank"):
            if name in given:
                raise UsageError(
                    f"{option_name(name)} has no effect with --fine-tune-type full, which has no "
                    "adapters."
                )
    wanted = chosen.quantize
    if chosen.group_size is not None and wanted is not None and not wanted.isdecimal():
        fixed = quantization.named(wanted)
        why = f"always has groups of {fixed.group_size}" if fixed.bits else "has no groups"
        raise UsageError(f"--group-size has no effect: --quantize {wanted} {why}.")


def option_name(name: str) -> str:
    """The option of a parameter: ``--lora-rank``."""
    return f"--{name.replace('_', '-')}"
