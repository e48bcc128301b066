"""A run: what does not change while it lasts, and is the first thing in its journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from worker.protocol.codec import ProtocolError, build
from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.planning.plan import Trial
from your_ai.search.search import SearchOptions
from your_ai.system.machine import Machine


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation's trials and all that they depend on.

    ``arguments`` are the options that the user gave, as they would write them. ``search`` is what
    to look for in each model, if asked to; ``deadline`` what one trial may take, in seconds.
    ``output`` is where else than in ``run_dir`` the results are wanted.
    """

    command: str
    arguments: dict[str, str]
    machine: Machine
    device: Device
    trials: tuple[Trial, ...]
    search: SearchOptions | None
    deadline: float
    keep_going: bool
    started_at: str
    run_dir: str
    output: str | None
    version: str

    @property
    def budget_bytes(self) -> int:
        """The most memory that training may use."""
        return self.trials[0].spec.budget_bytes


def to_fields(run: Run) -> dict[str, Any]:
    """The run as a journal's record."""
    return asdict(run)


def from_fields(fields: Mapping[str, Any]) -> Run:
    """The run that `to_fields` wrote.

    Raises:
        UsageError: when another version did.
    """
    known = {name: fields[name] for name in Run.__dataclass_fields__ if name in fields}
    try:
        run: Run = build(Run, known)
    except ProtocolError as error:
        raise UsageError(
            "The run was written by another version of your_ai; use that one, or start a new run."
        ) from error
    return run


class Begun(Protocol):
    """What was begun, and how: a run, or a training."""

    @property
    def arguments(self) -> Mapping[str, str]:
        """The options that the user gave, as they would write them."""

    @property
    def device(self) -> Device:
        """What it was begun on."""

    @property
    def run_dir(self) -> str:
        """Where its journal is."""

    @property
    def version(self) -> str:
        """Of your_ai."""


def check_same(run: Begun, arguments: Mapping[str, str], device: Device, version: str) -> None:
    """Raise UsageError where going on with ``run`` would mix what cannot be compared.

    An option that is not given again is taken to be what it was.
    """
    changed = [
        f"{option} {value} (it was {run.arguments.get(option, 'not given')})"
        for option, value in arguments.items()
        if run.arguments.get(option) != value
    ]
    was, now = _circumstances(run.device, run.version), _circumstances(device, version)
    changed += [
        f"{what} {now[what]} (it was {was[what]})" for what in was if now[what] != was[what]
    ]
    if changed:
        raise UsageError(
            f"The run in {run.run_dir} was begun otherwise: {', '.join(changed)}. Resume it as it "
            "was, or start a new run without --resume."
        )


def _circumstances(device: Device, version: str) -> dict[str, object]:
    versions = {name: device.versions.get(name) for name in ("mlx", "mlx-lm")}
    return {"device": device.name, "backend": device.backend, **versions, "your_ai": version}
