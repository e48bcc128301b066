"""Sizes and times as people read them. 1 GB is 2^30 bytes, so that a "36 GB" Mac has 36.00."""

from __future__ import annotations

import re
from datetime import UTC, datetime

MB = 2**20
GB = 2**30

_PARAMETER_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def to_gb(nbytes: int) -> float:
    """Bytes in GB, exact below 8 PB."""
    return nbytes / GB


def show_size(nbytes: int) -> str:
    """``12.4 GB``, or MB below one GB."""
    return f"{nbytes / GB:.1f} GB" if nbytes >= GB else f"{nbytes / MB:.1f} MB"


def parameter_label(parameters: int) -> str:
    """A model's size as it is usually written: ``8B``, ``1.5B``, ``350M``."""
    for unit, size in reversed(_PARAMETER_UNITS.items()):
        if parameters >= size:
            value = parameters / size
            shown = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
            return shown.removesuffix(".0") + unit
    return str(parameters)


def parameters_of(label: str) -> float:
    """The number of parameters of a size label.

    Raises:
        ValueError: unless ``label`` is a number, with or without K, M, B or T.
    """
    match = re.fullmatch(r"([\d.]+)([KMBT]?)", label)
    if match is None:
        raise ValueError(f"not a size label: {label!r}")
    return float(match[1]) * _PARAMETER_UNITS.get(match[2], 1)


def now() -> str:
    """The present time as results and journals write it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
