"""Read a process's footprint: the memory that the operating system charges it for."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from your_ai.system import macos

# On macOS the resident size does not include Metal buffers and compressed pages.
FOOTPRINT_SOURCE: Final = "phys_footprint" if sys.platform == "darwin" else "rss"

# proc_pid_status(5): the resident size and its maximum, in kB of 1024 bytes. A zombie has neither.
_SIZES = re.compile(r"^(VmRSS|VmHWM):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Footprint:
    """A process's current footprint and its maximum so far, in bytes."""

    current_bytes: int
    lifetime_max_bytes: int


def footprint(pid: int) -> Footprint | None:
    """Return the footprint of a process; ``None`` if it is gone, a zombie, or inaccessible."""
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
    # The kernel's maximum may lag behind: it is updated in batches, or read a moment earlier.
    return Footprint(current, max(current, largest))


def parse_status(status: str) -> tuple[int, int] | None:
    """Return the resident size and its maximum, in bytes, from the text of /proc/<pid>/status."""
    sizes = {name: int(count) * 1024 for name, count in _SIZES.findall(status)}
    current = sizes.get("VmRSS")
    return None if current is None else (current, sizes.get("VmHWM", current))
