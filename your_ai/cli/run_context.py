"""What the commands that run trials have in common: from options to a run, and to its results."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from worker.protocol import Weights
from your_ai import __version__
from your_ai.cli.options import given
from your_ai.errors import ExitCode, MachineError, UsageError
from your_ai.files import check_writable, is_special, write_atomically
from your_ai.models import hub, resolve, weight_files
from your_ai.models.resolve import Model
from your_ai.planning.device import Device, budget_bytes, from_probe
from your_ai.planning.plan import TrainingOptions, Trial, plan
from your_ai.report.isolated import write_apart
from your_ai.runs.catalog import to_resume
from your_ai.runs.journal import JOURNAL, Journal
from your_ai.runs.results import Entry, document
from your_ai.runs.resume import BEGAN, CLOSED, NOTHING, RESUMED, Past, past_of
from your_ai.runs.run import Run, check_same, from_fields, to_fields
from your_ai.runs.run_dir import REPORT, RESULTS, make_logs_dir, make_run_dir, runs_dir
from your_ai.runs.runner import Session
from your_ai.search.search import SearchOptions
from your_ai.supervision.probe import probe_device, probe_models
from your_ai.system.boot import boot_id
from your_ai.system.machine import Machine, describe
from your_ai.system.signals import interrupts
from your_ai.system.sleep import kept_awake
from your_ai.terminal.benchmark import Console
from your_ai.terminal.open import open_screen
from your_ai.units import now

_WRITING_SHARE = 0.02
"""Of a run's time, for its results: a thousand trials' take a while to write, and are safe in the
journal anyway."""


@dataclass
class OpenRun:
    """A run under way: what it has found, and where its results could not be written."""

    run: Run
    session: Session
    done_before: int
    targets: Sequence[Path]
    entries: list[Entry] = field(default_factory=list)
    unwritten: str | None = None
    _next_write: float = 0.0

    def write(self) -> None:
        """Write the results, unless that was just done and took long."""
        began = time.monotonic()
        if began < self._next_write:
            return
        self._write([target for target in self.targets if not is_special(target)])
        ended = time.monotonic()
        self._next_write = ended + (ended - began) / _WRITING_SHARE

    def write_now(self) -> None:
        """Write every target that can be; the run goes on without one that cannot."""
        self._write(self.targets)

    def _write(self, targets: Sequence[Path]) -> None:
        self.unwritten = None
        written: list[Path] = []
        for target in targets:
            try:
                content = b"".join(document(self.run, self.entries, self.session.entry))
                write_atomically(target, content)
            except OSError as error:
                kept = f"the results are in {written[0]}" if written else "its last state is intact"
                self.unwritten = f"Cannot write {target}: {error.strerror}; {kept}."
            else:
                written.append(target)

    def finish(self) -> list[str]:
        """Write the results for the last time, and the report; the user is told of what is there.

        The report is made in a process of its own: it holds all timelines of a long night at once.
        """
        self.write_now()
        told = [] if self.unwritten else [f"Results written to {self.targets[-1]}"]
        report = Path(self.run.run_dir) / REPORT
        problem = write_apart(self.targets[0], report)
        told.append(f"No report: {problem}" if problem else f"Report written to {report}")
        if not self.is_complete:
            told.append(f"Not at its end; go on with: {self._resuming()}")
        return told

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the run is left to do."""
        ended = len(self.entries) == len(self.run.trials)
        return ended and all(entry.is_complete for entry in self.entries)

    def _resuming(self) -> str:
        words = [program(), self.run.command, "--resume"]
        if Path(self.run.run_dir).parent != runs_dir():
            words += ["--run-dir", self.run.run_dir]
        return shlex.join(words)

    def exit_code(self) -> ExitCode:
        """How the command should end.

        Raises:
            MachineError: when the last results could not be written.
        """
        if self.unwritten:
            raise MachineError(self.unwritten)
        if interrupts.requested or any(entry.was_interrupted for entry in self.entries):
            return ExitCode.INTERRUPTED
        passed = any(entry.record.passed for entry in self.entries)
        return ExitCode.OK if passed else ExitCode.NONE_PASSED


@contextlib.contextmanager
def open_console(*, quiet: bool) -> Iterator[Console]:
    """What the run is told on; quiet, downloads are not told of either."""
    if quiet:
        hub.show_no_progress()
    console = Console(open_screen(quiet=quiet))
    try:
        yield console
    finally:
        console.close()


def plan_trials(
    chosen: Sequence[Model], options: TrainingOptions, device: Device, max_memory: float | None
) -> tuple[Trial, ...]:
    """One trial a model, smallest first, within the budget.

    Raises:
        UsageError: when the options do not fit the machine or one of the models.
    """
    if options.weights is Weights.REAL:
        _check_weights(chosen)
        chosen = [resolve.pinned(model) for model in chosen]
    budget = budget_bytes(device, max_memory)
    facts = probe_models({m.model_name: m.config for m in chosen if not m.is_preset})
    known = [resolve.with_facts(model, facts) for model in chosen]
    return tuple(plan(known, options, budget))


def new_run(
    context: click.Context,
    host: Machine,
    device: Device,
    trials: tuple[Trial, ...],
    search: SearchOptions | None,
) -> Run:
    """The run that the command's options ask for; its folder is made.

    Raises:
        UsageError: when the folder cannot be made, or holds another run.
    """
    asked = context.params
    output: Path | None = asked["output"]
    return Run(
        command=str(context.command.name),
        arguments=given(context),
        machine=host,
        device=device,
        trials=trials,
        search=search,
        deadline=asked["timeout"],
        keep_going=asked.get("keep_going", False),
        started_at=now(),
        run_dir=str(make_run_dir(asked["run_dir"]).absolute()),
        output=None if output is None else str(output.absolute()),
        version=__version__,
    )


@contextlib.contextmanager
def begun(context: click.Context, run: Run, console: Console) -> Iterator[OpenRun]:
    """A new run, whose folder is there; it is this process's until the end.

    Raises:
        UsageError: when the folder holds a run already.
        MachineError: when its journal cannot be written.
    """
    with Journal.open(Path(run.run_dir)) as journal:
        if any(True for _ in journal.records()):
            raise UsageError(
                f"{run.run_dir} holds another run; add --resume to go on with it, or choose "
                "another --run-dir."
            )
        try:
            journal.append(BEGAN, {**here(), "run": to_fields(run)})
        except MachineError as error:
            journal.discard()  # a run that never began is none to go on with
            raise MachineError(str(error).partition(" What was measured")[0]) from error
        yield from _under_way(run, journal, NOTHING, context.params["output"], console)


@contextlib.contextmanager
def resumed(context: click.Context, console: Console) -> Iterator[OpenRun]:
    """The run in ``--run-dir``, or the last one, to go on with what it has not done yet.

    Raises:
        UsageError: when there is none, it is under way or damaged, or it was begun otherwise.
        MachineError: when its journal cannot be written, or MLX does not work.
    """
    folder = context.params["run_dir"] or to_resume(runs_dir(), str(context.command.name))
    if not os.path.isfile(folder / JOURNAL):  # noqa: PTH113 - Path raises where a name is too long
        raise UsageError(f"{folder} holds no run to resume; `your_ai runs` lists those kept.")
    with Journal.open(folder) as journal:
        records = journal.records()
        first = next(records, None)
        if first is None:
            raise UsageError(f"The run in {folder} never began; start it without --resume.")
        begun = first[0].fields.get("run") or first[0].fields["training"]
        if begun["command"] != context.command.name:
            raise UsageError(
                f"The run in {folder} is one of `your_ai {begun['command']}`; go on with it by "
                f"`your_ai {begun['command']} --resume --run-dir {folder}`."
            )
        run = replace(from_fields(begun), run_dir=str(folder.absolute()))
        past = past_of(records)
        check_same(run, given(context), from_probe(probe_device(), describe()), __version__)
        output = context.params["output"] or run.output
        if output is not None:
            check_writable(Path(output))
        make_logs_dir(folder)
        journal.append(RESUMED, here())
        yield from _under_way(run, journal, past, output, console)


def _under_way(
    run: Run, journal: Journal, past: Past, output: Path | str | None, console: Console
) -> Iterator[OpenRun]:
    targets = [Path(run.run_dir) / RESULTS, *([Path(output)] if output else [])]
    opened = OpenRun(run, Session(run, journal, past, console.hear), len(past.ended), targets)
    with kept_awake(), interrupts.deferred():
        try:
            yield opened
        except MachineError:
            opened.write_now()  # what the user finds has all that the journal has
            raise
    journal.append(CLOSED, {"at": now(), "complete": opened.is_complete})


def program() -> str:
    """What to type for your_ai: it need not be on the PATH, as in a checkout."""
    started = Path(sys.argv[0])
    if started.name != "your_ai" or shutil.which("your_ai") == str(started):
        return "your_ai"
    near = started.is_absolute() and started.is_relative_to(Path.cwd())
    return str(started.relative_to(Path.cwd()) if near else started)


def here() -> dict[str, Any]:
    """When, where and by whom a run is begun or gone on with."""
    return {"at": now(), "pid": os.getpid(), "boot": boot_id()}


def _check_weights(chosen: Sequence[Model]) -> None:
    """Refuse, before the first trial, real weights that are known not to be there or whole."""
    for model in chosen:
        if model.path is not None:
            weight_files.check_folder(Path(model.path))
        elif model.model_name.startswith("your_ai/"):
            raise UsageError(
                f"{model.name} exists only as synthesized weights; leave out --weights."
            )
