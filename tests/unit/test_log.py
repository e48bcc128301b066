"""A worker's log, real files: bounded, and its end, in which the cause is, always kept."""

from __future__ import annotations

import stat
from pathlib import Path

from your_ai.log import LIMIT_BYTES, TAIL_BYTES, TrialLog


def test_a_log_is_private_and_appended_to(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    for text in (b"one\n", b"two\n"):
        with log.open() as file:
            file.write(text)
    assert log.path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_the_tail_of_a_short_log_is_all_of_it(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    log.path.write_text("short ✓")
    assert log.tail() == "short ✓"


def test_the_tail_of_a_long_log_is_its_end(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    log.path.write_bytes(b"x" * 2 * TAIL_BYTES + b"the cause")
    assert log.tail().endswith("xxx" + "the cause")
    assert len(log.tail()) == TAIL_BYTES


def test_bytes_that_are_no_text_are_shown_all_the_same(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    log.path.write_bytes(b"\xff\x00 cause")
    assert log.tail() == "\N{REPLACEMENT CHARACTER}\x00 cause"


def test_a_log_within_its_limit_is_left_alone(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    log.path.write_bytes(b"x" * LIMIT_BYTES)
    log.trim()
    assert log.path.stat().st_size == LIMIT_BYTES
    assert log.discarded_bytes == 0


def test_past_its_limit_all_but_the_tail_is_dropped_and_said_so(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    # Two bytes a character, and the tail begins inside of one.
    content = b"head\n" + "é".encode() * (LIMIT_BYTES // 2) + b"the cause\n"
    log.path.write_bytes(content)
    log.trim()
    marker, _, kept = log.path.read_bytes().partition(b"\n")
    assert kept == content[-TAIL_BYTES:]
    assert log.discarded_bytes == len(content) - TAIL_BYTES
    assert marker == f"[{log.discarded_bytes} bytes dropped]".encode()


def test_a_writer_goes_on_behind_what_was_kept(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trial.log")
    with log.open() as worker:
        worker.write(b"x" * (LIMIT_BYTES + 1))
        worker.flush()
        log.trim()
        worker.write(b"the cause\n")
    content = log.path.read_bytes()
    assert content.endswith(b"xxxthe cause\n")
    assert b"\0" not in content  # no hole where the dropped bytes were
    assert len(content) < 2 * TAIL_BYTES


def test_a_flood_never_takes_more_than_the_limit_and_a_write(tmp_path: Path) -> None:
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
