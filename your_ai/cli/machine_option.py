"""The options that describe another machine than this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from your_ai.cli.groups import Group, option
from your_ai.cli.params import Number
from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.recommend import device_guess, macs

_MAX_MEMORY_GB = 100_000
"""Larger numbers are not in GB."""

MACHINE = Group(
    "Machine",
    (
        option(
            "--machine",
            click.STRING,
            'Answer for another Mac, such as "M4 Pro, 24 GB".',
            computed="this machine",
            metavar="CHIP,GB",
        ),
        option(
            "--memory",
            Number("GB", "GB", "24", finite=True),
            "Answer for another machine with this much memory: that of its GPU, or on a Mac and "
            "without a GPU all of it. Requires --backend.",
            computed="this machine's",
        ),
        option(
            "--backend",
            click.Choice(device_guess.BACKENDS),
            "What the other machine trains on: metal (a Mac), cuda (an NVIDIA GPU) or cpu. "
            "Requires --memory.",
            computed="this machine's",
            metavar="NAME",
        ),
    ),
)


def given_device(values: Mapping[str, Any]) -> Device | None:
    """Return the device of the machine that the options describe; ``None`` without them.

    Raises UsageError if the options conflict, or describe a machine that does not exist.
    """
    mac, memory, backend = (values[name] for name in ("machine", "memory", "backend"))
    if mac is not None:
        if memory is not None or backend is not None:
            other = "--backend" if memory is None else "--memory"
            raise UsageError(f"--machine and {other} cannot be used together.")
        return device_guess.of_mac(macs.find(mac))
    if memory is None and backend is None:
        return None
    if backend is None:
        raise UsageError(f"--memory requires --backend: {', '.join(device_guess.BACKENDS)}.")
    if memory is None:
        raise UsageError("--backend requires --memory, in GB.")
    if memory > _MAX_MEMORY_GB:
        raise UsageError(
            f"--memory {memory:.15g} is too large. Give it in GB, such as --memory 24."
        )
    return device_guess.of_backend(backend, memory)
