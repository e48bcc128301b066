"""The measurements of a run that can be published: nothing in them tells whose machine it was.

A share file contains only the fields below. Their types admit numbers, fixed words, versions, names
of chips, and Hub ids. Sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

import msgspec

from worker.protocol.configuration import Configuration
from your_ai.errors import UsageError
from your_ai.files import to_json
from your_ai.supervision.outcome import OutcomeKind

FORMAT: Literal[1] = 1
"""Version of the format; increased when the meaning of a field changes."""

CHIP = r"(Apple|NVIDIA|AMD|Intel)[A-Za-z0-9 ()@.+-]{0,60}"
RELEASE = r"\d{1,9}(\.\d{1,9}){0,5}"
VERSION = RELEASE + r"((a|b|rc)\d{1,9})?(\.post\d{1,9})?(\.dev\d{1,9})?"
"""The public part of a Python version; the local part, after "+", can be any word."""
HUB_ID = r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+"


def _exactly(pattern: str) -> msgspec.Meta:
    return msgspec.Meta(pattern=rf"\A{pattern}\Z")


Backend = Literal["metal", "cuda", "cpu"]
System = Literal["macOS", "Linux"]
Size = Annotated[int, msgspec.Meta(gt=0)]
Speed = Annotated[float, msgspec.Meta(gt=0)]
Version = Annotated[str, _exactly(VERSION)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDevice:
    """The device that models were trained on."""

    backend: Backend
    """MLX backend."""
    name: Annotated[str, _exactly(CHIP)] | None
    """Name of the chip, such as Apple M3 Pro; null if it is not known to be one."""
    memory_bytes: Size
    """Memory of the device; for Metal and the CPU the machine's RAM."""
    working_set_bytes: Size | None
    """Metal's recommended working set; null elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSystem:
    """The operating system."""

    name: System | None
    """Name of the operating system."""
    release: Annotated[str, _exactly(RELEASE)] | None
    """Version of macOS, or of the Linux kernel without the name of its build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedVersions:
    """Versions of what trained the models."""

    python: Version | None
    """Version of Python."""
    mlx: Version | None
    """Version of mlx."""
    mlx_lm: Version | None
    """Version of mlx-lm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTrial:
    """A trial that loaded its model."""

    model_name: Annotated[str, _exactly(HUB_ID)] | None
    """The model's Hub id; null for a model from a folder, whose name is a path."""
    parameters: Size
    """Number of the model's parameters."""
    weights_bytes: Size | None
    """Memory of the weights, counted before the trial; null if it was unknown."""
    configuration: Configuration
    """What was trained and how."""
    outcome: OutcomeKind
    """How the trial ended."""
    resident_bytes: Size
    """Memory of the loaded weights and adapters."""
    needed_bytes: Size | None
    """Needed memory; null if the tight phase did not finish."""
    needed_limit_bytes: Size | None
    """MLX memory limit with which training takes no more than the needed memory."""
    peak_bytes: Size | None
    """Peak memory; null unless the trial passed."""
    limit_bytes: Size | None
    """MLX memory limit with which the peak stayed within the budget."""
    footprint_peak_bytes: Size | None
    """Largest footprint of the worker, as the operating system counts it."""
    tokens_per_second: Speed | None
    """Training speed with that limit."""
    tokens_per_second_at_needed: Speed | None
    """Training speed in the needed memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMeasurements:
    """The measurements of a run."""

    format: Literal[1]
    """Version of the format."""
    your_ai_version: Version | None
    """Version of your_ai that did the run."""
    date: date | None
    """Day on which the run started, in UTC."""
    device: SharedDevice
    """The device that models were trained on."""
    system: SharedSystem
    """The operating system."""
    versions: SharedVersions
    """Versions of what trained the models."""
    budget_bytes: Size
    """The budget."""
    trials: tuple[SharedTrial, ...]
    """Every trial that loaded its model, unless its settings contain free text."""


def write(document: SharedMeasurements) -> bytes:
    """Return the content of a share file: indented JSON.

    Raises:
        UsageError: if a value is not one that its type admits.
    """
    content = to_json(document)
    try:
        msgspec.json.decode(content, type=SharedMeasurements)
    except msgspec.ValidationError as error:
        raise UsageError(f"These results cannot be shared: {error}.") from error
    return content
