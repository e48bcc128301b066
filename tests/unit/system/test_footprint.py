"""The footprint of real processes, and recorded files of /proc."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import psutil
import pytest

from your_ai.system.footprint import FOOTPRINT_SOURCE, Footprint, footprint, parse_status

MIB = 2**20

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a Linux /proc")

STATUS = """\
Name:\tpython
State:\tS (sleeping)
VmPeak:\t  400004 kB
VmSize:\t  300003 kB
VmHWM:\t   20002 kB
VmRSS:\t   10001 kB
RssAnon:\t    9000 kB
Threads:\t1
"""
ZOMBIE_STATUS = "Name:\tpython\nState:\tZ (zombie)\nThreads:\t1\n"


def measure(pid: int) -> Footprint:
    measured = footprint(pid)
    assert measured is not None
    return measured


def test_the_source_depends_on_the_platform() -> None:
    source = {"darwin": "phys_footprint", "linux": "rss"}[sys.platform]
    assert source == FOOTPRINT_SOURCE


@pytest.mark.parametrize(
    ("status", "sizes"),
    [
        (STATUS, (10001 * 1024, 20002 * 1024)),
        (STATUS.replace("VmHWM", "VmOther"), (10001 * 1024, 10001 * 1024)),
        (STATUS.replace("VmRSS", "VmOther"), None),
        (STATUS.replace("10001", "much"), None),
        (ZOMBIE_STATUS, None),
        ("", None),
    ],
)
def test_a_recorded_status(status: str, sizes: tuple[int, int] | None) -> None:
    assert parse_status(status) == sizes


def test_the_footprint_grows_with_allocations_and_keeps_its_maximum() -> None:
    before = measure(os.getpid())
    block = b"\xa5" * (64 * MIB)
    grown = measure(os.getpid())
    size = len(block)
    del block
    freed = measure(os.getpid())

    assert grown.current_bytes - before.current_bytes == pytest.approx(size, abs=8 * MIB)
    assert grown.current_bytes - freed.current_bytes == pytest.approx(size, abs=8 * MIB)
    assert grown.lifetime_max_bytes >= grown.current_bytes
    assert freed.lifetime_max_bytes >= grown.current_bytes - 8 * MIB


def test_another_process_is_measured() -> None:
    code = "import sys; block = b'x' * (96 << 20); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        measured = measure(child.pid)
        child.communicate(timeout=60)
    assert 96 * MIB < measured.current_bytes < 160 * MIB
    assert footprint(child.pid) is None


@on_linux
def test_a_zombie_has_no_footprint() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert footprint(child.pid) is None
    finally:
        child.wait(60)


@on_linux
def test_the_footprint_agrees_with_psutil_and_getrusage() -> None:
    measured = measure(os.getpid())
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert measured.current_bytes == pytest.approx(psutil.Process().memory_info().rss, abs=2 * MIB)
    assert measured.lifetime_max_bytes == pytest.approx(largest, abs=2 * MIB)
