"""What nvidia-smi says of NVIDIA's GPUs; where there is none, every call answers None."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from your_ai.units import MB

# Where no program keeps the driver loaded, it takes a second or two to be.
TIMEOUT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """A GPU's own memory, in bytes; ``free_bytes`` is what no program holds."""

    total_bytes: int
    free_bytes: int


def query(fields: str, *options: str, timeout: float = TIMEOUT_SECONDS) -> list[str] | None:
    """One line for each GPU, its ``fields`` with ", " between them; sizes are in MiB.

    Args:
        fields: Names as `nvidia-smi --help-query-gpu` has them, with commas between them.
        options: More of its options.
        timeout: For how many seconds the answer is waited for.
    """
    try:
        done = subprocess.run(
            ["nvidia-smi", *options, f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()


def memory() -> GpuMemory | None:
    """The memory of the first GPU that CUDA is shown, which is MLX's own choice.

    None also where a GPU shares the machine's: nvidia-smi then says "[N/A]".
    """
    # An index or a UUID, and nvidia-smi takes either.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    match (query("memory.total,memory.free", f"--id={first or 0}") or [""])[0].split(", "):
        case [total, free] if total.isdecimal() and free.isdecimal():
            return GpuMemory(int(total) * MB, int(free) * MB)
    return None
