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
    user = os.geteuid()
    folder.chmod(0)
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o700)
