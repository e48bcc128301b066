"""``your_ai doctor``: whether this machine and its installation can run trials."""

from __future__ import annotations

import click

from your_ai.cli.checkup import Mark, findings
from your_ai.errors import ExitCode
from your_ai.system import machine
from your_ai.terminal.output import say


@click.command(name="doctor")
def command() -> ExitCode:
    """Look at all that a run depends on, with a real trial of a few seconds.

    ✓ is good, ! is worth knowing, ✗ keeps trials from being run: the exit code is then 3.
    """
    is_well = True
    for finding in findings(machine.describe()):
        is_well = is_well and finding.mark is not Mark.BAD
        say(f"{finding.mark} {finding.text}")
        if finding.advice is not None:
            say(f"    {finding.advice}")
    return ExitCode.OK if is_well else ExitCode.MACHINE
