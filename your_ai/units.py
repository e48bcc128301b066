"""Format sizes and times for people. 1 GB is 2^30 bytes, so a "36 GB" Mac has 36.00 GB."""

from __future__ import annotations

import re
from datetime import UTC, datetime

MB = 2**20
GB = 2**30

_PARAMETER_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def to_gb(nbytes: int) -> float:
    """Convert bytes to GB; exact below 8 PB."""
    return nbytes / GB


def show_size(nbytes: int) -> str:
    """Format bytes as ``12.4 GB``, or in MB below 1 GB."""
    return f"{nbytes / GB:.1f} GB" if nbytes >= GB else f"{nbytes / MB:.1f} MB"


def parameter_label(parameters: int) -> str:
    """Format a number of parameters as a size label: ``8B``, ``1.5B``, ``350M``."""
    for unit, size in reversed(_PARAMETER_UNITS.items()):
        if parameters >= size:
            value = parameters / size
            shown = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
            return shown.removesuffix(".0") + unit
    return str(parameters)


def parameters_of(label: str) -> float:
    """Parse a size label and return the number of parameters.

    Raises:
        ValueError: if ``label`` is not a number, optionally followed by K, M, B or T.
    """
    match = re.fullmatch(r"([\d.]+)([KMBT]?)", label)
    if match is None:
        raise ValueError(f"not a size label: {label!r}")
    return float(match[1]) * _PARAMETER_UNITS.get(match[2], 1)


def now() -> str:
    """Return the current UTC time, to the second, in the format of results and journals."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
