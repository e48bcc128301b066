"""The options that several commands share, and what they mean for a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from your_ai.cli.configuration import MAX_BATCH, MAX_LAYERS, MAX_RANK, option_name
from your_ai.cli.groups import Group, flag, option
from your_ai.cli.params import Number, Sizes
from your_ai.errors import UsageError
from your_ai.models import presets
from your_ai.planning.device import DEFAULT_BUDGET_SHARE
from your_ai.runs.run import Argument
from your_ai.search.grid import FULL, QUICK, make_grid
from your_ai.search.search import Objective, SearchOptions
from your_ai.supervision.supervisor import Limits

_AXES = ("batch_sizes", "ranks", "layers")

_MAX_CONFIGURATIONS = 1000
"""Choosing the next configuration of a larger grid takes more than a second."""

PATH = click.Path(path_type=Path)


def preset_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The presets that the shell completes ``incomplete`` to."""
    return [name for name in presets.all_presets() if name.startswith(incomplete)]


def models(**default_suite: str) -> Group:
    """The options that choose models; ``default_suite`` is how `option` shows the default."""
    return Group(
        "Models",
        (
            option(
                "--model names",
                click.STRING,
                "A preset, a folder, or a Hub id (ORG/NAME). Can be repeated. `your_ai models` "
                "lists the presets.",
                multiple=True,
                metavar="MODEL",
                shell_complete=preset_names,
            ),
            option(
                "--suite suite_name",
                click.Choice(presets.SUITES),
                "Presets to use instead of --model: five models of 7B to 70B (default), six of "
                "late 2026 (current), or tiny ones for a quick check (smoke).",
                metavar="NAME",
                **default_suite,
            ),
        ),
    )


def _reject_arguments(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> None:
    if value:
        raise UsageError(f"Pass models with --model, for example: --model {value[0]}.")


no_arguments = click.argument(
    "surplus", nargs=-1, metavar="", expose_value=False, callback=_reject_arguments
)
"""Explain --model to users who pass a model as they do to `optimize`."""


def _joined(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))


BUDGET = Group(
    "Training",
    (
        option(
            "--max-memory",
            Number("GB", "GB", "24", finite=True),
            "The budget: the most memory that training may use.",
            computed=f"{DEFAULT_BUDGET_SHARE:.0%} of the device's memory, or less if a GPU has "
            "less free or Metal recommends less",
        ),
    ),
)
SEARCH = Group(
    "Search",
    (
        flag("--quick", f"Search a coarser grid of {QUICK.size} configurations."),
        flag("--exhaustive", "Try every configuration of the grid, to check the search."),
        option(
            "--batch-sizes",
            Sizes(MAX_BATCH),
            "Batch sizes to search.",
            fallback=_joined(FULL.batch_sizes),
        ),
        option(
            "--ranks", Sizes(MAX_RANK), "LoRA ranks to search.", fallback=_joined(FULL.lora_ranks)
        ),
        option(
            "--layers",
            Sizes(MAX_LAYERS),
            "Numbers of layers to search, at most as many as the model has.",
            fallback=_joined(FULL.lora_layers),
        ),
        option(
            "--objective",
            click.Choice([objective.value for objective in Objective]),
            "Maximize batch × rank × layers (capacity), or measured tokens/s (tokens).",
            fallback=Objective.CAPACITY,
        ),
    ),
)
RUN_DIR = option(
    "--run-dir",
    PATH,
    "Folder for the journal, logs and results.",
    computed="a new one",
    metavar="DIR",
)
RUN = Group(
    "Run",
    (
        option(
            "--timeout",
            Number("SECONDS", "seconds", "600"),
            "Time limit for each trial.",
            Limits().deadline,
        ),
        option(
            "--cooldown",
            Number("SECONDS", "seconds", "60", above_zero=False, finite=True),
            "Pause between trials, so that a machine without a fan stays fast.",
            fallback=0.0,
        ),
        RUN_DIR,
        flag(
            "--resume",
            "Resume the run in --run-dir, or the last unfinished one. Finished trials are not "
            "repeated.",
        ),
    ),
)
QUIET = flag("--quiet", "Print nothing but errors.")
OUTPUT = Group(
    "Output", (option("--output", PATH, "Write the results as JSON.", metavar="FILE"), QUIET)
)

_NOT_RECORDED = frozenset({"cooldown", "resume", "run_dir", "output", "quiet"})
"""Options that do not affect what is measured. They may differ when a run is resumed."""


def model_names(values: Mapping[str, Any]) -> list[str]:
    """The values of --model, each once; raises UsageError if --suite is given too."""
    if values["names"] and values["suite_name"]:
        raise UsageError("--model and --suite cannot be used together.")
    return list(dict.fromkeys(values["names"]))


def search_options(values: Mapping[str, Any]) -> SearchOptions:
    """The search options; raises UsageError if they conflict or the grid is too large."""
    given = [name for name in _AXES if values[name]]
    if values["quick"] and given:
        raise UsageError(f"--quick and {option_name(given[0])} cannot be used together.")
    defaults = QUICK if values["quick"] else FULL
    grid = make_grid(
        values["batch_sizes"] or defaults.batch_sizes,
        values["ranks"] or defaults.lora_ranks,
        values["layers"] or defaults.lora_layers,
    )
    if grid.size > _MAX_CONFIGURATIONS:
        raise UsageError(
            f"The grid has {grid.size} configurations, more than the maximum of "
            f"{_MAX_CONFIGURATIONS}. Give fewer --batch-sizes, --ranks or --layers."
        )
    objective = Objective(values["objective"] or Objective.CAPACITY)
    return SearchOptions(grid, objective, exhaustive=values["exhaustive"])


def reject_search_options(values: Mapping[str, Any]) -> None:
    """Raise UsageError if an option of the search is given without --optimize."""
    for name in ("quick", "exhaustive", *_AXES, "objective"):
        if values[name]:
            raise UsageError(f"{option_name(name)} requires --optimize.")


def given(context: click.Context) -> dict[str, Argument]:
    """The options on the command line that affect what is measured."""
    return {
        _name(parameter): _argument(context.params[parameter.name], parameter)
        for parameter in context.command.params
        if parameter.name not in _NOT_RECORDED
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def _name(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else "MODEL"


def _argument(value: Any, parameter: click.Parameter) -> Argument:
    """Return a value as `Header` has it; the sizes of a grid are one text, as they were typed."""
    if isinstance(value, bool):
        return value
    if isinstance(value, tuple):
        return tuple(map(str, value)) if parameter.multiple else _joined(value)
    return str(value)
