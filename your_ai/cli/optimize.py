"""``your_ai optimize``: the best configuration of one model, proven by a handful of trials."""

from __future__ import annotations

from typing import Any

import click

from your_ai.cli import options
from your_ai.cli.run_context import OpenRun, new_run, run_trials
from your_ai.errors import ExitCode, UsageError
from your_ai.runs.run import Run
from your_ai.terminal.screen import Screen


@click.command(name="optimize")
@click.argument("model", required=False, metavar="MODEL", shell_complete=options.preset_names)
@options.add(options.SEARCH, options.TENSORS, options.STEPS, options.RESULTS, options.RUN)
@click.pass_context
def command(context: click.Context, /, *, model: str | None, **asked: Any) -> ExitCode:
    """Find the largest batch × rank × layers configuration of MODEL that fits in memory.

    MODEL is a preset, a folder, or ORG/NAME on the Hugging Face Hub. Every answer is proven: each
    better configuration failed in a trial, or is at least as large on every axis as one that did.
    """

    def plan_run(screen: Screen) -> Run:
        if model is None:
            raise UsageError("Name a model; `your_ai models` lists the presets.")
        return new_run(context, screen, [model], options.searching(asked))

    return run_trials(context, plan_run, _go)


def _go(opened: OpenRun) -> None:
    console = opened.console
    (trial,) = opened.run.trials
    console.begin_search(trial, opened.done_before, is_complete=opened.was_complete)
    found = opened.search(trial, console.candidate_began, console.candidate_ended)
    console.end_search(found, opened.finish())
