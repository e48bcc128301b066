"""The command that the user runs to continue a run."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from your_ai.runs.run import Header
from your_ai.runs.run_dir import run_number, runs_dir


def resume_command(run: Header) -> str:
    """The command that continues a run or a training."""
    words = [_program(), run.command, "--resume"]
    folder = Path(run.run_dir)
    # A run without a number is not known to be the newest one.
    if folder.parent != runs_dir() or not run_number(folder):
        words += ["--run-dir", run.run_dir]
    return shlex.join(words)


def _program() -> str:
    """How to start your_ai: by its path if it is not on PATH, as in a checkout."""
    started = Path(sys.argv[0])
    if started.name != "your_ai" or shutil.which("your_ai") == str(started):
        return "your_ai"
    near = started.is_absolute() and started.is_relative_to(Path.cwd())
    return str(started.relative_to(Path.cwd()) if near else started)
