"""The footprint of real processes, and the recorded text that its Linux maximum comes from."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from your_ai.system import footprint as module
from your_ai.system.footprint import (
    FOOTPRINT_SOURCE,
    Footprint,
    footprint,
    footprint_source,
    parse_vm_hwm,
)

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


@pytest.mark.parametrize(
    ("platform", "source"), [("darwin", "phys_footprint"), ("linux", "rss"), ("freebsd14", "rss")]
)
def test_the_source_on_each_platform(platform: str, source: str) -> None:
    assert footprint_source(platform) == source


def test_the_source_is_this_platforms() -> None:
    assert footprint_source(sys.platform) == FOOTPRINT_SOURCE


@pytest.mark.parametrize(
    ("status", "maximum"),
    [
        (STATUS, 20002 * 1024),
        (ZOMBIE_STATUS, None),
        ("VmHWM:\n", None),
        ("VmHWM:\tmuch kB\n", None),
        ("", None),
    ],
)
def test_vm_hwm(status: str, maximum: int | None) -> None:
    assert parse_vm_hwm(status) == maximum


def test_this_process_grows_by_what_it_allocates_and_remembers_it() -> None:
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
def test_a_zombie_is_charged_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    try:
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.005)
        assert footprint(child.pid) is None
    finally:
        child.wait(60)


@on_linux
def test_the_figures_are_the_kernels() -> None:
    measured = measure(os.getpid())
    status = Path("/proc/self/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    assert measured.current_bytes == pytest.approx(rss * 1024, abs=2 * MIB)
    assert measured.lifetime_max_bytes == pytest.approx(parse_vm_hwm(status), abs=2 * MIB)


@on_linux
@pytest.mark.parametrize(("peak", "largest"), [(None, 1), (1, 1), (2**60, 2**60)])
def test_the_maximum_is_at_least_what_is_resident_now(
    monkeypatch: pytest.MonkeyPatch, peak: int | None, largest: int
) -> None:
    monkeypatch.setattr(module, "_peak_resident", lambda pid: peak)
    measured = measure(os.getpid())
    assert measured.lifetime_max_bytes == max(measured.current_bytes, largest)


@pytest.mark.skipif(sys.platform == "darwin", reason="for systems that are charged by RSS")
def test_a_mac_is_asked_for_its_physical_footprint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOOTPRINT_SOURCE", "phys_footprint")
    monkeypatch.setattr(module, "phys_footprint", lambda pid: Footprint(pid, 2 * pid))
    assert footprint(21) == Footprint(21, 42)
