"""Real small file systems for tests: one that is soon full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import root


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A new file system at ``folder``, such as ``size=64k``; skips where none can be made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        root.skip("only root on Linux can mount a small file system")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        root.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
