"""NVIDIA GPUs as nvidia-smi reports them; without it every call returns ``None``."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from your_ai.units import MB

# Loading the driver takes a second or two, unless another program keeps it loaded.
TIMEOUT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """A GPU's own memory, in bytes; ``free_bytes`` is what no program holds."""

    total_bytes: int
    free_bytes: int


def query(fields: str, *options: str) -> list[str] | None:
    """One line per GPU with its ``fields``, separated by ", "; sizes are in MiB.

    ``fields`` are names from `nvidia-smi --help-query-gpu`, separated by commas.
    """
    try:
        done = subprocess.run(
            ["nvidia-smi", *options, f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()


def memory() -> GpuMemory | None:
    """The memory of the first visible GPU, which MLX uses.

    ``None`` also when the GPU shares the machine's memory: nvidia-smi then says "[N/A]".
    """
    # An index or a UUID; nvidia-smi accepts both.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    match (query("memory.total,memory.free", f"--id={first or 0}") or [""])[0].split(", "):
        case [total, free] if total.isdecimal() and free.isdecimal():
            return GpuMemory(int(total) * MB, int(free) * MB)
    return None
