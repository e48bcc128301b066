"""Truncates a real run's journal at every byte, and changes every byte."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from tests.chaos.report import Report
from tests.chaos.runs import Folder
from your_ai.runs import journal
from your_ai.runs.journal import JOURNAL, DamagedError, Record

ARGUMENTS = [
    *("benchmark", "--model", "smoke-tiny", "--seq-length", "16", "--lora-rank", "4"),
    *("--batch-size", "1", "--steps", "1"),
]
FLIPPED_BITS = (0x01, 0x04, 0x20, 0x80)
"""Bits to flip, one at a time."""


def damage(step: int = 1) -> Report:
    """Make a run, then damage its journal at every ``step``-th byte."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        home = Folder(Path(name))
        home.finish(*ARGUMENTS)
        return damaged(home, step)


def damaged(home: Folder, step: int) -> Report:
    """Truncate the journal and flip bits at every ``step``-th byte, and read the result.

    Records before the damage must be read, and a damaged line must be reported.
    """
    whole = (home.run / JOURNAL).read_bytes()
    records = home.records()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        path = Path(name) / "damaged"
        failures = [*_cuts(path, whole, records, step), *_flips(path, whole, records, step)]
    figures = {
        "bytes in the journal": len(whole),
        "truncations": len(range(0, len(whole) + 1, step)),
        "bit flips": len(range(0, len(whole), step)) * len(FLIPPED_BITS),
        "earlier records lost, or the damaged line not reported": len(failures),
    }
    return Report("A damaged journal", figures, failures)


def _cuts(path: Path, whole: bytes, records: list[Record], step: int) -> list[str]:
    failures = []
    ends = [position for position, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(0, len(whole) + 1, step):
        path.write_bytes(whole[:cut])
        found, line = _read(path)
        if line is not None or found != records[: sum(end <= cut for end in ends)]:
            failures.append(f"truncated at byte {cut}")
    return failures


def _flips(path: Path, whole: bytes, records: list[Record], step: int) -> list[str]:
    failures = []
    for position in range(0, len(whole), step):
        for bit in FLIPPED_BITS:
            changed = whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :]
            path.write_bytes(changed)
            found, line = _read(path)
            number = whole[:position].count(b"\n")
            is_complete = b"\n" in changed[position:]
            if found != records[:number] or line != (number + 1 if is_complete else None):
                failures.append(f"bit {bit:#x} of byte {position} flipped")
    return failures


def _read(path: Path) -> tuple[list[Record], int | None]:
    """Return the records that can be read, and the number of the damaged line, if any."""
    found: list[Record] = []
    with contextlib.suppress(DamagedError):
        found.extend(journal.read(path))  # keeps the records before the damaged line
        return found, None
    return found, len(found) + 1
