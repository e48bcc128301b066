"""Which start of the machine this is, so that a restart in between is noticed."""

from __future__ import annotations

from pathlib import Path

import psutil

from your_ai.system import macos

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The same until the machine restarts, another afterwards.

    Linux and macOS name each boot (random(4); ``kern.bootsessionuuid`` of XNU's kern_sysctl.c).
    Elsewhere it is the time of the boot to the minute, since clocks are set now and then.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return macos.boot_session() or f"{psutil.boot_time() / 60:.0f}"
