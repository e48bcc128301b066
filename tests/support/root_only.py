"""Skips tests that require root, except in CI, where skipping them would go unnoticed."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import pytest


def skip(reason: str) -> NoReturn:
    """Skip the test. On Linux with ``CI`` set, fail it: there sudo runs tests marked ``root``."""
    if sys.platform == "linux" and os.environ.get("CI"):
        pytest.fail(f"{reason}; in CI, mark this test as root so that sudo runs it", pytrace=False)
    pytest.skip(reason)
