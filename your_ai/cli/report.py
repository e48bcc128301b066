"""``your_ai report``: show results as a table or as an HTML page, or share them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from your_ai.cli.options import PATH
from your_ai.cli.params import FILE
from your_ai.errors import ExitCode, MachineError, UsageError
from your_ai.files import check_writable, refuse_to_replace, write_or_fail
from your_ai.runs.catalog import newest_results
from your_ai.runs.results import Results
from your_ai.runs.results_file import load
from your_ai.runs.run_dir import RESULTS, runs_dir
from your_ai.runs.shared_measurements import write
from your_ai.runs.sharing import select
from your_ai.terminal.output import say, terminal_columns
from your_ai.terminal.sharing import shared
from your_ai.terminal.summary import summary


@click.command(name="report")
@click.argument("source", type=FILE, required=False, metavar="[RESULTS]")
@click.option("--html", type=PATH, metavar="FILE", help="Write an HTML page with charts.")
@click.option(
    "--share",
    type=PATH,
    metavar="FILE",
    help="Write the measurements as JSON that can be published: no paths, no messages.",
)
def command(source: Path | None, html: Path | None, share: Path | None) -> ExitCode:
    """Show RESULTS as a table, or as an HTML page with charts, or share the measurements.

    RESULTS is a results file or a run folder; the default is the last run. The page is a single
    file that works offline. Each run also writes one to its folder.

    --share writes the machine's chip, memory and versions, and for each trial the model's Hub id,
    the settings and the figures. CONTRIBUTING.md says how to contribute the file.
    """
    path = source or newest_results(runs_dir())
    results = load(path)
    if html is None and share is None:
        say(summary(results, terminal_columns()))
        return ExitCode.OK
    targets = [target for target in (html, share) if target is not None]
    for target in targets:
        check_writable(target)
        refuse_to_replace(target, path, path / RESULTS)
    if len({os.path.realpath(target) for target in targets}) < len(targets):
        raise UsageError("--html and --share name the same file. Choose two different files.")
    if share is not None:
        _share(results, share)
    if html is not None:
        _write_page(results, html)
    return ExitCode.OK


def _share(results: Results, target: Path) -> None:
    selection = select(results)
    write_or_fail(target, write(selection.document))
    say("\n".join(shared(selection, target)))


def _write_page(results: Results, target: Path) -> None:
    from your_ai.report.page import write_report  # slow: imports jinja2

    problem = write_report(results, target)
    if problem:
        raise MachineError(problem)
    say(f"Report written to {target}")
