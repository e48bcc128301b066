"""``your_ai optimize``: the best configuration of one model, proven by a handful of trials."""

from __future__ import annotations

from typing import Any

import click

from your_ai.cli.options import (
    RESULTS,
    RUN,
    SEARCH,
    STEPS,
    TENSORS,
    options,
    preset_names,
    searching,
)
from your_ai.cli.run_context import OpenRun, new_run, run_trials
from your_ai.errors import ExitCode, UsageError
from your_ai.models import presets
from your_ai.planning.plan import Trial
from your_ai.runs.assembly import optimization_of
from your_ai.runs.run import Run
from your_ai.terminal.benchmark import Console


@click.command(name="optimize")
@click.argument("model", required=False, metavar="MODEL", shell_complete=preset_names)
@options(SEARCH, TENSORS, STEPS, RESULTS, RUN)
@click.pass_context
def command(context: click.Context, /, *, model: str | None, **arguments: Any) -> ExitCode:
    """Find the largest batch × rank × layers configuration of MODEL that fits in memory.

    MODEL is a preset, a folder, or ORG/NAME on the Hugging Face Hub. Every answer is proven: each
    better configuration failed in a trial, or is at least as large on every axis as one that did.
    """

    def plan_run(console: Console) -> Run:
        if model is None:
            raise UsageError("Name a model; `your_ai models` lists the presets.")
        search = searching(arguments)
        return new_run(context, console, [model], lambda _: presets.suite("default"), search)

    return run_trials(context, plan_run, _go)


def _go(opened: OpenRun) -> None:
    """Run the search; show and save each trial."""
    run, console, runner = opened.run, opened.console, opened.runner
    (trial,) = run.trials
    console.begin_search(run, trial, opened.done_before)
    for progress in runner.search(trial):
        if isinstance(progress, Trial):
            console.candidate_began(progress, len(runner.ended) + 1)
        else:
            opened.save()
            console.candidate_ended(progress)
    written = opened.finish()
    console.end_search(optimization_of(run, trial, runner.results_of(trial)), written)
