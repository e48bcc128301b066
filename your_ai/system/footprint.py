"""What the operating system charges a process for memory, by the best figure that it offers."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from your_ai.system import macos

# On macOS the resident size misses Metal buffers and compressed pages.
FOOTPRINT_SOURCE: Final = "phys_footprint" if sys.platform == "darwin" else "rss"

# proc_pid_status(5): the resident size and its maximum, in kB of 1024 bytes. A zombie has neither.
_SIZES = re.compile(r"^(VmRSS|VmHWM):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process is charged now, and the most so far, in bytes."""

    current_bytes: int
    lifetime_max_bytes: int


def footprint(pid: int) -> Footprint | None:
    """The footprint of a process; ``None`` when it is gone, a zombie, or hidden from us."""
    try:
        sizes = (
            macos.phys_footprint(pid)
            if sys.platform == "darwin"
            else parse_status(Path(f"/proc/{pid}/status").read_text(errors="replace"))
        )
    except OSError:
        return None
    if sizes is None:
        return None
    current, largest = sizes
    # The kernels' maximum may lag behind: it is updated in batches, or read a moment earlier.
    return Footprint(current, max(current, largest))


def parse_status(status: str) -> tuple[int, int] | None:
    """The resident size and its maximum, in bytes, from a Linux /proc/<pid>/status."""
    sizes = {name: int(count) * 1024 for name, count in _SIZES.findall(status)}
    current = sizes.get("VmRSS")
    return None if current is None else (current, sizes.get("VmHWM", current))
