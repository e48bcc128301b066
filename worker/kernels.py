"""The kernels that MLX compiles at their first use, which on CUDA can take minutes.

MLX saves each of them in a file as soon as it is compiled (ptx_cache_dir in MLX's
backend/cuda/jit_module.cpp, and backend/cpu/jit_compiler.cpp). Metal keeps its own cache.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from worker.device import MLX_VERSION

_CACHE = Path(tempfile.gettempdir()) / "mlx" / MLX_VERSION
_FOLDERS = (Path(os.environ.get("MLX_PTX_CACHE_DIR", _CACHE / "ptx")), _CACHE / "cpu")


def last_compiled() -> float:
    """Return when MLX last saved a kernel, as `time.time` gives it; 0 if never.

    A file that is added to a folder changes the folder's time.
    """
    return max(map(_changed, _FOLDERS))


class Stopwatch:
    """Measures the duration of a step from its creation."""

    def __init__(self) -> None:
        self._compiled = last_compiled()
        self._began, self._began_at = time.perf_counter(), time.time()

    def seconds(self) -> tuple[float, float]:
        """Return the seconds so far, and those of them until the last kernel was compiled."""
        seconds, compiled = time.perf_counter() - self._began, last_compiled()
        if compiled == self._compiled:  # it may be in the future, if the clock was set back
            return seconds, 0.0
        return seconds, min(seconds, max(0.0, compiled - self._began_at))


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
