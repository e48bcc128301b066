"""Where a run keeps its logs and results."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from your_ai.errors import MachineError, UsageError
from your_ai.runs.journal import JOURNAL, refuse_open

RESULTS = "results.json"
REPORT = "report.html"
TRAINING = "training.json"
_LOGS = "logs"


def make_run_dir(asked: Path | None) -> Path:
    """A folder for one run, private to the user: the one asked for, or a new one in their state.

    Raises:
        UsageError: when it holds a run or anything else already, or cannot be made.
        MachineError: when the disk is full.
    """
    path = asked if asked is not None else _default()
    # os.path, because Path raises where a name is too long; below that is said in one line.
    if os.path.exists(path / JOURNAL):  # noqa: PTH110
        refuse_open(path)
    if os.path.exists(path / RESULTS):  # noqa: PTH110
        resume = "add --resume to continue it, or " if (path / JOURNAL).exists() else ""
        raise UsageError(
            f"{path} holds the results of another run; {resume}choose another --run-dir."
        )
    try:
        if path.is_dir() and any(each.name not in (JOURNAL, _LOGS) for each in path.iterdir()):
            raise UsageError(f"{path} holds other files; choose a new folder for --run-dir.")
        # The user's alone; a folder that was there already keeps the rights that they gave it.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_logs_dir(path)
    except OSError as error:
        problem = f"Cannot make the run directory {path}: {error.strerror}; choose another"
        kind = MachineError if error.errno in (errno.ENOSPC, errno.EDQUOT) else UsageError
        raise kind(f"{problem} --run-dir.") from error
    return path


def make_logs_dir(run_dir: Path) -> None:
    """Make the folder of a run's logs, unless it is there."""
    (run_dir / _LOGS).mkdir(mode=0o700, exist_ok=True)


def log_path(run_dir: str, name: str) -> Path:
    """Where a run keeps the log of that name."""
    return Path(run_dir) / _LOGS / name


def runs_dir() -> Path:
    """The folder in the user's state that holds all runs for which they named no other."""
    import platformdirs

    return platformdirs.user_state_path("your_ai", appauthor=False) / "runs"


def _default() -> Path:
    return runs_dir() / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
