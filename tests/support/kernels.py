"""Shares MLX's compiled CPU kernels between pytest's processes.

MLX compiles kernels into the temporary folder, half a second each. It may load a kernel that
another process is still writing, so each process has its own folder and publishes complete kernels
in a shared one.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

FOLDER = Path(tempfile.gettempdir()) / f"your_ai-tests-{os.getuid()}"
"""The temporary folders of all test processes. They are kept for the next run of pytest."""

SHARED = FOLDER / "kernels"

SETTLED_SECONDS = 2.0
"""A kernel of at least this age is complete."""


def isolate() -> None:
    """Give this process its own temporary folder."""
    folder = FOLDER / os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def publish(settled_seconds: float = SETTLED_SECONDS) -> None:
    """Share this process's kernels that are at least ``settled_seconds`` old."""
    _link(_own(), SHARED, settled_seconds)


def fetch() -> None:
    """Add the kernels that other processes have published."""
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
