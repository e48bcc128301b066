"""``your_ai optimize``: find the best configuration of one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from your_ai.cli import configuration, data_option, options
from your_ai.cli.config_file import CONFIG
from your_ai.cli.groups import GroupedCommand
from your_ai.cli.run_context import OpenRun, new_run, run_trials
from your_ai.errors import ExitCode, UsageError
from your_ai.runs.optimization import Optimization
from your_ai.runs.run import Run
from your_ai.search.search import Objective
from your_ai.system.signals import interrupts
from your_ai.terminal.screen import Screen

_GROUPS = [
    *(options.SEARCH, CONFIG),
    *(configuration.KIND, configuration.SEARCHED_TENSORS, data_option.DATA),
    *(configuration.STEPS, options.BUDGET),
    *(options.RUN, options.OUTPUT),
]


@click.command(name="optimize", cls=GroupedCommand, groups=_GROUPS)
@click.argument("model", required=False, metavar="MODEL", shell_complete=options.preset_names)
@click.pass_context
def command(context: click.Context, /, *, model: str | None, **values: Any) -> ExitCode:
    """Find the configuration of MODEL with the largest batch × rank × layers that fits.

    MODEL is a preset, a folder, or a Hub id (ORG/NAME). If possible, the result is proven:
    every better configuration failed in a trial, or has at least the batch size, rank and number of
    layers of one that failed.
    """

    def plan_run(screen: Screen) -> Run:
        if model is None and values["config"] is None:
            raise UsageError("A model is required. `your_ai models` lists the presets.")
        _check_quantizations(values)
        return new_run(context, screen, [model] if model else [], options.search_options(values))

    return run_trials(context, plan_run, _search)


def _check_quantizations(values: Mapping[str, Any]) -> None:
    """Raise UsageError for several values of --quantize if capacity is the objective."""
    if len(values["quantize"] or ()) > 1 and values["objective"] != Objective.TOKENS:
        raise UsageError(
            "Several values of --quantize require --objective tokens, because the capacity score "
            "does not depend on the quantization."
        )


def _search(opened: OpenRun) -> None:
    console, trials = opened.console, opened.run.trials
    console.begin_search(trials[0], opened.done_before, is_complete=opened.was_complete)
    found = list[Optimization]()
    for trial in trials:
        console.quantization_began(trial)
        found.append(opened.search(trial, console.candidate_began, console.candidate_ended))
        is_cut_short = not all(result.is_final for result in found[-1].results)
        if interrupts.requested or is_cut_short:
            break
    console.end_search(found, opened.finish())
