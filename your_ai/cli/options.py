"""The options that describe a training, shared by the commands that train."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from worker.protocol import Weights
from your_ai.plan import DEFAULT_LORA_LAYERS, TrainingOptions

F = TypeVar("F", bound=Callable[..., Any])

_QUANTIZE = {"4": 4, "8": 8, "none": 0}
_OURS = TrainingOptions()


class Gigabytes(click.ParamType[float]):
    """A size in GB of 2^30 bytes: a positive number."""

    name = "GB"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; fails on what is none, and on 0, negatives, nan and infinity."""
        try:
            size = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of GB; give one such as 24.", param, ctx)
        if not math.isfinite(size) or size <= 0:
            self.fail(f"{value} GB is not a size; give a number above 0.", param, ctx)
        return size


class Seconds(click.FloatRange):
    """A time limit: above 0, and a number, which nan is not though it passes every comparison."""

    name = "S"

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number of seconds; infinity is none at all."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail("nan is not a time; give a number of seconds above 0.", param, ctx)
        return seconds


_OPTIONS = (
    click.option(
        "--batch-size", type=click.IntRange(1, 1024), help=f"Sequences a step. [{_OURS.batch_size}]"
    ),
    click.option(
        "--lora-rank",
        type=click.IntRange(1, 4096),
        help=f"Rank of the adapters. [{_OURS.lora_rank}]",
    ),
    click.option(
        "--lora-layers",
        type=click.IntRange(1),
        help=f"Layers with adapters, from the last. [{DEFAULT_LORA_LAYERS}, or all that there are]",
    ),
    click.option(
        "--seq-length", type=click.IntRange(8), help=f"Tokens a sequence. [{_OURS.seq_length}]"
    ),
    click.option(
        "--steps", type=click.IntRange(1, 100_000), help=f"Counted training steps. [{_OURS.steps}]"
    ),
    click.option(
        "--quantize",
        type=click.Choice(list(_QUANTIZE)),
        help="Bits a weight. [4, or as a model is quantized already]",
    ),
    click.option(
        "--weights",
        type=click.Choice([weights.value for weights in Weights]),
        help="Random weights of the same shapes, without a download, or the model's. [synthetic]",
    ),
    click.option(
        "--grad-checkpoint/--no-grad-checkpoint",
        default=None,
        help="Recompute activations to save memory. [on]",
    ),
)
_NAMES = tuple(TrainingOptions.__dataclass_fields__)


def training_options(command: F) -> F:
    """Add the training options to a command; `training` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def training(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> TrainingOptions:
    """The training that the user asked for: ``defaults`` (a suite's) where they said nothing."""
    given = {name: arguments[name] for name in _NAMES if arguments[name] is not None}
    if "quantize" in given:
        given["quantize"] = _QUANTIZE[given["quantize"]]
    if "weights" in given:
        given["weights"] = Weights(given["weights"])
    return TrainingOptions(**{**defaults, **given})
