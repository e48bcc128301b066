"""The configs of the test matrix."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("configs.json")


@cache
def all_configs() -> dict[str, dict[str, Any]]:
    """Return every ``config.json``, by the name of mlx-lm's module, or that and a variant."""
    configs: dict[str, dict[str, Any]] = json.loads(FILE.read_bytes())
    return configs
