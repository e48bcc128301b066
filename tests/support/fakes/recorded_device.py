"""Makes MLX in workers describe a device that this machine does not have; it trains on the CPU."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SITECUSTOMIZE = """
import sys

if "worker" in sys.orig_argv:
    import json
    import mlx.core as mx
    from worker import device

    mx.device_info = lambda *_: json.loads({info!r})
    device._backend = lambda: "metal"
"""


def as_metal(folder: Path, info: Mapping[str, Any], path: str) -> dict[str, str]:
    """Return the environment in which workers describe a Metal device by ``info``.

    ``path`` is the PYTHONPATH to add to. Python imports sitecustomize at its start.
    """
    folder.mkdir()
    code = _SITECUSTOMIZE.format(info=json.dumps(info))
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{path}"}
