"""``your_ai runs``: list the saved runs."""

from __future__ import annotations

import click

from your_ai.errors import ExitCode
from your_ai.runs.catalog import run_text, saved_runs
from your_ai.runs.run_dir import runs_dir
from your_ai.terminal.output import say


@click.command(name="runs")
def command() -> ExitCode:
    """List the runs saved on this machine, newest first.

    `your_ai benchmark --resume` resumes the newest unfinished benchmark; `optimize`, `ceiling` and
    `train` do the same for theirs. Add --run-dir to resume another run.
    Runs that were started with --run-dir are saved there and not listed.
    """
    found = saved_runs(runs_dir())
    for run in found:
        say(run_text(run))
    if not found:
        say(f"No saved runs in {runs_dir()}.")
    return ExitCode.OK
