"""What a run prints."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

import click

from your_ai.device import Device
from your_ai.machine import Machine
from your_ai.outcome import OutcomeKind
from your_ai.plan import Trial
from your_ai.record import TrialRecord
from your_ai.results import Run, recommended
from your_ai.units import GB, show_size

WIDTH = 60
_NAME_WIDTH = 18
_INDENT = " " * 8

_FAILURES = {
    OutcomeKind.OOM: "✗ OOM",
    OutcomeKind.OVER_BUDGET: "✗ Over budget",
    OutcomeKind.TIMEOUT: "✗ Timeout",
    OutcomeKind.CRASH: "✗ Crash",
    OutcomeKind.ERROR: "✗ Error",
    OutcomeKind.SKIPPED: "– Skipped",
    OutcomeKind.INTERRUPTED: "– Interrupted",
}
_LOGGED = (OutcomeKind.CRASH, OutcomeKind.ERROR, OutcomeKind.TIMEOUT)


class Console:
    """Prints a run's course as plain lines, one a trial; nothing at all when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        # A rule that wraps is none; elsewhere than in a terminal the width is always the same.
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
        self._rule = "━" * min(WIDTH, columns)

    def note(self, text: str) -> None:
        """Something that the user should know before the first trial."""
        self._print(f"Note: {text}")

    def begin(self, run: Run) -> None:
        """The head: the machine and what is about to happen."""
        self._head("Hardware Benchmark")
        self._print(_memory_line(run.machine, run.device, run.budget_bytes))
        self._print("Testing models from smallest to largest...\n")

    def trial_began(self, trial: Trial, total: int) -> None:
        """The first half of a trial's line, out at once."""
        name = f"{trial.model.name:<{_NAME_WIDTH}} ({trial.model.params:>4})"
        self._print(f"[{trial.index}/{total}] {name} ... ", newline=False)

    def trial_ended(self, record: TrialRecord) -> None:
        """The second half: how it ended, and for a failure where to read more."""
        self._print(_verdict(record))
        if record.outcome.kind in _LOGGED and record.log_path is not None:
            self._print(f"{_INDENT}log: {record.log_path}")

    def end(self, records: Sequence[TrialRecord], results_path: str) -> None:
        """The foot: the recommendation, and where the results are."""
        self._print("")
        self._head("Results")
        best = recommended(records)
        if best is None:
            self._print("Recommended: none (no model passed)")
        else:
            self._print(f"Recommended: {best.trial.model.name} (largest model that fits)")
            others = [r.trial.model for r in records if r.passed and r is not best]
            if others:
                listed = ", ".join(f"{model.name} ({model.params})" for model in others)
                self._print(f"Alternatives: {listed}")
        self._print(self._rule)
        self._print(f"Results written to {results_path}")

    def _head(self, title: str) -> None:
        self._print(f"{self._rule}\n{title}\n{self._rule}")

    def _print(self, text: str, *, newline: bool = True) -> None:
        if self._quiet:
            return
        try:
            click.echo(text, nl=newline)
        except OSError:  # nobody reads any more; what is measured is still worth writing
            self._quiet = True


def _memory_line(machine: Machine, device: Device, budget_bytes: int) -> str:
    parts = [f"budget {show_size(budget_bytes)}", f"training on {device.name} ({device.backend})"]
    if device.memory_bytes != machine.memory_bytes:
        parts.append(f"{device.memory_bytes / GB:.2f} GB of its own")
    return f"System Memory: {machine.memory_bytes / GB:.2f} GB ({', '.join(parts)})"


def _verdict(record: TrialRecord) -> str:
    passed = record.passed
    if passed is None:
        failure = _FAILURES[record.outcome.kind]
        return failure if record.interrupted else f"{failure} ({record.outcome.reason})"
    figures = [show_size(passed.peak_bytes), f"needs {show_size(passed.needed_bytes)}"]
    speed = record.tokens_per_second
    if speed is not None:
        figures.append(f"{speed:,.0f} tokens/s")
    return f"✓ Pass ({', '.join(figures)})"
