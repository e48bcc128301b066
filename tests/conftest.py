"""What holds for every test, also where two run at a time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if _WORKER is not None:
    # MLX keeps the kernels that it compiles for the CPU in the temporary folder, and takes one that
    # another process is still writing for a whole one.
    _FOLDER = Path(tempfile.gettempdir()) / f"your_ai-tests-{_WORKER}"
    _FOLDER.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(_FOLDER)
    tempfile.tempdir = None
