"""``your_ai report``: a results file for people, at the terminal or as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from your_ai.cli.params import FILE
from your_ai.errors import ExitCode, MachineError
from your_ai.files import check_writable, refuse_to_replace
from your_ai.runs.catalog import newest_results
from your_ai.runs.results_file import load
from your_ai.runs.run_dir import RESULTS, runs_dir
from your_ai.terminal.output import say, terminal_columns
from your_ai.terminal.summary import summary


@click.command(name="report")
@click.argument("results", type=FILE, required=False)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write it there.")
def command(results: Path | None, html: Path | None) -> ExitCode:
    """Show the results file RESULTS, or a run's folder: a table, or with --html a page of charts.

    Without RESULTS those of the last run are shown.

    The page is one file that needs no network. Each run leaves one in its directory, too.
    """
    path = results or newest_results(runs_dir())
    found = load(path)
    if html is None:
        say(summary(found, terminal_columns()))
        return ExitCode.OK
    check_writable(html)
    refuse_to_replace(html, path, path / RESULTS)
    from your_ai.report.page import write_report  # only here: jinja2 takes a while to import

    problem = write_report(found, html)
    if problem:
        raise MachineError(problem)
    say(f"Report written to {html}")
    return ExitCode.OK
