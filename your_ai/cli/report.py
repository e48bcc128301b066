"""``your_ai report``: a results file for people, at the terminal or as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from your_ai.cli.params import FILE
from your_ai.errors import ExitCode, MachineError
from your_ai.files import check_writable, refuse_to_replace, write_atomically
from your_ai.report.document import read
from your_ai.runs.catalog import newest_results
from your_ai.runs.results import load
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
    results = results or newest_results(runs_dir())
    document = read(load(results))
    if html is None:
        say(summary(document, terminal_columns()))
        return ExitCode.OK
    check_writable(html)
    refuse_to_replace(html, results, results / RESULTS)
    from your_ai.report.page import page  # only here: the template engine takes a while to import

    try:
        write_atomically(html, page(document).encode(errors="replace"))
    except OSError as error:
        raise MachineError(f"Cannot write {html}: {error.strerror}.") from error
    say(f"Report written to {html}")
    return ExitCode.OK
