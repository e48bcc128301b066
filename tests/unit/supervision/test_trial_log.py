"""A worker's log: it is limited, and its tail, which has the cause of an error, is kept."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.disks import small_disk
from your_ai.supervision.trial_log import (
    EXCERPT_COLUMNS,
    LIMIT_BYTES,
    TAIL_BYTES,
    TrialLog,
    excerpt,
)


def test_a_log_is_private_and_appended_to(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    for text in (b"one\n", b"two\n"):
        with log.open() as file:
            file.write(text)
    assert log.path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_the_tail_of_a_short_log_is_the_whole_log(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    log.path.write_text("short ✓")
    assert log.tail() == "short ✓"


def test_the_tail_of_a_long_log_is_its_end(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    log.path.write_bytes(b"x" * 2 * TAIL_BYTES + b"the cause")
    assert log.tail().endswith("xxx" + "the cause")
    assert len(log.tail()) == TAIL_BYTES


def test_invalid_utf8_in_a_log_is_replaced(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    log.path.write_bytes(b"\xff\x00 cause")
    assert log.tail() == "\N{REPLACEMENT CHARACTER}\x00 cause"


def test_a_log_within_its_limit_is_not_trimmed(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    log.path.write_bytes(b"x" * LIMIT_BYTES)
    log.trim()
    assert log.path.stat().st_size == LIMIT_BYTES
    assert log.discarded_bytes == 0


def test_a_log_above_its_limit_is_trimmed_to_its_tail(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    # Each character has two bytes, and the tail begins in the middle of one.
    content = b"head\n" + "é".encode() * (LIMIT_BYTES // 2) + b"the cause\n"
    log.path.write_bytes(content)
    log.trim()
    marker, _, kept = log.path.read_bytes().partition(b"\n")
    assert kept == content[-TAIL_BYTES:]
    assert log.discarded_bytes == len(content) - TAIL_BYTES
    assert marker == f"[{log.discarded_bytes} bytes dropped]".encode()


def test_output_after_trimming_follows_the_kept_tail(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    with log.open() as worker:
        worker.write(b"x" * (LIMIT_BYTES + 1))
        worker.flush()
        log.trim()
        worker.write(b"the cause\n")
    content = log.path.read_bytes()
    assert content.endswith(b"xxxthe cause\n")
    assert b"\0" not in content  # no hole in place of the dropped bytes
    assert len(content) < 2 * TAIL_BYTES


def test_a_flood_exceeds_the_limit_by_one_write_at_most(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    written, chunk = 0, b"y" * 2**20
    with log.open() as worker:
        for _ in range(20):
            worker.write(chunk)
            worker.flush()
            written += len(chunk)
            log.trim()
            assert log.path.stat().st_size <= LIMIT_BYTES + len(chunk)
    kept = log.path.read_bytes().count(b"y")
    assert log.discarded_bytes > 0
    assert kept + log.discarded_bytes >= written


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EDQUOT, errno.ENOSPC])
@pytest.mark.parametrize("call", ["open", "unlink", "read"])
def test_a_failing_disk_does_not_end_the_trial(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the operating system is in the log's tail, and old output is not."""
    log = TrialLog(tmp_path / "trial.log")
    log.path.write_bytes(b"the output of another attempt")
    if call != "read":
        monkeypatch.setattr(os, call, failing(getattr(os, call), log.path, number))
    with log.kept_short():
        log.discard()
        with log.open() as file:
            file.write(b"the cause")
        if call == "read":
            monkeypatch.setattr(Path, "open", failing(Path.open, log.path, number))
    assert log.tail().startswith("[your_ai cannot ")
    assert log.tail().endswith(f" this log: {os.strerror(number)}]")
    assert excerpt(log.tail()) == [log.tail()]


def failing(call: Any, path: Path, number: int) -> Any:
    """Return ``call``, except that it fails for ``path``."""

    def fail(*arguments: Any, **keywords: Any) -> Any:
        if arguments[0] == path:
            raise OSError(number, os.strerror(number))
        return call(*arguments, **keywords)

    return fail


def test_a_missing_folder_does_not_end_the_trial(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "missing" / "trial.log")
    log.discard()
    with log.open() as file:
        file.write(b"the cause")
    assert log.tail() == "[your_ai cannot write this log: No such file or directory]"


@pytest.mark.root
def test_a_disk_that_has_become_read_only_does_not_end_the_trial(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        log = TrialLog(disk / "trial.log")
        log.path.write_bytes(b"the output of another attempt")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        log.discard()
        with log.open() as file:
            file.write(b"the cause")
        assert log.tail() == "[your_ai cannot replace this log: Read-only file system]"


CHAINED = """\
Loading:  40%|####      | 2/5\rLoading: 100%|##########| 5/5
Traceback (most recent call last):
  File "load.py", line 1, in load
    raise KeyError(name)
    ^^^^^^^^^^^^^^^^^^^^
KeyError: 'q_proj'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 2, in <module>
    load()
ValueError: no weights for q_proj
"""


def test_the_excerpt_has_the_informative_lines() -> None:
    assert excerpt(CHAINED) == ["KeyError: 'q_proj'", "ValueError: no weights for q_proj"]


def test_the_excerpt_is_limited() -> None:
    shown = excerpt("\n".join(f"{n} {'x' * 1000}" for n in range(50)))
    assert [line[:2] for line in shown] == ["47", "48", "49"]
    assert {len(line) for line in shown} == {EXCERPT_COLUMNS}


def test_an_empty_log_has_no_excerpt() -> None:
    assert excerpt("") == []
    assert excerpt("\n \n\r\n") == []
