"""The folder of a run, with its logs and results."""

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


def make_run_dir(run_dir: Path | None) -> Path:
    """Create the folder of a run, private to the user, and return its path.

    Without ``run_dir`` it is a new folder in `runs_dir`.

    Raises:
        UsageError: if it already contains a run or other files, or cannot be created.
        MachineError: if the disk is full.
    """
    path = run_dir if run_dir is not None else _default()
    # os.path, because Path raises if the name is too long. That is reported below.
    if os.path.exists(path / JOURNAL):  # noqa: PTH110
        refuse_open(path)
    if os.path.exists(path / RESULTS):  # noqa: PTH110
        can_resume = (path / JOURNAL).exists()
        remedy = "Add --resume to continue it, or choose" if can_resume else "Choose"
        raise UsageError(
            f"{path} contains the results of another run. {remedy} a different --run-dir."
        )
    try:
        if path.is_dir() and any(each.name not in (JOURNAL, _LOGS) for each in path.iterdir()):
            raise UsageError(f"{path} contains other files. Choose a different --run-dir.")
        # A new folder is private; an existing one keeps its permissions.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_logs_dir(path)
    except OSError as error:
        problem = f"Cannot create the run's folder {path}: {error.strerror}."
        kind = MachineError if error.errno in (errno.ENOSPC, errno.EDQUOT) else UsageError
        raise kind(f"{problem} Choose a different --run-dir.") from error
    return path


def make_logs_dir(run_dir: Path) -> None:
    """Create the folder for a run's logs if it is missing."""
    (run_dir / _LOGS).mkdir(mode=0o700, exist_ok=True)


def log_path(run_dir: str, name: str) -> Path:
    """Return the path of the run's log called ``name``."""
    return Path(run_dir) / _LOGS / name


def runs_dir() -> Path:
    """Return the folder in the user's state directory for runs without --run-dir."""
    import platformdirs

    return platformdirs.user_state_path("your_ai", appauthor=False) / "runs"


def _default() -> Path:
    return runs_dir() / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
