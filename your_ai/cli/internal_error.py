"""Where the traceback of an internal error is kept."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from pathlib import Path

from your_ai.runs.run_dir import runs_dir


def save(error: BaseException) -> Path:
    """Write the error's traceback to a log of its own; the log's path."""
    text = "".join(traceback.format_exception(error))
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        folder = runs_dir().parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = folder / name
        log.write_text(text, errors="replace")
    except OSError:  # a full disk may be what went wrong
        log = Path(tempfile.gettempdir()) / name
        log.write_text(text, errors="replace")
    return log
