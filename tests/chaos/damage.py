"""A real run's journal cut at every byte, and with every byte changed."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from tests.chaos.report import Report
from tests.chaos.runs import Folder
from your_ai.runs import journal
from your_ai.runs.journal import JOURNAL, DamagedError, Record

ASKED = [
    *("benchmark", "--model", "smoke-tiny", "--seq-length", "16", "--lora-rank", "4"),
    *("--batch-size", "1", "--steps", "1"),
]
CHANGES = (0x01, 0x04, 0x20, 0x80)
"""Bits that are flipped, one at a time."""


def damage(step: int = 1) -> Report:
    """Damage the journal of a run of its own at every ``step``-th byte."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        home = Folder(Path(name))
        home.finish(*ASKED)
        return damaged(home, step)


def damaged(home: Folder, step: int) -> Report:
    """Cut and flip at every ``step``-th byte: always readable up to the damage, or refused."""
    whole = (home.run / JOURNAL).read_bytes()
    records = home.records()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        path = Path(name) / "damaged"
        failures = [*_cuts(path, whole, records, step), *_flips(path, whole, records, step)]
    figures = {
        "bytes of the journal": len(whole),
        "cuts": len(range(0, len(whole) + 1, step)),
        "changed bytes": len(range(0, len(whole), step)) * len(CHANGES),
        "neither readable up to the damage nor refused with the line": len(failures),
    }
    return Report("A damaged journal", figures, failures)


def _cuts(path: Path, whole: bytes, records: list[Record], step: int) -> list[str]:
    failures = []
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(0, len(whole) + 1, step):
        path.write_bytes(whole[:cut])
        found, line = _read(path)
        if line is not None or found != records[: sum(end <= cut for end in ends)]:
            failures.append(f"cut at {cut}")
    return failures


def _flips(path: Path, whole: bytes, records: list[Record], step: int) -> list[str]:
    failures = []
    for place in range(0, len(whole), step):
        for change in CHANGES:
            changed = whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :]
            path.write_bytes(changed)
            found, line = _read(path)
            number = whole[:place].count(b"\n")
            ends = b"\n" in changed[place:]
            if found != records[:number] or line != (number + 1 if ends else None):
                failures.append(f"byte {place} changed by {change:#x}")
    return failures


def _read(path: Path) -> tuple[list[Record], int | None]:
    """What could be read, and the line that was refused."""
    found: list[Record] = []
    with contextlib.suppress(DamagedError):
        found.extend(journal.read(path))  # extends as it goes
        return found, None
    return found, len(found) + 1
