"""What takes root on Linux, and may not be skipped unseen where CI tests the project."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import pytest


def skip(why: str) -> NoReturn:
    """Skip the test; on Linux with ``CI`` set, fail it. There sudo runs those marked ``root``."""
    if sys.platform == "linux" and os.environ.get("CI"):
        pytest.fail(
            f"{why}; in CI nothing may skip this: sudo runs what is marked root", pytrace=False
        )
    pytest.skip(why)
