"""``your_ai report``: show results as a table, or as an HTML page with charts."""

from __future__ import annotations

from pathlib import Path

import click

from your_ai.cli.options import PATH
from your_ai.cli.params import FILE
from your_ai.errors import ExitCode, MachineError
from your_ai.files import check_writable, refuse_to_replace
from your_ai.runs.catalog import newest_results
from your_ai.runs.results_file import load
from your_ai.runs.run_dir import RESULTS, runs_dir
from your_ai.terminal.output import say, terminal_columns
from your_ai.terminal.summary import summary


@click.command(name="report")
@click.argument("source", type=FILE, required=False, metavar="[RESULTS]")
@click.option("--html", type=PATH, metavar="FILE", help="Write an HTML page with charts.")
def command(source: Path | None, html: Path | None) -> ExitCode:
    """Show RESULTS as a table, or as an HTML page with charts.

    RESULTS is a results file or a run folder; the default is the last run. The page is a single
    file that works offline. Each run also writes one to its folder.
    """
    path = source or newest_results(runs_dir())
    results = load(path)
    if html is None:
        say(summary(results, terminal_columns()))
        return ExitCode.OK
    check_writable(html)
    refuse_to_replace(html, path, path / RESULTS)
    from your_ai.report.page import write_report  # slow: imports jinja2

    problem = write_report(results, html)
    if problem:
        raise MachineError(problem)
    say(f"Report written to {html}")
    return ExitCode.OK
