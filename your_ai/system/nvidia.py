"""Query NVIDIA GPUs with nvidia-smi. If it is missing or fails, all functions return ``None``."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from your_ai.units import MB

# Loading the driver takes a second or two if no other program keeps it loaded.
TIMEOUT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """A GPU's own memory, in bytes; ``free_bytes`` is used by no program."""

    total_bytes: int
    free_bytes: int


def query(fields: str, *options: str) -> list[str] | None:
    """Return one line per GPU with the values of ``fields``, separated by ", ".

    ``fields`` are names from `nvidia-smi --help-query-gpu`, separated by commas. Sizes are in MiB.
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
    """Return the memory of the first visible GPU, which MLX uses.

    ``None`` also if the GPU shares the machine's memory; nvidia-smi then prints "[N/A]".
    """
    # An index or a UUID; nvidia-smi accepts both.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    match (query("memory.total,memory.free", f"--id={first or 0}") or [""])[0].split(", "):
        case [total, free] if total.isdecimal() and free.isdecimal():
            return GpuMemory(int(total) * MB, int(free) * MB)
    return None
