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
    device.backend = lambda: {backend!r}
"""


def environment_with(
    backend: str, info: Mapping[str, Any], folder: Path, path: str
) -> dict[str, str]:
    """Return the environment in which workers describe a device of this backend by ``info``.

    ``path`` is the PYTHONPATH to add to. Python imports sitecustomize at its start.
    """
    folder.mkdir(exist_ok=True)
    code = _SITECUSTOMIZE.format(backend=backend, info=json.dumps(info))
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{path}"}
