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
Option = Callable[[Any], Any]
Group = tuple[Option, ...]

_QUANTIZE = {"4": 4, "8": 8, "none": 0}
_OURS = TrainingOptions()
_AXES = ("batch_sizes", "ranks", "layers")

_MOST_BATCH, _MOST_RANK, _MOST_LAYERS = 1024, 4096, 1024
_MOST_CONFIGURATIONS = 1000
"""Beyond that a proposal takes a second and more, and nobody means it."""

BATCH = click.IntRange(1, _MOST_BATCH)
RANK = click.IntRange(1, _MOST_RANK)
LAYERS = click.IntRange(1, _MOST_LAYERS)
TOKENS = click.IntRange(8, 2**24)
PATH = click.Path(path_type=Path)


def option(names: str, kind: Any, text: str, default: object = None, **more: Any) -> Option:
    """A click option of these names (with spaces between them) that shows its default."""
    shown = default is not None
    return click.option(
        *names.split(), type=kind, help=text, default=default, show_default=shown, **more
    )


def flag(name: str, text: str) -> Option:
    """A click option without a value."""
    return click.option(name, is_flag=True, help=text)


def preset_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What the shell completes a model's name to."""
    return [name for name in presets.all_presets() if name.startswith(incomplete)]


def models(default_suite: str) -> Group:
    """The options that name models; ``default_suite`` is what is taken without them."""
    return (
        click.argument("unnamed", nargs=-1, metavar="", expose_value=False, callback=_refuse),
        option(
            "--model names",
            click.STRING,
            "A model instead of a suite; can be given several times. Presets: "
            f"{', '.join(presets.all_presets())}.",
            multiple=True,
            metavar="PRESET|ID|PATH",
            shell_complete=preset_names,
        ),
        option(
            "--suite suite_name", click.Choice(presets.SUITES), f"The models. [{default_suite}]"
        ),
    )


def _refuse(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    """Tell who names a model as `optimize` takes it how these commands do."""
    if value:
        raise UsageError(f"Pass models with --model, for example: --model {value[0]}.")


def _listed(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))


CONFIGURATION: Group = (
    option("--batch-size", BATCH, f"Batch size. [{_OURS.batch_size}]"),
    option("--lora-rank", RANK, f"Rank of the adapters. [{_OURS.lora_rank}]"),
    option(
        "--lora-layers",
        LAYERS,
        f"Layers with adapters, from the last. [{DEFAULT_LORA_LAYERS}, or all that there are]",
    ),
)
TENSORS: Group = (
    option("--seq-length", TOKENS, f"Sequence length in tokens. [{_OURS.seq_length}]"),
    option(
        "--quantize",
        click.Choice(list(_QUANTIZE)),
        "Quantization bits per weight. [4, or the model's own]",
    ),
    option(
        "--weights",
        click.Choice([weights.value for weights in Weights]),
        "Random weights of the same shapes, without a download, or the model's. [synthetic]",
    ),
    option(
        "--grad-checkpoint/--no-grad-checkpoint",
        click.BOOL,
        "Recompute activations to save memory. [on]",
    ),
)
STEPS: Group = (
    option("--steps", click.IntRange(1, 100_000), f"Counted training steps. [{_OURS.steps}]"),
)
SEARCH: Group = (
    flag("--quick", f"Search a coarser grid of {QUICK.size}."),
    flag("--exhaustive", "Try the whole grid, to check the search."),
    option(
        "--batch-sizes",
        Sizes(_MOST_BATCH),
        f"Batch sizes to search. [{_listed(FULL.batch_sizes)}]",
    ),
    option("--ranks", Sizes(_MOST_RANK), f"LoRA ranks to search. [{_listed(FULL.lora_ranks)}]"),
    option(
        "--layers",
        Sizes(_MOST_LAYERS),
        f"Layer counts to search, capped at the model's. [{_listed(FULL.lora_layers)}]",
    ),
    option(
        "--objective",
        click.Choice([objective.value for objective in Objective]),
        "What to maximize: batch × rank × layers, or measured tokens a second. [capacity]",
    ),
)
QUIET = flag("--quiet", "Print nothing but errors.")
RESULTS: Group = (
    option(
        "--max-memory",
        Number("GB", "GB", "24", finite=True),
        "The budget: the most GB that training may use. [80 %, less where that is not free]",
    ),
    option("--output", PATH, "Where to write the results as JSON.", metavar="FILE"),
    QUIET,
)
RUN: Group = (
    option(
        "--timeout",
        Number("S", "seconds", "600"),
        "Seconds that one trial may take.",
        Limits().deadline,
    ),
    option("--run-dir", PATH, "Where to keep journal, logs and results. [a new one]"),
    flag(
        "--resume",
        "Resume the last unfinished run (or --run-dir); finished trials are not repeated.",
    ),
)

_WITHOUT_EFFECT = frozenset({"resume", "run_dir", "output", "quiet"})
"""Options that change nothing of what is measured, so that a resumed run may have others."""


def add(*groups: Group) -> Callable[[F], F]:
    """Add the options of these groups to a command, in this order."""

    def decorate(command: F) -> F:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def model_names(asked: Mapping[str, Any]) -> list[str]:
    """The models that the user named, each once; raises UsageError if they named a suite, too."""
    if asked["names"] and asked["suite_name"]:
        raise UsageError("--model and --suite are mutually exclusive.")
    return list(dict.fromkeys(asked["names"]))


def training(asked: Mapping[str, Any], defaults: Mapping[str, Any]) -> TrainingOptions:
    """The training that the user asked for: ``defaults`` (a suite's) where they said nothing."""
    names = TrainingOptions.__dataclass_fields__
    given = {name: asked[name] for name in names if asked.get(name) is not None}
    if "quantize" in given:
        given["quantize"] = _QUANTIZE[given["quantize"]]
    if "weights" in given:
        given["weights"] = Weights(given["weights"])
    return TrainingOptions(**{**defaults, **given})


def searching(asked: Mapping[str, Any]) -> SearchOptions:
    """The search that the user asked for; raises UsageError if that makes no sense, or is huge."""
    given = [name for name in _AXES if asked[name]]
    if asked["quick"] and given:
        raise UsageError(f"--quick and {_written(given[0])} are mutually exclusive.")
    defaults = QUICK if asked["quick"] else FULL
    grid = make_grid(
        asked["batch_sizes"] or defaults.batch_sizes,
        asked["ranks"] or defaults.lora_ranks,
        asked["layers"] or defaults.lora_layers,
    )
    if grid.size > _MOST_CONFIGURATIONS:
        raise UsageError(
            f"{grid.size} configurations are too many; give axes of at most "
            f"{_MOST_CONFIGURATIONS} in all."
        )
    objective = Objective(asked["objective"] or Objective.CAPACITY)
    return SearchOptions(grid, objective, exhaustive=asked["exhaustive"])


def refuse_search(asked: Mapping[str, Any]) -> None:
    """Raise UsageError if the user gave an option of a search where there is none."""
    for name in ("quick", "exhaustive", *_AXES, "objective"):
        if asked[name]:
            raise UsageError(f"{_written(name)} requires --optimize.")


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
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
