"""``your_ai ceiling``: find the longest sequences that fit, for several batch sizes."""

from __future__ import annotations

from typing import Any

import click

from your_ai.cli import configuration, data_option, options, search_options
from your_ai.cli.config_file import CONFIG
from your_ai.cli.groups import Group, GroupedCommand, flag, option
from your_ai.cli.params import Sizes
from your_ai.cli.run_context import OpenRun, new_run, run_trials
from your_ai.errors import ExitCode, UsageError
from your_ai.models import presets
from your_ai.runs.assembly import ceiling_of
from your_ai.runs.run import Run
from your_ai.search.grid import Axes
from your_ai.search.search import Objective, SearchOptions
from your_ai.system.signals import interrupts
from your_ai.terminal.screen import Screen

_BATCH_SIZES = (1, 2, 4, 8)

_MAP = Group(
    "Map",
    (
        option(
            "--suite suite_name",
            click.Choice(presets.SUITES),
            "Presets to use instead of MODEL: default, current or smoke.",
            metavar="NAME",
        ),
        option(
            "--batch-sizes",
            Sizes(configuration.MAX_BATCH),
            "Batch sizes of the map.",
            fallback=search_options.joined(_BATCH_SIZES),
        ),
        search_options.lengths(search_options.MULTIPLES),
        flag("--exhaustive", "Try every batch size with every length, to check the search."),
    ),
)
_GROUPS = [
    *(_MAP, CONFIG),
    *(
        configuration.ADAPTERS,
        configuration.KIND,
        configuration.MAPPED_TENSORS,
        data_option.MAPPED_DATA,
    ),
    *(configuration.STEPS, options.BUDGET),
    *(options.KEEP_GOING, options.RUN, options.OUTPUT),
]


@click.command(name="ceiling", cls=GroupedCommand, groups=_GROUPS)
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=options.preset_names)
@click.pass_context
def command(context: click.Context, /, *, models: tuple[str, ...], **values: Any) -> ExitCode:
    """Find the longest sequences that fit: for each batch size, with and without checkpointing.

    MODEL is a preset, a folder, or a Hub id (ORG/NAME). Each length in the map was measured, or
    follows from a trial that needs at least as much memory and passed, or at most as much and
    failed.
    """

    def plan_run(screen: Screen) -> Run:
        if models and values["suite_name"]:
            raise UsageError("MODEL and --suite cannot be used together.")
        if not (models or values["suite_name"] or values["config"]):
            raise UsageError("A model is required. `your_ai models` lists the presets.")
        return new_run(context, screen, list(dict.fromkeys(models)), _search_options(values))

    return run_trials(context, plan_run, _map)


def _search_options(values: dict[str, Any]) -> SearchOptions:
    wanted = values["grad_checkpoint"]
    axes = Axes(
        batch_sizes=values["batch_sizes"] or _BATCH_SIZES,
        seq_lengths=values["seq_lengths"] or (),
        grad_checkpoints=(True, False) if wanted is None else (wanted,),
    )
    return SearchOptions(axes, Objective.CEILING, exhaustive=values["exhaustive"])


def _map(opened: OpenRun) -> None:
    run, console = opened.run, opened.console
    console.begin_ceiling(opened.done_before, is_complete=opened.was_complete)
    for trial in run.trials:
        if interrupts.requested:
            break
        console.map_began(trial)
        results = opened.search(trial, console.candidate_began, console.candidate_ended)
        if any(result.is_final for result in results):
            console.map_ended(ceiling_of(run, trial, results))
    console.end_ceiling(opened.results, opened.finish())
