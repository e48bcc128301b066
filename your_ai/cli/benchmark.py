"""``your_ai benchmark``: the ladder of models, smallest first, each in a trial of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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
    no_arguments,
    options,
    searching,
    training,
)
from your_ai.cli.options import models as model_options
from your_ai.cli.run_context import OpenRun, begun, new_run, open_console, plan_trials, resumed
from your_ai.errors import ExitCode, UsageError
from your_ai.files import check_writable
from your_ai.models import presets, resolve
from your_ai.planning.device import Device, from_probe
from your_ai.planning.plan import Trial
from your_ai.runs.optimization import Optimization, search_for
from your_ai.runs.results import Entry
from your_ai.runs.run import Run
from your_ai.runs.trial_record import TrialRecord
from your_ai.supervision.probe import probe_device
from your_ai.system import machine
from your_ai.terminal.benchmark import Console
from your_ai.units import now


@click.command(name="benchmark")
@no_arguments
@options(model_options("default; smoke where MLX has only a CPU"), CONFIGURATION, TENSORS, STEPS)
@click.option(
    "--optimize", is_flag=True, help="Find the best configuration of each model that passes."
)
@options(SEARCH)
@click.option("--keep-going", is_flag=True, help="Try larger models even after an OOM.")
@options(RESULTS, RUN)
def command(
    *,
    max_memory: float | None,
    output: Path | None,
    names: Sequence[str],
    suite_name: str | None,
    optimize: bool,
    resume: bool,
    quiet: bool,
    **arguments: Any,
) -> ExitCode:
    """Measure which models this machine can fine-tune, and how fast.

    Each model is trained for a few real LoRA steps in a process of its own, smallest first. A model
    that runs out of memory ends that process alone.
    """
    context = click.get_current_context()
    if resume:
        with open_console(quiet=quiet) as console, resumed(context, console) as opened:
            _go(opened, console)
        return opened.exit_code()
    check_models(names, suite_name)
    if not optimize and (unused := about_search(arguments)):
        raise UsageError(f"{unused[0]} is about a search; add --optimize.")
    if output is not None:
        check_writable(output)
    search = searching(arguments) if optimize else None
    with open_console(quiet=quiet) as console:
        host = machine.describe()
        chosen = [resolve.find(name) for name in dict.fromkeys(names)]
        console.notes(chosen)
        device = from_probe(probe_device(), host)
        if not chosen:
            suite = _suite(suite_name, device, console)
            chosen = [resolve.from_preset(preset) for preset in suite.presets]
        trained = training(arguments, presets.training_of([model.name for model in chosen]))
        trials = plan_trials(chosen, trained, device, max_memory)
        console.notes(trial.model for trial in trials if trial.model.is_preset)
        run = new_run(context, host, device, trials, search)
        with begun(context, run, console) as opened:
            _go(opened, console)
    return opened.exit_code()


def _suite(name: str | None, device: Device, console: Console) -> presets.Suite:
    if name is None and device.backend == "cpu":
        console.note(
            "MLX has only a CPU here, so tiny models are tried (--suite smoke): they show that "
            "training works. --suite default tries real ones, and takes hours."
        )
        return presets.suite("smoke")
    return presets.suite(name or "default")


def _go(opened: OpenRun, console: Console) -> None:
    """Run the trials, print and write each as it ends."""
    run = opened.run
    console.begin(run, opened.done_before)
    for progress in opened.session.trials():
        if isinstance(progress, Trial):
            console.trial_began(progress, len(run.trials))
            continue
        opened.entries.append(_entry(progress, run))
        opened.write()
        console.trial_ended(progress)
        _optimize(opened, console)
        if opened.entries[-1].was_interrupted:
            break
    written = opened.finish()
    console.end(run, [entry.record for entry in opened.entries], written)


def _entry(record: TrialRecord, run: Run) -> Entry:
    """A model's entry; with the search that starts from its trial, where it passed."""
    if run.search is None or not record.passed or record.interrupted:
        return Entry(record)
    search = search_for(record.trial, run.search, run.device.backend)
    return Entry(record, Optimization(search, (record,), now()))


def _optimize(opened: OpenRun, console: Console) -> None:
    """Run the search that the last entry asks for, if it does."""
    entry = opened.entries[-1]
    found = entry.optimization
    if found is None:
        return
    console.optimizing()
    for progress in opened.session.search(entry.record.trial, found):
        if isinstance(progress, Trial):
            console.optimizing_trial(progress, len(found.records) + 1)
            continue
        found = progress
        opened.entries[-1] = Entry(entry.record, found)
        opened.write()
    console.optimized(found)
