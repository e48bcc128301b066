"""A folder without permission to read it, for root too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_NOBODY = 65534


@contextlib.contextmanager
def unreadable(folder: Path) -> Iterator[None]:
    """Take away the permission to read ``folder``; root, who keeps it, becomes another user."""
    is_root = os.getuid() == 0
    folder.chmod(0)
    if is_root:
        os.setresuid(_NOBODY, _NOBODY, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
        folder.chmod(0o700)
