"""The runs kept on this machine: what their journals say of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

from your_ai.errors import UsageError
from your_ai.runs import journal
from your_ai.runs.journal import JOURNAL
from your_ai.runs.resume import BEGAN, CLOSED, ENDED
from your_ai.runs.run_dir import RESULTS
from your_ai.supervision.outcome import OutcomeKind

_COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run was started with."""

    command: str
    arguments: dict[str, str]
    started_at: str


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. ``state`` is for people to read; ``asked`` is ``None`` where it cannot be read.

    ``ended`` says that nothing of it is left to do. ``done`` counts the trials that ended,
    ``passed`` those of them that passed.
    """

    folder: Path
    state: str
    asked: Asked | None
    ended: bool
    done: int
    passed: int


def summaries(runs: Path) -> Iterator[Summary]:
    """Every run in the folder ``runs``, newest first: a run's folder is named for when it began."""
    for path in sorted(runs.glob(f"*/{JOURNAL}"), reverse=True):
        yield _summary(path)


def to_resume(runs: Path, command: str) -> Path:
    """The folder of the newest run of that command which did not come to its end.

    Where all did it is the newest of them: to resume it is to see its results again. One that never
    began, or cannot be read, is only taken where there is no other.

    Raises:
        UsageError: when there is none.
    """
    newest = unreadable = None
    for summary in summaries(runs):
        if summary.asked is None:
            unreadable = unreadable or summary.folder
        elif summary.asked.command == command:
            newest = newest or summary.folder
            if not summary.ended:
                return summary.folder
    found = newest or unreadable
    if found is None:
        raise UsageError(
            f"There is no run of `your_ai {command}` in {runs}; give the --run-dir of one."
        )
    return found


def newest_results(runs: Path) -> Path:
    """The folder of the newest run that has results.

    Raises:
        UsageError: when there is none.
    """
    newest = max(runs.glob(f"*/{RESULTS}"), default=None)
    if newest is None:
        raise UsageError("There are no results yet: run `your_ai benchmark`, or name a file.")
    return newest.parent


def summary_text(summary: Summary) -> str:
    """Two lines for people to read."""
    if summary.asked is None:
        return f"{summary.folder.name}: {summary.state}\n    {summary.folder}"
    run = summary.asked
    asked = " ".join([run.command, *starmap(_typed, run.arguments.items())])
    figures = f" ({summary.done} done, {summary.passed} passed)" if run.command != "train" else ""
    return f"{run.started_at}  {asked}: {summary.state}{figures}\n    {summary.folder}"


def _typed(option: str, value: str) -> str:
    """An option as one types it."""
    if value in ("on", "off"):
        return option if value == "on" else option.replace("--", "--no-", 1)
    if option == "--model":
        return " ".join(f"{option} {shlex.quote(name)}" for name in value.split(","))
    return shlex.quote(value) if option == "MODEL" else f"{option} {shlex.quote(value)}"


def _asked(fields: Mapping[str, Any]) -> Asked:
    begun = fields.get("run") or fields["training"]
    return Asked(begun["command"], begun["arguments"], begun["started_at"])


def _closed(fields: Mapping[str, Any]) -> str:
    if fields["complete"]:
        return _COMPLETE
    outcome = fields.get("outcome", OutcomeKind.INTERRUPTED)  # only a training's has one
    return f"{'interrupted' if outcome == OutcomeKind.INTERRUPTED else outcome}, can be resumed"


def _summary(path: Path) -> Summary:
    asked: Asked | None = None
    kinds: dict[str, str] = {}
    state = "never began"
    try:
        for record in journal.read(path):
            state = "ended unexpectedly, can be resumed"
            if record.kind == BEGAN:
                asked = _asked(record.fields)
            elif record.kind == ENDED:
                kinds[record.fields["trial"]] = record.fields["entry"]["outcome"]
            elif record.kind == CLOSED:
                state = _closed(record.fields)
        if journal.is_open(path):
            state = "under way"
    except (UsageError, OSError, KeyError) as error:
        state = str(error)
    passed = sum(kind == OutcomeKind.PASS for kind in kinds.values())
    done = len(kinds) - sum(kind == OutcomeKind.INTERRUPTED for kind in kinds.values())
    return Summary(path.parent, state, asked, state == _COMPLETE, done, passed)
