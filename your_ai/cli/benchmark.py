"""``your_ai benchmark``: the ladder of models, smallest first, each in a trial of its own."""

from __future__ import annotations

from typing import Any

import click

from your_ai.cli import options
from your_ai.cli.run_context import OpenRun, new_run, run_trials
from your_ai.errors import ExitCode
from your_ai.planning.plan import Trial
from your_ai.runs.run import Run
from your_ai.system.signals import interrupts
from your_ai.terminal.screen import Screen


@click.command(name="benchmark")
@options.add(options.models("default; smoke where MLX has only a CPU"))
@options.add(options.CONFIGURATION, options.TENSORS, options.STEPS)
@options.flag("--optimize", "Find the best configuration of each model that passes.")
@options.add(options.SEARCH)
@options.flag("--keep-going", "Try larger models even after an OOM.")
@options.add(options.RESULTS, options.RUN)
@click.pass_context
def command(context: click.Context, /, **asked: Any) -> ExitCode:
    """Measure which models this machine can fine-tune, and how fast.

    Each model is trained for a few real LoRA steps in a process of its own, smallest first. A model
    that runs out of memory ends that process alone.
    """

    def plan_run(screen: Screen) -> Run:
        names = options.model_names(asked)
        if not asked["optimize"]:
            options.refuse_search(asked)
        search = options.searching(asked) if asked["optimize"] else None
        return new_run(context, screen, names, search)

    return run_trials(context, plan_run, _go)


def _go(opened: OpenRun) -> None:
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
            console.optimized(opened.search(trial, console.optimizing_trial))
    console.end(opened.results, opened.finish())
