"""What does not change while a run or a training lasts: the first record of its journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.planning.plan import Trial
from your_ai.runs.journal import OtherVersionError
from your_ai.search.search import SearchOptions
from your_ai.system.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What runs and trainings have in common.

    ``arguments`` are the options that the user gave, as they would write them.
    """

    command: str
    arguments: dict[str, str]
    machine: Machine
    device: Device
    started_at: str
    run_dir: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Header):
    """One invocation's trials and all that they depend on.

    ``search`` says what to search for in each model, ``deadline`` is the longest a trial may take,
    in seconds. ``output`` is where the results are wanted in addition to ``run_dir``.
    """

    trials: tuple[Trial, ...]
    search: SearchOptions | None
    deadline: float
    keep_going: bool
    output: str | None

    @property
    def budget_bytes(self) -> int:
        """The most memory that training may use."""
        return self.trials[0].request.budget_bytes


H = TypeVar("H", bound=Header)


def read_header(fields: Mapping[str, Any], kind: type[H]) -> H:
    """The header that a journal's first record holds.

    Raises:
        UsageError: if another version wrote it.
    """
    try:
        return msgspec.convert(fields["run"], kind)
    except (KeyError, msgspec.ValidationError) as error:
        raise OtherVersionError from error


def check_same(header: Header, arguments: Mapping[str, str], device: Device, version: str) -> None:
    """Raise UsageError if resuming would mix figures that cannot be compared.

    An option that is not given again keeps its value.
    """
    changed = [
        f"{option} {value} (it was {header.arguments.get(option, 'not given')})"
        for option, value in arguments.items()
        if header.arguments.get(option) != value
    ]
    was, now = _circumstances(header.device, header.version), _circumstances(device, version)
    changed += [
        f"{what} {now[what]} (it was {was[what]})" for what in was if now[what] != was[what]
    ]
    if changed:
        raise UsageError(
            f"Cannot resume {header.run_dir} with different settings: {', '.join(changed)}. "
            "Drop them, or start a new run without --resume."
        )


def _circumstances(device: Device, version: str) -> dict[str, object]:
    versions = {name: device.versions.get(name) for name in ("mlx", "mlx-lm")}
    return {"device": device.name, "backend": device.backend, **versions, "your_ai": version}
