"""Small real file systems for tests with a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import root_only


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """Mount a new tmpfs at ``folder`` with options such as ``size=64k``, or skip the test."""
    if sys.platform != "linux" or os.geteuid() != 0:
        root_only.skip("only root on Linux can mount a small file system")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        root_only.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
