"""Load results from a file or a run's folder, and write them during a run."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from your_ai.errors import UsageError
from your_ai.files import is_special, write_atomically
from your_ai.runs import journal, results
from your_ai.runs.assembly import assemble
from your_ai.runs.journal import JOURNAL
from your_ai.runs.results import Results
from your_ai.runs.resume import history_of
from your_ai.runs.run import Header, Run, read_header
from your_ai.runs.run_dir import RESULTS, TRAINING

WRITE_SECONDS = 10.0
"""Minimum time between two writes during a run. The journal always has all results."""


def load(path: Path) -> Results:
    """Load the results from a file or a run's folder.

    If the run's journal is newer than its results file, the results are rebuilt from the journal.

    Raises:
        UsageError: if there are none, or they cannot be read.
    """
    is_folder = os.path.isdir(path)  # noqa: PTH112 - Path raises if a name is too long
    file = path / RESULTS if is_folder else path
    rebuilt = _rebuilt(file) if file.name == RESULTS else None
    if rebuilt is not None:
        return rebuilt
    try:
        content = file.read_bytes()
    except OSError as error:
        if is_folder and (path / TRAINING).exists():
            problem = f"{path} contains a training, which has no benchmark results"
        else:
            problem = f"Cannot read {file}: {error.strerror}"
        raise UsageError(f"{problem}. `your_ai runs` lists saved runs.") from error
    return results.read(content, str(path))


def _rebuilt(file: Path) -> Results | None:
    """Return the results rebuilt from the journal next to ``file``.

    ``None`` if the results file is up to date, or there is no usable journal.
    """
    path = file.parent / JOURNAL
    try:
        if file.exists() and file.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            return None
        records = list(journal.read(path))
        if read_header(records[0].fields, Header).command == "train":
            return None
        run = replace(read_header(records[0].fields, Run), run_dir=str(file.parent.absolute()))
        ended = history_of(records).ended
    except UsageError:  # the journal is damaged, or of another version
        if file.exists():
            return None
        raise
    except (OSError, IndexError):
        return None
    return assemble(run, ended.values()) if ended else None


class ResultsWriter:
    """Writes a run's results to files; if one cannot be written, the run continues.

    ``problem`` is a one-line error if the last write of a target failed.
    """

    def __init__(self, targets: Sequence[Path]) -> None:
        self.targets = targets
        self.problem: str | None = None
        self._last = -WRITE_SECONDS

    def is_due(self) -> bool:
        """Return whether the last write was long enough ago for another one."""
        return time.monotonic() >= self._last + WRITE_SECONDS

    def write(self, found: Results, *, final: bool = False) -> None:
        """Write all targets; devices and pipes only at the ``final`` write."""
        self._last = time.monotonic()
        self.problem = None
        written: list[Path] = []
        content = results.write(found)
        for target in self.targets:
            if is_special(target) and not final:
                continue
            try:
                write_atomically(target, content)
            except OSError as error:
                kept = f"The results are in {written[0]}" if written else "The file is unchanged"
                self.problem = f"Cannot write {target}: {error.strerror}. {kept}."
            else:
                written.append(target)
