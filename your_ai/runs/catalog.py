"""List the runs saved on this machine, from their journals."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import TypedDict

import msgspec

from your_ai.errors import UsageError
from your_ai.runs import journal
from your_ai.runs.journal import BEGAN, CLOSED, ENDED, JOURNAL, OtherVersionError
from your_ai.runs.run import Argument, Header, read_header
from your_ai.runs.run_dir import RESULTS, files_of_runs, start_order
from your_ai.supervision.outcome import OutcomeKind

_COMPLETE = "complete"
_RUNNING = "running"
_RESUMABLE = ", can be resumed"


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A saved run or training. ``state`` is a text for the user.

    ``header`` is ``None`` if the run was never started. ``done`` is the number of trials that
    ended, ``passed`` the number that passed. ``is_readable`` is false if the journal is damaged or
    of another version.
    """

    folder: Path
    state: str
    header: Header | None = None
    done: int = 0
    passed: int = 0
    is_readable: bool = True

    @property
    def can_resume(self) -> bool:
        """Whether the run is unfinished, nobody has it open, and resuming it may help."""
        return self.state.endswith(_RESUMABLE)

    @property
    def is_running(self) -> bool:
        """Whether a process has the run open."""
        return self.state == _RUNNING

    @property
    def order(self) -> tuple[bool, tuple[int, str, str]]:
        """Sort key: larger for a later run, least if it was never started or is unreadable."""
        if self.header is None:
            return False, (0, "", self.folder.name)
        return True, start_order(self.folder, self.header.started_at)


def saved_runs(runs: Path) -> list[SavedRun]:
    """Return all runs in the folder ``runs``, newest first; unreadable ones come last.

    Raises:
        UsageError: if the folder cannot be read.
    """
    found = map(_saved, files_of_runs(runs, JOURNAL))
    return sorted(found, key=lambda run: run.order, reverse=True)


def newest_to_resume(runs: Path, command: str) -> Path:
    """Return the folder of the newest unfinished run of ``command``.

    Runs that are under way in another process are skipped, and those that were never started or
    cannot be read, such as those of another version, and trainings that would fail again. If there
    is no other, return the newest: resuming it shows its results or its error again, or says that
    it is still running.

    Raises:
        UsageError: if there is none, or ``runs`` cannot be read.
    """
    saved = saved_runs(runs)
    readable = [run for run in saved if run.is_readable]
    found = [run for run in readable if run.header and run.header.command == command]
    if not found:
        unreadable = len(saved) - len(readable)
        hint = f" ({unreadable} unreadable; see `your_ai runs`)" if unreadable else ""
        raise UsageError(
            f"No run of `your_ai {command}` found in {runs}{hint}. Pass the folder of a run with "
            "--run-dir."
        )
    return next((run for run in found if run.can_resume), found[0]).folder


def newest_results(runs: Path, *, settled: bool = False) -> Path:
    """Return the folder of the newest run that has results, even if it is still running.

    Raises:
        UsageError: if there is none, ``runs`` cannot be read or, if ``settled``, the run is still
            running.
    """
    # Runs of an older version come last: their results can still be read.
    for run in saved_runs(runs):
        if (run.folder / RESULTS).exists() or (run.done and run.is_readable):
            if settled and run.is_running:
                raise UsageError(
                    f"The last run, in {run.folder}, is still running. Wait for it to end, or pass "
                    "other results with --from."
                )
            return run.folder
    raise UsageError("No results found. Run `your_ai benchmark` first, or pass a results file.")


def run_text(run: SavedRun) -> str:
    """Describe a run in two lines, or in one if it cannot be read."""
    if run.header is None:
        return f"{run.folder}: {run.state}"
    header = run.header
    command = " ".join([header.command, *starmap(_as_typed, header.arguments.items())])
    figures = f" ({run.done} done, {run.passed} passed)" if header.command != "train" else ""
    return f"{header.started_at}  {command}: {run.state}{figures}\n    {run.folder}"


def _as_typed(option: str, value: Argument) -> str:
    """Return an option as it is typed on the command line."""
    if isinstance(value, bool):
        return option if value else option.replace("--", "--no-", 1)
    if isinstance(value, tuple):
        return " ".join(_as_typed(option, each) for each in value)
    return shlex.quote(value) if option == "MODEL" else f"{option} {shlex.quote(value)}"


def _saved(path: Path) -> SavedRun:
    header: Header | None = None
    outcomes: dict[str, str] = {}
    state, is_readable = "never started", True
    try:
        for record in journal.read(path):
            if record.kind == BEGAN:
                header = read_header(record.fields, Header)
            elif record.kind == ENDED:
                ended = _ended(record)
                outcomes[ended["trial"]] = ended["result"]["outcome"]
            state = _state(record)
        if journal.is_open(path):
            state = _RUNNING
    except (UsageError, OSError) as error:
        state, is_readable = str(error), False
    passed = sum(outcome == OutcomeKind.PASS for outcome in outcomes.values())
    interrupted = sum(outcome == OutcomeKind.INTERRUPTED for outcome in outcomes.values())
    done = len(outcomes) - interrupted
    return SavedRun(path.parent, state, header, done, passed, is_readable)


class _Result(TypedDict):
    outcome: str


class _Ended(TypedDict):
    trial: str
    result: _Result


def _ended(record: journal.Record) -> _Ended:
    """Return the part of a trial's record that matters here."""
    try:
        return msgspec.convert(record.fields, _Ended)
    except msgspec.ValidationError as error:
        raise OtherVersionError from error


def _state(last: journal.Record) -> str:
    if last.kind != CLOSED:
        return f"ended unexpectedly{_RESUMABLE}"
    if last.fields.get("complete"):
        return _COMPLETE
    outcome = last.fields.get("outcome", OutcomeKind.INTERRUPTED)  # only trainings have one
    return f"{outcome}{_RESUMABLE if last.fields.get('can_resume', True) else ''}"
