"""``your_ai optimize``: find the best configuration of one model."""

from __future__ import annotations

from typing import Any

import click

from your_ai.cli import configuration, data_option, options, search_options
from your_ai.cli.config_file import CONFIG
from your_ai.cli.groups import GroupedCommand
from your_ai.cli.run_context import OpenRun, new_run, run_trials
from your_ai.errors import ExitCode, UsageError
from your_ai.runs.assembly import optimization_of
from your_ai.runs.run import Run
from your_ai.terminal.screen import Screen

_GROUPS = [
    *(search_options.SEARCH, CONFIG, configuration.SIZES),
    *(configuration.KIND, configuration.SEARCHED_TENSORS, data_option.DATA),
    *(configuration.STEPS, options.BUDGET),
    *(options.RUN, options.OUTPUT),
]


@click.command(name="optimize", cls=GroupedCommand, groups=_GROUPS)
@click.argument("model", required=False, metavar="MODEL", shell_complete=options.preset_names)
@click.pass_context
def command(context: click.Context, /, *, model: str | None, **values: Any) -> ExitCode:
    """Find the best configuration of MODEL that fits: by default the largest batch × rank × layers.

    MODEL is a preset, a folder, or a Hub id (ORG/NAME). If possible, the result is proven: every
    better configuration failed in a trial, or needs at least as much memory as one that failed,
    because it is not smaller in any respect.
    """

    def plan_run(screen: Screen) -> Run:
        if model is None and values["config"] is None:
            raise UsageError("A model is required. `your_ai models` lists the presets.")
        search = search_options.with_fixed_axes(values, search_options.search_options(values))
        return new_run(context, screen, [model] if model else [], search)

    return run_trials(context, plan_run, _search)


def _search(opened: OpenRun) -> None:
    console, (trial,) = opened.console, opened.run.trials
    console.begin_search(trial, opened.done_before, is_complete=opened.was_complete)
    found = opened.search(trial, console.candidate_began, console.candidate_ended)
    console.end_search(optimization_of(opened.run, trial, found), opened.finish())
