"""The options of searches, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

import click

from your_ai.cli.configuration import (
    MAX_BATCH,
    MAX_LAYERS,
    MAX_LENGTH,
    MAX_RANK,
    MIN_LENGTH,
    option_name,
)
from your_ai.cli.groups import Group, Option, flag, option
from your_ai.cli.params import Names, Sizes
from your_ai.errors import UsageError
from your_ai.planning.plan import Trial
from your_ai.runs.searching import grid_for
from your_ai.search.grid import FULL, QUICK, Axes
from your_ai.search.search import Objective, SearchOptions

_AXES = {
    "batch_sizes": "batch_size",
    "ranks": "lora_rank",
    "layers": "lora_layers",
    "seq_lengths": "seq_length",
    "grad_checkpoints": "grad_checkpoint",
}
"""The options that give an axis several values, and the one that gives it a single value."""

_MAX_CONFIGURATIONS = 5000
"""A larger grid takes many seconds to estimate before its first trial."""

_OBJECTIVES = (Objective.CAPACITY, Objective.TOKENS, Objective.LENGTH)

_QUICK_SIZE = math.prod(len(values) for values in astuple(QUICK) if values)


def joined(sizes: Sequence[int]) -> str:
    """Sizes as they are typed."""
    return ",".join(map(str, sizes))


def lengths(default: str) -> Option:
    """The option for sequence lengths; ``default`` describes those that are searched without it."""
    sizes = Sizes(MAX_LENGTH, MIN_LENGTH)
    return option("--seq-lengths", sizes, "Sequence lengths to search.", computed=default)


MULTIPLES = "multiples of 256 up to the model's maximum"
SEARCH = Group(
    "Search",
    (
        flag("--quick", f"Search fewer batch sizes, ranks and layers: {_QUICK_SIZE} combinations."),
        flag("--exhaustive", "Try every configuration of the grid, to check the search."),
        option(
            "--batch-sizes",
            Sizes(MAX_BATCH),
            "Batch sizes to search.",
            fallback=joined(FULL.batch_sizes),
        ),
        option(
            "--ranks", Sizes(MAX_RANK), "LoRA ranks to search.", fallback=joined(FULL.lora_ranks)
        ),
        option(
            "--layers",
            Sizes(MAX_LAYERS),
            "Numbers of layers to search, at most as many as the model has.",
            fallback=joined(FULL.lora_layers),
        ),
        lengths(f"with --objective length {MULTIPLES}"),
        option(
            "--grad-checkpoints",
            Names(("on", "off")),
            "Search with and without gradient checkpointing. For one of them, use "
            "--grad-checkpoint or --no-grad-checkpoint.",
            metavar="on,off",
        ),
        option(
            "--objective",
            click.Choice([objective.value for objective in _OBJECTIVES]),
            "Maximize batch × rank × layers (capacity), measured tokens/s (tokens), or the "
            "sequence length (length). Capacity and tokens search batch sizes, ranks and layers, "
            "length only the length, unless you give other values.",
            fallback=Objective.CAPACITY,
        ),
    ),
)


def search_options(values: Mapping[str, Any]) -> SearchOptions:
    """The search options; raises UsageError if they conflict."""
    given = [name for name in _AXES if values[name]]
    if values["quick"] and given:
        raise UsageError(f"--quick and {option_name(given[0])} cannot be used together.")
    objective = Objective(values["objective"] or Objective.CAPACITY)
    if values["quick"] and objective.by_length:
        raise UsageError("--quick cannot be used with --objective length.")
    defaults = QUICK if values["quick"] else FULL
    if objective.by_length:
        defaults = Axes()
    axes = Axes(
        values["batch_sizes"] or defaults.batch_sizes,
        values["ranks"] or defaults.lora_ranks,
        values["layers"] or defaults.lora_layers,
        values["seq_lengths"] or (),
        grad_checkpoints=tuple(name == "on" for name in values["grad_checkpoints"] or ()),
    )
    return SearchOptions(axes, objective, exhaustive=values["exhaustive"])


def with_fixed_axes(values: Mapping[str, Any], options: SearchOptions) -> SearchOptions:
    """The options of a search in which an option with one value, if given, fixes its axis.

    Raises UsageError if both are given, or if the length is fixed although it is looked for.
    """
    fixed = {many: one for many, one in _AXES.items() if values[one] is not None}
    for many, one in fixed.items():
        if values[many]:
            raise UsageError(f"{option_name(one)} and {option_name(many)} cannot be used together.")
    if "seq_lengths" in fixed and options.objective.by_length:
        raise UsageError(
            "--seq-length has no effect, because the longest sequence is searched. To choose the "
            "lengths to try, use --seq-lengths."
        )
    names = {"ranks": "lora_ranks", "layers": "lora_layers"}
    emptied = {names.get(many, many): () for many in fixed}
    return replace(options, axes=replace(options.axes, **emptied))


def check_grids(trials: Iterable[Trial], options: SearchOptions | None) -> None:
    """Raise UsageError if a grid is too large to be searched."""
    largest = max(grid_for(trial, options).size for trial in trials) if options else 0
    if largest > _MAX_CONFIGURATIONS:
        raise UsageError(
            f"The grid has {largest} configurations, more than the maximum of "
            f"{_MAX_CONFIGURATIONS}. Give fewer values to search, or choose --seq-lengths."
        )


def reject_search_options(values: Mapping[str, Any]) -> None:
    """Raise UsageError if an option of the search is given without --optimize."""
    for name in ("quick", "exhaustive", *_AXES, "objective"):
        if values[name]:
            raise UsageError(f"{option_name(name)} requires --optimize.")
