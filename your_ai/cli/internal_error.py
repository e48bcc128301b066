"""Save the traceback of an internal error."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import traceback
from pathlib import Path

from your_ai.runs.run_dir import runs_dir


def save(error: BaseException) -> Path | None:
    """Write the traceback to a new log file; return its path, or ``None`` if that fails."""
    text = "".join(traceback.format_exception(error))
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    # The error may be that the first disk is full.
    for folder in (runs_dir().parent, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / name).write_text(text, errors="replace")
            return folder / name
    return None
