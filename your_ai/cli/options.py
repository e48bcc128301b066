"""The options that describe a training, shared by the commands that train."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from worker.protocol import Weights
from your_ai.grid import FULL, QUICK, make_grid
from your_ai.optimization import SearchOptions
from your_ai.plan import DEFAULT_LORA_LAYERS, TrainingOptions
from your_ai.search import Objective
from your_ai.supervisor import Limits

F = TypeVar("F", bound=Callable[..., Any])

_QUANTIZE = {"4": 4, "8": 8, "none": 0}
_OURS = TrainingOptions()

MOST_BATCH = 1024
MOST_RANK = 4096
MOST_LAYERS = 1024


def _listed(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))


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


class Sizes(click.ParamType[tuple[int, ...]]):
    """Whole numbers above 0, with commas between them: one axis of a grid."""

    name = "N,N,…"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers; fails on anything else."""
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isascii() and part.isdigit() for part in parts):
            self.fail(f"{value!r} is not a list of numbers; give one such as 1,2,4.", param, ctx)
        sizes = tuple(int(part) for part in parts)
        if not all(1 <= size <= self._most for size in sizes):
            self.fail(f"{value!r} has a number outside 1 to {self._most}.", param, ctx)
        return sizes


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


_CONFIGURATION_OPTIONS = (
    click.option(
        "--batch-size",
        type=click.IntRange(1, MOST_BATCH),
        help=f"Sequences a step. [{_OURS.batch_size}]",
    ),
    click.option(
        "--lora-rank",
        type=click.IntRange(1, MOST_RANK),
        help=f"Rank of the adapters. [{_OURS.lora_rank}]",
    ),
    click.option(
        "--lora-layers",
        type=click.IntRange(1),
        help=f"Layers with adapters, from the last. [{DEFAULT_LORA_LAYERS}, or all that there are]",
    ),
)
_OTHER_OPTIONS = (
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
_SEARCH_OPTIONS = (
    click.option(
        "--quick", is_flag=True, help=f"Search a coarser grid of {len(QUICK.configurations)}."
    ),
    click.option("--exhaustive", is_flag=True, help="Try the whole grid, to check the search."),
    click.option(
        "--batch-sizes", type=Sizes(MOST_BATCH), help=f"The grid's. [{_listed(FULL.batch_sizes)}]"
    ),
    click.option(
        "--ranks", type=Sizes(MOST_RANK), help=f"The grid's. [{_listed(FULL.lora_ranks)}]"
    ),
    click.option(
        "--layers",
        type=Sizes(MOST_LAYERS),
        help=f"The grid's, cut to what the model has. [{_listed(FULL.lora_layers)}]",
    ),
    click.option(
        "--objective",
        type=click.Choice([objective.value for objective in Objective]),
        help="What to maximize: batch × rank × layers, or measured tokens a second. [capacity]",
    ),
)
_RUN_OPTIONS = (
    click.option(
        "--max-memory",
        type=Gigabytes(),
        help="The budget: the most GB that training may use. [80 %, less where that is not free]",
    ),
    click.option(
        "--output",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Where to write the results.",
    ),
    click.option(
        "--timeout",
        type=Seconds(),
        default=Limits().deadline,
        show_default=True,
        metavar="S",
        help="Seconds that one trial may take.",
    ),
    click.option(
        "--run-dir",
        type=click.Path(path_type=Path),
        help="Where to keep logs and results. [a new one]",
    ),
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
)
_NAMES = tuple(TrainingOptions.__dataclass_fields__)


def training_options(command: F) -> F:
    """Add the training options to a command; `training` reads them."""
    return _with(command, (*_CONFIGURATION_OPTIONS, *_OTHER_OPTIONS))


def search_options(command: F) -> F:
    """Add the options of a search to a command; `searching` reads them."""
    return _with(command, _SEARCH_OPTIONS)


def search_training_options(command: F) -> F:
    """Add the training options that a search leaves alone; `training` reads them."""
    return _with(command, _OTHER_OPTIONS)


def run_options(command: F) -> F:
    """Add the options that every run has."""
    return _with(command, _RUN_OPTIONS)


def training(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> TrainingOptions:
    """The training that the user asked for: ``defaults`` (a suite's) where they said nothing."""
    given = {name: arguments[name] for name in _NAMES if arguments.get(name) is not None}
    if "quantize" in given:
        given["quantize"] = _QUANTIZE[given["quantize"]]
    if "weights" in given:
        given["weights"] = Weights(given["weights"])
    return TrainingOptions(**{**defaults, **given})


def searching(arguments: Mapping[str, Any]) -> SearchOptions:
    """The search that the user asked for."""
    grid = QUICK if arguments["quick"] else FULL
    axes = (arguments["batch_sizes"], arguments["ranks"], arguments["layers"])
    ours = (grid.batch_sizes, grid.lora_ranks, grid.lora_layers)
    return SearchOptions(
        make_grid(*(given or default for given, default in zip(axes, ours, strict=True))),
        Objective(arguments["objective"] or Objective.CAPACITY),
        exhaustive=arguments["exhaustive"],
    )


def search_arguments_given(arguments: Mapping[str, Any]) -> list[str]:
    """The options of a search that the user gave, as they are written."""
    names = ("quick", "exhaustive", "batch_sizes", "ranks", "layers", "objective")
    return [f"--{name.replace('_', '-')}" for name in names if arguments[name]]


def _with(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        command = option(command)
    return command
