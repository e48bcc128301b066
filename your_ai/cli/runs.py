"""``your_ai runs``: what was run on this machine, newest first, and what can be resumed."""

from __future__ import annotations

import click

from your_ai.errors import ExitCode
from your_ai.runs.catalog import run_text, saved_runs
from your_ai.runs.run_dir import runs_dir
from your_ai.terminal.output import say


@click.command(name="runs")
def command() -> ExitCode:
    """List the runs kept on this machine, newest first.

    `your_ai benchmark --resume` resumes the newest run that did not finish; add --run-dir to
    choose another. Runs with a --run-dir of their own are not listed.
    """
    found = saved_runs(runs_dir())
    for run in found:
        say(run_text(run))
    if not found:
        say(f"There is no run in {runs_dir()}.")
    return ExitCode.OK
