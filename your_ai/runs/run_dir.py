"""The folder of a run, with its logs and results."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from worker import durable
from your_ai.errors import MachineError, UsageError
from your_ai.runs.journal import JOURNAL, refuse_open

RESULTS = "results.json"
REPORT = "report.html"
TRAINING = "training.json"
_LOGS = "logs"


def choose_run_dir(run_dir: Path | None) -> Path:
    """Return the absolute path of the folder for a new run; it need not exist.

    Without ``run_dir`` it is a new name in `runs_dir`.

    Raises:
        UsageError: if it already contains a run or other files, or cannot be read.
    """
    path = (run_dir if run_dir is not None else _default()).absolute()
    # os.path, because Path raises if the name is too long. That is reported below.
    if os.path.exists(path / JOURNAL):  # noqa: PTH110
        refuse_open(path)
    if os.path.exists(path / RESULTS):  # noqa: PTH110
        can_resume = (path / JOURNAL).exists()
        remedy = "Add --resume to continue it, or choose" if can_resume else "Choose"
        raise UsageError(
            f"{path} contains the results of another run. {remedy} a different --run-dir."
        )
    with _errors(path):
        if path.is_dir() and any(each.name not in (JOURNAL, _LOGS) for each in path.iterdir()):
            raise UsageError(f"{path} contains other files. Choose a different --run-dir.")
    return path


def make_run_dir(path: Path) -> list[Path]:
    """Create the folder of a run, private to the user; return the folders that were created.

    An existing folder keeps its permissions.

    Raises:
        UsageError: if it cannot be created.
        MachineError: if the disk is full.
    """
    with _errors(path):
        created = durable.make_folder(path, mode=0o700)
        try:
            return created + durable.make_folder(path / _LOGS, mode=0o700)
        except OSError:
            durable.remove_empty(created)
            raise


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = f"Cannot create the run's folder {path}: {error.strerror}."
        kind = MachineError if error.errno in (errno.ENOSPC, errno.EDQUOT) else UsageError
        raise kind(f"{problem} Choose a different --run-dir.") from error


def make_logs_dir(run_dir: Path) -> None:
    """Create the folder for a run's logs if it is missing. Trials can continue without logs."""
    with contextlib.suppress(OSError):
        (run_dir / _LOGS).mkdir(mode=0o700, exist_ok=True)


def log_path(run_dir: str, name: str) -> Path:
    """Return the path of the run's log called ``name``."""
    return Path(run_dir) / _LOGS / name


def runs_dir() -> Path:
    """Return the folder in the user's state directory for runs without --run-dir."""
    import platformdirs

    return platformdirs.user_state_path("your_ai", appauthor=False) / "runs"


def files_of_runs(runs: Path, name: str) -> list[Path]:
    """Return the files called ``name`` of all runs in the folder ``runs``, which may be missing.

    Raises:
        UsageError: if the folder cannot be read.
    """
    try:
        files = [folder / name for folder in runs.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(
            f"Cannot read the runs in {runs}: {error.strerror}. Make it a folder that you can read."
        ) from error
    return [file for file in files if os.path.exists(file)]  # noqa: PTH110 - Path may raise


def run_number(folder: Path) -> int:
    """Return the number in the name of a run's folder, 0 if it has none.

    Runs are numbered in the order in which they were started, because clocks may be set back.
    """
    name = re.fullmatch(r"(\d+)-\d{8}-\d{6}Z-\d+", folder.name)
    return int(name[1]) if name else 0


def start_order(folder: Path, started_at: str) -> tuple[int, str, str]:
    """Return a sort key for the run in ``folder``: the later a run was started, the larger.

    The clock may have been set back between two runs, so the numbers of their folders decide.
    Older versions did not number folders; of these, the times decide.
    """
    return run_number(folder), started_at, folder.name


def _default() -> Path:
    """Return a new name: the run's number, the time in UTC, and this process."""
    runs = runs_dir()
    with _errors(runs):
        number = 1 + max(map(run_number, runs.iterdir()), default=0) if runs.is_dir() else 1
    return runs / f"{number:04d}-{time.strftime('%Y%m%d-%H%M%SZ', time.gmtime())}-{os.getpid()}"
