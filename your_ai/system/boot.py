"""An id of the machine's boot, so that a restart is noticed."""

from __future__ import annotations

from pathlib import Path

import psutil

from your_ai.system import macos

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """An id that stays the same until the machine restarts.

    Linux and macOS have one (random(4); ``kern.bootsessionuuid`` of XNU's kern_sysctl.c). Otherwise
    it is the time of the boot to the minute, because clocks are adjusted.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return macos.boot_session() or f"{psutil.boot_time() / 60:.0f}"
