"""The options that several commands share, and what they mean for a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from your_ai.cli.groups import Group, flag, option
from your_ai.cli.params import Number
from your_ai.errors import UsageError
from your_ai.models import presets
from your_ai.planning.device import DEFAULT_BUDGET_SHARE
from your_ai.runs.run import Argument
from your_ai.supervision.supervisor import Limits

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
KEEP_GOING = Group(
    "Run", (flag("--keep-going", "Try larger models even after one runs out of memory."),)
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
        return tuple(map(str, value)) if parameter.multiple else ",".join(map(str, value))
    return str(value)
