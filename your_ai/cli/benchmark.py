"""``your_ai benchmark``: the ladder of models, smallest first, each in a trial of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from your_ai.cli.options import (
    CONFIGURATION,
    RESULTS,
    RUN,
    SEARCH,
    STEPS,
    TENSORS,
    about_search,
    check_models,
    models,
    no_arguments,
    options,
    searching,
)
from your_ai.cli.run_context import OpenRun, new_run, run_trials
from your_ai.errors import ExitCode, UsageError
from your_ai.models import presets
from your_ai.planning.device import Device
from your_ai.planning.plan import Trial
from your_ai.runs.assembly import optimization_of
from your_ai.runs.run import Run
from your_ai.system.signals import interrupts
from your_ai.terminal.benchmark import Console


@click.command(name="benchmark")
@no_arguments
@options(models("default; smoke where MLX has only a CPU"), CONFIGURATION, TENSORS, STEPS)
@click.option(
    "--optimize", is_flag=True, help="Find the best configuration of each model that passes."
)
@options(SEARCH)
@click.option("--keep-going", is_flag=True, help="Try larger models even after an OOM.")
@options(RESULTS, RUN)
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    names: Sequence[str],
    suite_name: str | None,
    optimize: bool,
    **arguments: Any,
) -> ExitCode:
    """Measure which models this machine can fine-tune, and how fast.

    Each model is trained for a few real LoRA steps in a process of its own, smallest first. A model
    that runs out of memory ends that process alone.
    """

    def plan_run(console: Console) -> Run:
        check_models(names, suite_name)
        if not optimize and (unused := about_search(arguments)):
            raise UsageError(f"{unused[0]} requires --optimize.")
        search = searching(arguments) if optimize else None
        return new_run(context, console, names, lambda d: _suite(suite_name, d, console), search)

    return run_trials(context, plan_run, _go)


def _suite(name: str | None, device: Device, console: Console) -> presets.Suite:
    if name is None and device.backend == "cpu":
        console.note(
            "MLX has only a CPU here, so tiny models are tried (--suite smoke): they show that "
            "training works. --suite default tries real ones, and takes hours."
        )
        return presets.suite("smoke")
    return presets.suite(name or "default")


def _go(opened: OpenRun) -> None:
    """Run the trials and, where asked, the search behind each; show and save each."""
    run, console = opened.run, opened.console
    console.begin(run, opened.done_before)
    trial = run.trials[0]
    for progress in opened.runner.trials():
        if isinstance(progress, Trial):
            trial = progress
            console.trial_began(trial, len(run.trials))
            continue
        opened.save()
        console.trial_ended(progress)
        if run.search is not None and progress.success and not interrupts.requested:
            _optimize(opened, trial)
    console.end(run, opened.results, opened.finish())


def _optimize(opened: OpenRun, trial: Trial) -> None:
    """Search for the best configuration of a trial's model."""
    opened.console.optimizing()
    for progress in opened.runner.search(trial):
        if isinstance(progress, Trial):
            number = len(opened.runner.results_of(trial)) + 1
            opened.console.optimizing_trial(progress, number)
        else:
            opened.save()
    results = opened.runner.results_of(trial)
    opened.console.optimized(optimization_of(opened.run, trial, results))
