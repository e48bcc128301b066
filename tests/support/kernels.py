"""MLX's compiled kernels for the CPU: each process of pytest has its own, and they exchange them.

MLX keeps them in the temporary folder, and loads one that another process is still writing.
Compiling one takes half a second.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

FOLDER = Path(tempfile.gettempdir()) / f"your_ai-tests-{os.getuid()}"
"""Where each process has its temporary folder, from one run of pytest to the next."""

SHARED = FOLDER / "kernels"

SETTLED_SECONDS = 2.0
"""A kernel this old is whole: none takes longer to write."""


def separate() -> None:
    """Give this process a temporary folder of its own."""
    folder = FOLDER / os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def give(settled_seconds: float = SETTLED_SECONDS) -> None:
    """Let the other processes have ours, if they are at least that old."""
    _link(_own(), SHARED, settled_seconds)


def take() -> None:
    """Take what the other processes gave."""
    _link(SHARED, _own(), 0)


def _own() -> Path:
    return Path(tempfile.gettempdir()) / "mlx"


def _link(source: Path, target: Path, settled_seconds: float) -> None:
    for kernel in source.glob("*/cpu/*.so"):
        link = target / kernel.relative_to(source)
        if not link.exists() and time.time() - kernel.stat().st_mtime >= settled_seconds:
            link.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # another process was first
                link.hardlink_to(kernel)
