"""The facts about a run or training that never change: the first record of its journal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import msgspec

from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.planning.lora_config import LoraConfig, differences
from your_ai.planning.plan import Trial
from your_ai.runs.journal import OtherVersionError
from your_ai.search.search import SearchOptions
from your_ai.system.machine import Machine

Argument = str | bool | tuple[str, ...]
"""What the user gave for an option: a value, on or off, or one value for each repetition."""

CONFIG_OPTION = "--config"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The facts that runs and trainings have in common.

    ``arguments`` maps the options that the user gave to what was given for them. ``gpu_uuid`` is
    the UUID of the GPU that this process uses, if it has one. ``config`` is the content of the file
    that the user gave with --config, if any.
    """

    command: str
    arguments: dict[str, Argument]
    machine: Machine
    device: Device
    gpu_uuid: str | None = None
    started_at: str
    run_dir: str
    version: str
    config: LoraConfig | None = None

    accepts_patches: ClassVar[bool] = False
    """Whether it can be resumed after a patch release of mlx, mlx-lm or your_ai.

    The trials of a run could then no longer be compared.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Header):
    """The trials of a run, and everything that they depend on.

    ``search`` has the options of the search for each model's best configuration, if any.
    ``deadline`` is the maximum time for a trial, ``cooldown`` the pause between trials, in seconds.
    ``output`` is a further file for the results, which are always written to ``run_dir``.
    """

    trials: tuple[Trial, ...]
    search: SearchOptions | None
    deadline: float
    cooldown: float = 0.0
    keep_going: bool
    output: str | None

    @property
    def budget_bytes(self) -> int:
        """The most memory that training may use."""
        return self.trials[0].request.budget_bytes


H = TypeVar("H", bound=Header)


def read_header(fields: Mapping[str, Any], kind: type[H]) -> H:
    """Return the header in the first record of a journal.

    Raises:
        OtherVersionError: if another version wrote it.
    """
    try:
        return msgspec.convert(fields["run"], kind)
    except (KeyError, msgspec.ValidationError) as error:
        raise OtherVersionError from error


def check_same(
    header: Header,
    arguments: Mapping[str, Argument],
    device: Device,
    version: str,
    config: LoraConfig | None = None,
) -> None:
    """Raise UsageError if the resumed run would mix results that cannot be compared.

    Options that are not given again keep their values, and so does ``config``, whose content counts
    and not the file. A training may continue after a patch release: it would otherwise lose days of
    work.
    """
    if header.config is not None:
        arguments = {name: arguments[name] for name in arguments if name != CONFIG_OPTION}
    changed = [
        f"{option} {_text(value)} (was {_text(header.arguments.get(option, 'not given'))})"
        for option, value in arguments.items()
        if header.arguments.get(option) != value
    ]
    if header.config is not None and config is not None:
        changed += differences(header.config, config)
    for field in ("name", "backend"):
        before, now = getattr(header.device, field), getattr(device, field)
        if before != now:
            changed.append(f"{'device' if field == 'name' else field} {now} (was {before})")
    changed += version_changes(
        header, {**device.versions, "your_ai": version}, even_patches=not header.accepts_patches
    )
    if changed:
        raise UsageError(
            f"Cannot resume {header.run_dir} with different settings or versions: "
            f"{', '.join(changed)}. Use the earlier ones, or start a new run without --resume."
        )


def version_changes(
    header: Header, versions: Mapping[str, str], *, even_patches: bool = True
) -> list[str]:
    """Return which versions of the packages that a run depends on have changed, as shown."""
    recorded = {**header.device.versions, "your_ai": header.version}
    compared = str if even_patches else _without_patch
    return [
        f"{name} {versions.get(name)} (was {recorded.get(name)})"
        for name in ("mlx", "mlx-lm", "your_ai")
        if compared(versions.get(name)) != compared(recorded.get(name))
    ]


def _without_patch(version: str | None) -> str:
    """Return ``0.32`` for version ``0.32.4``."""
    return ".".join(str(version).split(".")[:2])


def _text(value: Argument) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else shlex.join(value)
