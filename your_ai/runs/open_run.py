"""Opening the journal of a run or a training: a new one, or one to resume."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.runs.journal import BEGAN, JOURNAL, RESUMED, Journal, Record
from your_ai.runs.run import Header, check_same, read_header
from your_ai.runs.run_dir import make_logs_dir
from your_ai.system.machine import boot_id
from your_ai.units import now

H = TypeVar("H", bound=Header)


@contextlib.contextmanager
def open_new(run_dir: Path) -> Iterator[Journal]:
    """The journal of a new run; it is this process's until the end, and removed if still empty.

    Raises:
        UsageError: if the folder holds a run already.
        MachineError: if the journal cannot be written.
    """
    with Journal.open(run_dir) as journal:
        if not journal.is_empty:
            raise UsageError(
                f"{run_dir} holds another run; add --resume to continue it, or choose another "
                "--run-dir."
            )
        try:
            yield journal
        finally:
            if journal.is_empty:  # a run that never began cannot be resumed
                journal.discard()


def begin(journal: Journal, header: Header) -> None:
    """Record that a run began."""
    journal.append(BEGAN, {**_here(), "run": asdict(header)})


@contextlib.contextmanager
def open_to_resume(
    folder: Path,
    kind: type[H],
    command: str,
    arguments: Mapping[str, str],
    version: str,
    device: Callable[[], Device],
) -> Iterator[tuple[Journal, H, list[Record]]]:
    """The journal of an earlier run in ``folder``, its header, and its records.

    ``arguments`` are the options given now, and ``device`` finds the present device.

    Raises:
        UsageError: if there is no run, it is under way or damaged, or another command's, or it was
            started with other settings.
        MachineError: if the journal cannot be written, or MLX does not work.
    """
    if not os.path.isfile(folder / JOURNAL):  # noqa: PTH113 - Path raises if a name is too long
        raise UsageError(f"No run found in {folder}. `your_ai runs` lists saved runs.")
    with Journal.open(folder) as journal:
        records = journal.records()
        if not records:
            raise UsageError(f"The run in {folder} never began; start it without --resume.")
        began = read_header(records[0].fields, Header)
        if began.command != command:
            raise UsageError(
                f"The run in {folder} is one of `your_ai {began.command}`; continue it with "
                f"`your_ai {began.command} --resume --run-dir {folder}`."
            )
        header = replace(read_header(records[0].fields, kind), run_dir=str(folder.absolute()))
        check_same(header, arguments, device(), version)
        make_logs_dir(folder)
        yield journal, header, records


def record_resumed(journal: Journal) -> None:
    """Record that a run is continued by this process."""
    journal.append(RESUMED, _here())


def _here() -> dict[str, Any]:
    return {"at": now(), "pid": os.getpid(), "boot": boot_id()}
