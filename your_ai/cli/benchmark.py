"""``your_ai benchmark``: measure models from the smallest to the largest."""

from __future__ import annotations

from typing import Any

import click

from your_ai.cli import configuration, data_option, options, search_options
from your_ai.cli.config_file import CONFIG
from your_ai.cli.groups import Group, GroupedCommand, flag
from your_ai.cli.run_context import OpenRun, new_run, run_trials
from your_ai.errors import ExitCode
from your_ai.planning.plan import Trial
from your_ai.runs.assembly import optimization_of
from your_ai.runs.run import Run
from your_ai.system.signals import interrupts
from your_ai.terminal.screen import Screen

_OPTIMIZE = flag("--optimize", "Find the best configuration of each model that passes.")
_GROUPS = [
    options.models(computed="default, but smoke if MLX can use only a CPU"),
    CONFIG,
    *(configuration.SIZES, configuration.KIND, configuration.TENSORS, data_option.DATA),
    *(configuration.STEPS, options.BUDGET),
    Group("Search", (_OPTIMIZE,)),
    search_options.SEARCH,
    options.KEEP_GOING,
    options.RUN,
    options.OUTPUT,
]


@click.command(name="benchmark", cls=GroupedCommand, groups=_GROUPS)
@options.no_arguments
@click.pass_context
def command(context: click.Context, /, **values: Any) -> ExitCode:
    """Measure which models this machine can fine-tune, and how fast.

    Each model is trained for a few steps in its own process, smallest model first. If a model
    runs out of memory, only its process ends.
    """

    def plan_run(screen: Screen) -> Run:
        names = options.model_names(values)
        if not values["optimize"]:
            search_options.reject_search_options(values)
        search = search_options.search_options(values) if values["optimize"] else None
        return new_run(context, screen, names, search)

    return run_trials(context, plan_run, _measure)


def _measure(opened: OpenRun) -> None:
    run, console = opened.run, opened.console
    console.begin(opened.done_before, is_complete=opened.was_complete)
    trial = run.trials[0]
    for progress in opened.runner.trials():
        if isinstance(progress, Trial):
            trial = progress
            console.trial_began(trial)
            continue
        opened.save()
        console.trial_ended(progress)
        if run.search is not None and progress.success and not interrupts.requested:
            console.optimizing()
            found = opened.search(trial, console.optimizing_trial)
            console.optimized(optimization_of(run, trial, found))
    console.end(opened.results, opened.finish())
