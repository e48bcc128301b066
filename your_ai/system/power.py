"""How the machine is powered, and how long its CPU was slowed down. Unknown facts are ``None``."""

from __future__ import annotations

import contextlib
import re
import sys
from enum import StrEnum
from pathlib import Path

from your_ai.system.tools import output_of

TIMEOUT_SECONDS = 2.0
_SYS = Path("/sys")


class PowerSource(StrEnum):
    """Where the machine takes its power from."""

    MAINS = "mains"
    BATTERY = "battery"


_PMSET_SOURCES = {"AC Power": PowerSource.MAINS, "Battery Power": PowerSource.BATTERY}


def source(root: Path = _SYS) -> PowerSource | None:
    """Return the power source, from `pmset` on macOS and from ``root`` (sysfs) on Linux."""
    if sys.platform == "darwin":
        said = output_of("pmset", "-g", "batt", seconds=TIMEOUT_SECONDS) or ""
        found = re.search(r"Now drawing from '(.*)'", said)
        return _PMSET_SOURCES.get(found[1]) if found else None
    return _linux_source(root / "class/power_supply")


def is_low(root: Path = _SYS) -> bool | None:
    """Return whether the machine saves power at the cost of speed.

    Macs that also have a high power mode call the setting powermode: 0 automatic, 1 low, 2 high.
    On Linux it is the profile of the firmware (Documentation/ABI/testing/sysfs-platform_profile).
    """
    if sys.platform == "darwin":
        said = output_of("pmset", "-g", seconds=TIMEOUT_SECONDS) or ""
        found = re.search(r"^\s*(?:low)?powermode\s+(\d)", said, re.MULTILINE)
        return found[1] == "1" if found else None
    profile = _text(root / "firmware/acpi/platform_profile")
    return None if profile is None else profile == "low-power"


def cpu_slowed_seconds(root: Path = _SYS) -> float | None:
    """Return how long heat has slowed the CPU since the boot, in seconds: of all cores the longest.

    Only Linux counts it, and only for Intel (Documentation/admin-guide/thermal).
    """
    pattern = "cpu*/thermal_throttle/*_throttle_total_time_ms"
    times = [_text(file) or "" for file in (root / "devices/system/cpu").glob(pattern)]
    return max((int(time) / 1000 for time in times if time.isdecimal()), default=None)


def _linux_source(supplies: Path) -> PowerSource | None:
    """Return the power source (Documentation/ABI/testing/sysfs-class-power)."""
    statuses = []
    for supply in supplies.glob("*"):
        if _text(supply / "scope") == "Device":  # the battery of a mouse
            continue
        if _text(supply / "type") == "Battery":
            statuses.append(_text(supply / "status"))
        elif _text(supply / "online") == "1":
            return PowerSource.MAINS
    if "Discharging" in statuses:
        return PowerSource.BATTERY
    is_fed = any(status in ("Charging", "Full", "Not charging") for status in statuses)
    return PowerSource.MAINS if is_fed else None


def _text(file: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return file.read_text(encoding="ascii").strip()
    return None
