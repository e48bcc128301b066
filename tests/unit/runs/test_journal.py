"""The journal: its records are durable, and damage affects only the damaged lines."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.disks import small_disk
from your_ai.errors import MachineError, UsageError
from your_ai.runs import journal
from your_ai.runs.journal import JOURNAL, DamagedError, Journal, Record

RECORDS = [
    Record("began", {"pid": 1, "run": {"arguments": {"--model": "café"}}}),
    Record("started", {"trial": "01-2x8x4"}),
    Record("ended", {"trial": "01-2x8x4", "entry": {"loss": [1.5, None], "text": 'a "q" \\ \n'}}),
]


def written(folder: Path, records: list[Record] = RECORDS) -> Path:
    with Journal.open(folder) as opened:
        for record in records:
            opened.append(record.kind, record.fields)
    return folder / JOURNAL


def readable(path: Path) -> list[Record]:
    """Return all records before any damage."""
    found: list[Record] = []
    with contextlib.suppress(DamagedError):
        found.extend(journal.read(path))  # keeps the records before an error
    return found


def iter_records(path: Path) -> list[Record]:
    return list(journal.read(path))


def test_records_are_read_back(tmp_path: Path) -> None:
    path = written(tmp_path, RECORDS[:2])
    written(tmp_path, RECORDS[2:])
    assert iter_records(path) == RECORDS


def test_each_line_is_json_with_its_version(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in written(tmp_path).read_text().splitlines()]
    assert [(line["v"], line["kind"]) for line in lines] == [
        (journal.VERSION, r.kind) for r in RECORDS
    ]


def test_a_journal_is_private(tmp_path: Path) -> None:
    assert written(tmp_path).stat().st_mode & 0o777 == 0o600


FIELDS = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name not in ("v", "kind", "crc32")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)


@given(st.text(), FIELDS)
def test_a_record_survives_a_round_trip(kind: str, fields: dict[str, Any]) -> None:
    line = journal.encode(Record(kind, fields))
    assert line.count(b"\n") == 1
    assert journal.decode(line) == journal.decode(line[:-1]) == Record(kind, fields)


def test_infinity_and_invalid_utf8_survive_a_round_trip() -> None:
    fields = {"path": b"bad\xff".decode(errors="surrogateescape"), "limit": math.inf}
    assert journal.decode(journal.encode(Record("began", fields))) == Record("began", fields)


def test_a_truncated_journal_is_repaired_and_continued(tmp_path: Path) -> None:
    whole = written(tmp_path).read_bytes()
    ends = [0, *(i + 1 for i, byte in enumerate(whole) if byte == ord("\n"))]
    for cut in range(len(whole) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        path = folder / JOURNAL
        path.write_bytes(whole[:cut])
        # A record is complete even without its newline.
        left = RECORDS[: sum(end - 1 <= cut for end in ends[1:])]
        assert iter_records(path) == left
        written(folder, [RECORDS[1]])
        assert iter_records(path) == [*left, RECORDS[1]]


def test_a_changed_byte_is_reported_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    for place, byte in enumerate(whole):
        number = whole[:place].count(b"\n")
        for change in {0x01, 0x80, byte ^ ord("\n")} - {0}:
            path.write_bytes(whole[:place] + bytes([byte ^ change]) + whole[place + 1 :])
            assert readable(path) == RECORDS[:number], (place, change)
            if b"\n" in path.read_bytes()[place:]:  # nothing depends on an incomplete last line
                with pytest.raises(DamagedError, match=f"corrupt at line {number + 1}[;:]"):
                    iter_records(path)


def test_opening_a_damaged_journal_does_not_change_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    spoilt = path.read_bytes().replace(b"started", b"startex")
    path.write_bytes(spoilt)
    with Journal.open(tmp_path) as opened, pytest.raises(DamagedError, match="head -n 1"):
        list(opened.records())
    assert path.read_bytes() == spoilt


def test_a_journal_that_another_process_discards_meanwhile_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, path = fcntl.flock, tmp_path / journal.JOURNAL

    def lock_after_the_other_process(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        path.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_the_other_process)
    with Journal.open(tmp_path) as opened:
        opened.append(RECORDS[0].kind, RECORDS[0].fields)
        assert opened.records() == RECORDS[:1]


def test_another_version_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setattr(journal, "VERSION", journal.VERSION + 1)
    with pytest.raises(UsageError, match="another version of your_ai"):
        iter_records(path)


HOLD = """
import sys
import time
from pathlib import Path
from your_ai.runs.journal import Journal
with Journal.open(Path(sys.argv[1])) as opened:
    opened.append("resumed", {"pid": __import__("os").getpid()})
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert not journal.is_open(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        assert journal.is_open(path)
        refused = pytest.raises(UsageError, match=rf"is still running \(process {holder.pid}\)")
        with refused, Journal.open(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not journal.is_open(path)
    written(tmp_path, [])


ASK = """
import fcntl, sys
from pathlib import Path
from your_ai.runs.journal import is_open

lock = fcntl.flock
def lock_slowly(file, operation):
    lock(file, operation)
    print("asking", flush=True)
    sys.stdin.read()

fcntl.flock = lock_slowly
print(is_open(Path(sys.argv[1])))
"""


def test_a_run_can_start_while_another_process_asks_whether_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", ASK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"asking\n"
        answers = []
        monkeypatch.setattr(time, "sleep", lambda _: answers.append(asking.communicate()[0]))
        with Journal.open(tmp_path):
            assert answers == [b"False\n"]


def test_a_journal_is_closed(tmp_path: Path) -> None:
    before = {*Path("/dev/fd").iterdir()}
    written(tmp_path)
    path = tmp_path / JOURNAL
    with Journal.open(tmp_path), pytest.raises(UsageError), Journal.open(tmp_path):
        pass
    iter_records(path)
    journal.is_open(path)
    assert {*Path("/dev/fd").iterdir()} == before


def test_a_journal_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    refused = pytest.raises(MachineError, match=r"Cannot open .*: No such file")
    with refused, Journal.open(tmp_path / "missing"):
        pass


def test_a_full_disk_leaves_the_journal_unchanged(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=64k") as disk, Journal.open(disk) as opened:
        written = 0
        with contextlib.suppress(MachineError):
            for written in range(100):
                opened.append("ended", {"number": written, "padding": "x" * 1000})
        assert 10 < written < 64
        path = disk / JOURNAL
        before = path.read_bytes()
        assert [r.fields["number"] for r in journal.read(path)] == list(range(written))
        with pytest.raises(MachineError, match=r"Cannot write .*No space left .*--resume"):
            opened.append("ended", {"padding": "x" * 100_000})
        assert path.read_bytes() == before
