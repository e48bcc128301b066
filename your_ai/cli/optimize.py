"""``your_ai optimize``: the best configuration of one model, proven by a handful of trials."""

from __future__ import annotations

from pathlib import Path
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
    training,
)
from your_ai.cli.run_context import OpenRun, begun, new_run, open_console, plan_trials, resumed
from your_ai.errors import ExitCode, UsageError
from your_ai.files import check_writable
from your_ai.models import presets, resolve
from your_ai.planning.device import from_probe
from your_ai.planning.plan import Trial
from your_ai.runs.optimization import Optimization, search_for
from your_ai.runs.results import Entry
from your_ai.supervision.probe import probe_device
from your_ai.system import machine
from your_ai.terminal.benchmark import Console
from your_ai.units import now


@click.command(name="optimize")
@click.argument("model", required=False, metavar="MODEL", shell_complete=preset_names)
@options(SEARCH, TENSORS, STEPS, RESULTS, RUN)
def command(
    *,
    model: str | None,
    max_memory: float | None,
    output: Path | None,
    resume: bool,
    quiet: bool,
    **arguments: Any,
) -> ExitCode:
    """Find the batch size, rank and layers of most capacity with which MODEL still fits.

    MODEL is a preset, a folder, or ORG/NAME on the Hugging Face Hub. Every answer is proven: each
    better configuration failed in a trial, or is at least as large on every axis as one that did.
    """
    context = click.get_current_context()
    if resume:
        with open_console(quiet=quiet) as console, resumed(context, console) as opened:
            _go(opened, console)
        return opened.exit_code()
    if model is None:
        raise UsageError("Name a model; `your_ai models` lists the presets.")
    if output is not None:
        check_writable(output)
    search = searching(arguments)
    with open_console(quiet=quiet) as console:
        host = machine.describe()
        chosen = [resolve.find(model)]
        console.notes(chosen)
        device = from_probe(probe_device(), host)
        trained = training(arguments, presets.training_of([chosen[0].name]))
        trials = plan_trials(chosen, trained, device, max_memory)
        console.notes(trial.model for trial in trials if trial.model.is_preset)
        run = new_run(context, host, device, trials, search)
        with begun(context, run, console) as opened:
            _go(opened, console)
    return opened.exit_code()


def _go(opened: OpenRun, console: Console) -> None:
    """Run the search, print and write each trial as it ends."""
    run = opened.run
    (trial,) = run.trials
    assert run.search is not None
    found = Optimization(search_for(trial, run.search, run.device.backend), (), now())
    console.begin_search(run, trial, found, opened.done_before)
    for progress in opened.session.search(trial, found):
        if isinstance(progress, Trial):
            console.candidate_began(progress, len(found.records) + 1)
            continue
        found = progress
        opened.entries = [Entry(found.best or found.records[-1], found)]
        opened.write()
        console.candidate_ended(found.records[-1])
    console.end_search(found, opened.finish())
