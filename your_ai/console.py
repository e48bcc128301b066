"""What a run prints."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

import click

from your_ai.device import Device
from your_ai.machine import Machine
from your_ai.models import Model
from your_ai.optimization import Optimization
from your_ai.outcome import OutcomeKind
from your_ai.plan import Trial
from your_ai.record import TrialRecord
from your_ai.results import recommended
from your_ai.run import Run
from your_ai.search import Objective
from your_ai.terminal import printable
from your_ai.units import GB, show_size

WIDTH = 60
_NAME_WIDTH = 18
_INDENT = " " * 8
_SEARCH_INDENT = " " * 4

_FAILURES = {
    OutcomeKind.OOM: "✗ OOM",
    OutcomeKind.OVER_BUDGET: "✗ Over budget",
    OutcomeKind.TIMEOUT: "✗ Timeout",
    OutcomeKind.CRASH: "✗ Crash",
    OutcomeKind.ERROR: "✗ Error",
    OutcomeKind.SKIPPED: "– Skipped",
    OutcomeKind.INTERRUPTED: "– Interrupted",
}
_GOALS = {
    Objective.CAPACITY: "largest batch × rank × layers that fits",
    Objective.TOKENS: "fastest that fits",
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

    def notes(self, models: Iterable[Model]) -> None:
        """What the user should know of these models before they are tried."""
        for model in models:
            if model.note is not None:
                self.note(model.note)

    def begin(self, run: Run, done_before: int) -> None:
        """The head: the machine and what is about to happen; of a resumed run what is done."""
        self._head("Hardware Benchmark")
        self._print(_memory_line(run.machine, run.device, run.budget_bytes))
        self._resuming(run, done_before)
        self._print("Testing models from smallest to largest...\n")

    def begin_search(self, run: Run, trial: Trial, found: Optimization, done_before: int) -> None:
        """The head of a search for one model's best configuration."""
        grid = found.search.grid
        self._head("Configuration Search")
        self._print(_memory_line(run.machine, run.device, run.budget_bytes))
        self._resuming(run, done_before)
        self._print(
            f"Looking among {grid.size} configurations of {trial.model.name} "
            f"({trial.model.params})\nfor the {_GOALS[found.search.objective]}...\n"
        )

    def candidate_began(self, trial: Trial, number: int) -> None:
        """The first half of a configuration's line, out at once."""
        c = trial.configuration
        shown = f"batch={c.batch_size:<2} rank={c.lora_rank:<3} layers={c.lora_layers:<2}"
        self._print(f"[{number}] {shown} ... ", newline=False)

    def end_search(self, found: Optimization, results_path: str) -> None:
        """The foot of a search: the best configuration, what proves it, where the results are."""
        self._print("")
        self._head("Results")
        self._print(f"Optimal: {_optimal(found)}")
        for line in _proof(found):
            self._print(line)
        self._print(self._rule)
        self._print(f"Results written to {results_path}")

    def optimizing(self) -> None:
        """The first half of the line on a model's search, out at once."""
        self._print(f"{_SEARCH_INDENT}Optimizing configuration ... ", newline=False)

    def optimized(self, found: Optimization) -> None:
        """The second half: what the search found."""
        mark = "✓" if found.best else "–"
        self._print(f"{mark} ({_optimal(found)})")
        for record in found.records:
            self._print_log(record)

    def trial_began(self, trial: Trial, total: int) -> None:
        """The first half of a trial's line, out at once."""
        name = f"{trial.model.name:<{_NAME_WIDTH}} ({trial.model.params:>4})"
        self._print(f"[{trial.index}/{total}] {name} ... ", newline=False)

    def trial_ended(self, record: TrialRecord) -> None:
        """The second half: how it ended, and for a failure where to read more."""
        self._print(_verdict(record))
        self._print_log(record)

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

    def _print_log(self, record: TrialRecord) -> None:
        if record.outcome.kind in _LOGGED and record.log_path is not None:
            self._print(f"{_INDENT}log: {record.log_path}")

    def _resuming(self, run: Run, done_before: int) -> None:
        if done_before:
            done = f"{_counted(done_before, 'trial')} of it {'is' if done_before == 1 else 'are'}"
            self._print(f"Resuming the run of {run.started_at}: {done} done.")

    def _head(self, title: str) -> None:
        self._print(f"{self._rule}\n{title}\n{self._rule}")

    def _print(self, text: str, *, newline: bool = True) -> None:
        if self._quiet:
            return
        try:
            click.echo(printable(text), nl=newline)
        except OSError:  # nobody reads any more; what is measured is still worth writing
            self._quiet = True


def _optimal(found: Optimization) -> str:
    used = f"in {_counted(len(found.tried), 'trial')}"
    best = found.best
    if best is None or best.needed_bytes is None:
        return f"none of the grid passed {used}"
    figures = [_shown(best), f"needs {show_size(best.needed_bytes)}"]
    if best.tokens_per_second is not None:
        figures.append(f"{best.tokens_per_second:,.0f} tokens/s")
    return ", ".join([*figures, used if found.is_proven else f"{used}, not proven"])


def _proof(found: Optimization) -> list[str]:
    """Why nothing better fits, in words."""
    left = len(found.certificate.unsettled)
    if left:
        lines = [f"Not proven: {_counted(left, 'configuration')} that may be better left untried."]
    elif not found.is_proven:
        lines = ["Not proven: it rests on failures that say nothing of memory:"]
    elif found.search.objective is Objective.TOKENS:
        lines = ["Tried with the least rank and layers: more of them is not taken to be faster."]
    elif not found.decisive:
        lines = ["Proven: there is none better in the grid."]
    elif found.best is None:
        lines = ["Proven: every one is at least as large on every axis as one that failed:"]
    else:
        lines = ["Proven: every better one is at least as large on every axis as one that failed:"]
    failures = [f"{_SEARCH_INDENT}{_shown(r)}: {_verdict(r)}" for r in found.decisive]
    return [*lines, *failures]


def _shown(record: TrialRecord) -> str:
    c = record.trial.configuration
    return f"batch={c.batch_size}, rank={c.lora_rank}, layers={c.lora_layers}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _memory_line(machine: Machine, device: Device, budget_bytes: int) -> str:
    parts = [f"budget {show_size(budget_bytes)}", f"training on {device.name} ({device.backend})"]
    if device.memory_bytes != machine.memory_bytes:
        parts.append(f"{device.memory_bytes / GB:.2f} GB of its own")
    return f"System Memory: {machine.memory_bytes / GB:.2f} GB ({', '.join(parts)})"


def _verdict(record: TrialRecord) -> str:
    if record.peak_bytes is None or record.needed_bytes is None:
        failure = _FAILURES[record.outcome.kind]
        return failure if record.interrupted else f"{failure} ({record.outcome.reason})"
    figures = [show_size(record.peak_bytes), f"needs {show_size(record.needed_bytes)}"]
    speed = record.tokens_per_second
    if speed is not None:
        figures.append(f"{speed:,.0f} tokens/s")
    return f"✓ Pass ({', '.join(figures)})"
