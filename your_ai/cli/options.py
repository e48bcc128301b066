"""The options that commands share, in groups, and what the user asked for with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from worker.protocol.messages import Weights
from your_ai.cli.params import Number, Sizes
from your_ai.errors import UsageError
from your_ai.models import presets
from your_ai.planning.plan import DEFAULT_LORA_LAYERS, TrainingOptions
from your_ai.search.grid import FULL, QUICK, make_grid
from your_ai.search.search import Objective, SearchOptions
from your_ai.supervision.supervisor import Limits

F = TypeVar("F", bound=Callable[..., Any])
Group = tuple[Callable[[Any], Any], ...]

_QUANTIZE = {"4": 4, "8": 8, "none": 0}
_OURS = TrainingOptions()

_AXES = ("batch_sizes", "ranks", "layers")

_MOST_BATCH = 1024
_MOST_RANK = 4096
_MOST_LAYERS = 1024
_MOST_TOKENS = 2**24

MOST_CONFIGURATIONS = 1000
"""Beyond that a proposal takes a second and more, and nobody means it."""


def _listed(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))


def preset_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What the shell completes a model's name to."""
    return [name for name in presets.all_presets() if name.startswith(incomplete)]


def models(default_suite: str) -> Group:
    """The options that name models; ``default_suite`` is what is taken without them."""
    return (
        click.option(
            "--model",
            "names",
            multiple=True,
            metavar="PRESET|ID|PATH",
            shell_complete=preset_names,
            help="A model instead of a suite; can be given several times. Presets: "
            f"{', '.join(presets.all_presets())}.",
        ),
        click.option(
            "--suite",
            "suite_name",
            type=click.Choice(presets.SUITES),
            help=f"The models. [{default_suite}]",
        ),
    )


CONFIGURATION: Group = (
    click.option(
        "--batch-size",
        type=click.IntRange(1, _MOST_BATCH),
        help=f"Sequences a step. [{_OURS.batch_size}]",
    ),
    click.option(
        "--lora-rank",
        type=click.IntRange(1, _MOST_RANK),
        help=f"Rank of the adapters. [{_OURS.lora_rank}]",
    ),
    click.option(
        "--lora-layers",
        type=click.IntRange(1, _MOST_LAYERS),
        help=f"Layers with adapters, from the last. [{DEFAULT_LORA_LAYERS}, or all that there are]",
    ),
)
TENSORS: Group = (
    click.option(
        "--seq-length",
        type=click.IntRange(8, _MOST_TOKENS),
        help=f"Tokens a sequence. [{_OURS.seq_length}]",
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
STEPS: Group = (
    click.option(
        "--steps", type=click.IntRange(1, 100_000), help=f"Counted training steps. [{_OURS.steps}]"
    ),
)
SEARCH: Group = (
    click.option("--quick", is_flag=True, help=f"Search a coarser grid of {QUICK.size}."),
    click.option("--exhaustive", is_flag=True, help="Try the whole grid, to check the search."),
    click.option(
        "--batch-sizes", type=Sizes(_MOST_BATCH), help=f"The grid's. [{_listed(FULL.batch_sizes)}]"
    ),
    click.option(
        "--ranks", type=Sizes(_MOST_RANK), help=f"The grid's. [{_listed(FULL.lora_ranks)}]"
    ),
    click.option(
        "--layers",
        type=Sizes(_MOST_LAYERS),
        help=f"The grid's, cut to what the model has. [{_listed(FULL.lora_layers)}]",
    ),
    click.option(
        "--objective",
        type=click.Choice([objective.value for objective in Objective]),
        help="What to maximize: batch × rank × layers, or measured tokens a second. [capacity]",
    ),
)
RESULTS: Group = (
    click.option(
        "--max-memory",
        type=Number("GB", "GB", "24", finite=True),
        help="The budget: the most GB that training may use. [80 %, less where that is not free]",
    ),
    click.option(
        "--output",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Where to write the results as JSON.",
    ),
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
)
RUN: Group = (
    click.option(
        "--timeout",
        type=Number("S", "seconds", "600"),
        default=Limits().deadline,
        show_default=True,
        metavar="S",
        help="Seconds that one trial may take.",
    ),
    click.option(
        "--run-dir",
        type=click.Path(path_type=Path),
        help="Where to keep journal, logs and results. [a new one]",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Go on with the last run, or the one in --run-dir: what it has done is not repeated.",
    ),
)

_WITHOUT_EFFECT = frozenset({"resume", "run_dir", "output", "quiet"})
"""Options that change nothing of what is measured, so that a resumed run may have others."""
_NAMES = tuple(TrainingOptions.__dataclass_fields__)


def options(*groups: Group) -> Callable[[F], F]:
    """Add the options of these groups to a command, in this order."""

    def add(command: F) -> F:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return add


def no_arguments(command: F) -> F:
    """Tell who names a model as `optimize` takes it how this command does."""

    def refuse(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
        if value:
            raise UsageError(f"Pass models with --model, for example: --model {value[0]}.")

    argument = click.argument("unnamed", nargs=-1, metavar="", expose_value=False, callback=refuse)
    return argument(command)


def check_models(names: Sequence[str], suite_name: str | None) -> None:
    """Raise UsageError when both name the models."""
    if names and suite_name:
        raise UsageError("--model and --suite are mutually exclusive.")


def training(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> TrainingOptions:
    """The training that the user asked for: ``defaults`` (a suite's) where they said nothing."""
    given = {name: arguments[name] for name in _NAMES if arguments.get(name) is not None}
    if "quantize" in given:
        given["quantize"] = _QUANTIZE[given["quantize"]]
    if "weights" in given:
        given["weights"] = Weights(given["weights"])
    return TrainingOptions(**{**defaults, **given})


def searching(arguments: Mapping[str, Any]) -> SearchOptions:
    """The search that the user asked for.

    Raises:
        UsageError: when its options exclude each other, or the grid is too large to search.
    """
    given = [name for name in _AXES if arguments[name]]
    if arguments["quick"] and given:
        raise UsageError(f"--quick and {_written(given[0])} are mutually exclusive.")
    defaults = QUICK if arguments["quick"] else FULL
    grid = make_grid(
        arguments["batch_sizes"] or defaults.batch_sizes,
        arguments["ranks"] or defaults.lora_ranks,
        arguments["layers"] or defaults.lora_layers,
    )
    if grid.size > MOST_CONFIGURATIONS:
        raise UsageError(
            f"{grid.size} configurations are too many; give axes of at most "
            f"{MOST_CONFIGURATIONS} in all."
        )
    objective = Objective(arguments["objective"] or Objective.CAPACITY)
    return SearchOptions(grid, objective, exhaustive=arguments["exhaustive"])


def about_search(arguments: Mapping[str, Any]) -> list[str]:
    """The options of a search that the user gave, as they are written."""
    names = ("quick", "exhaustive", *_AXES, "objective")
    return [_written(name) for name in names if arguments[name]]


def given(context: click.Context) -> dict[str, str]:
    """The options that the user gave and that change what is measured, as they would write them."""
    return {
        _name(parameter): _text(context.params[parameter.name])
        for parameter in context.command.params
        if parameter.name not in _WITHOUT_EFFECT
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def _written(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _name(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else "MODEL"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return {True: "on", False: "off"}.get(value, str(value)) if type(value) is bool else str(value)
