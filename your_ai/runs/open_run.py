"""Open the journal of a run or training, either new or to be resumed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from worker import durable
from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.planning.lora_config import LoraConfig
from your_ai.runs.journal import BEGAN, JOURNAL, RESUMED, Journal, Record
from your_ai.runs.run import Argument, Header, check_same, read_header
from your_ai.runs.run_dir import make_logs_dir, make_run_dir
from your_ai.system.machine import boot_id
from your_ai.units import now

H = TypeVar("H", bound=Header)


@contextlib.contextmanager
def open_new(run_dir: Path) -> Iterator[Journal]:
    """Create the folder of a new run, and open its journal for this process only.

    If the run was not started at the end, the journal and what was created for it are removed.

    Raises:
        UsageError: if the folder already contains a run or cannot be created.
        MachineError: if the disk is full or the journal cannot be written.
    """
    created = make_run_dir(run_dir)
    is_started = False
    try:
        with Journal.open(run_dir) as journal:
            if not journal.is_empty:
                raise UsageError(
                    f"{run_dir} already contains a run. Add --resume to continue it, or choose a "
                    "different --run-dir."
                )
            try:
                yield journal
            finally:
                is_started = not journal.is_empty
                if not is_started:
                    journal.discard()
    finally:
        if not is_started:
            durable.remove_empty(created)


def begin(journal: Journal, header: Header) -> None:
    """Record the start of a run."""
    journal.append(BEGAN, {**_process(), "run": asdict(header)})


@contextlib.contextmanager
def open_to_resume(
    folder: Path,
    kind: type[H],
    command: str,
    arguments: Mapping[str, Argument],
    version: str,
    probe: Callable[[], tuple[Device, str | None]],
    config: LoraConfig | None = None,
) -> Iterator[tuple[Journal, H, list[Record], Device]]:
    """Open the run in ``folder``; yield its journal, header, records, and the current device.

    ``arguments`` are the options given now, ``config`` is the content of --config. ``probe``
    returns the current device, and the UUID of its GPU, which may be a different one of the same
    kind than before, or with another share of its memory. The header has these.

    Raises:
        UsageError: if there is no run, or it is still running, damaged, of another command, or
            started with other settings.
        MachineError: if the journal cannot be written, or MLX does not work.
    """
    if not os.path.isfile(folder / JOURNAL):  # noqa: PTH113 - Path raises if a name is too long
        raise UsageError(f"No run found in {folder}. `your_ai runs` lists saved runs.")
    with Journal.open(folder) as journal:
        records = journal.records()
        if not records:
            raise UsageError(f"The run in {folder} was never started. Start it without --resume.")
        began = read_header(records[0].fields, Header)
        if began.command != command:
            raise UsageError(
                f"The run in {folder} was started by `your_ai {began.command}`. Continue it with "
                f"`your_ai {began.command} --resume --run-dir {folder}`."
            )
        header = replace(read_header(records[0].fields, kind), run_dir=str(folder.absolute()))
        device, gpu_uuid = probe()
        check_same(header, arguments, device, version, config)
        header = replace(header, gpu_uuid=gpu_uuid, device=_resized(header.device, device))
        make_logs_dir(folder)
        yield journal, header, records, device


def _resized(before: Device, now: Device) -> Device:
    memory, working_set = now.memory_bytes, now.working_set_bytes
    return replace(before, memory_bytes=memory, working_set_bytes=working_set)


def record_resumed(journal: Journal, device: Device) -> None:
    """Record that this process resumed the run, and the current versions of the packages."""
    journal.append(RESUMED, {**_process(), "versions": device.versions})


def _process() -> dict[str, Any]:
    return {"at": now(), "pid": os.getpid(), "boot": boot_id()}
