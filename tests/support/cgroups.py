"""Real memory cgroups for tests: a small one in which the kernel really kills.

    with memory_cgroup(64 * MIB) as cgroup:
        parent = subprocess.Popen(cgroup.command([sys.executable, "-m", "your_ai", "benchmark"]))
        # or, for a process that is already there:
        cgroup.add(worker.pid)
        # or, in a script of the test's own:
        subprocess.Popen([sys.executable, "-c", cgroup.join_code + script])

Whatever a member starts is a member too. When the block ends, every process still inside is killed
and the cgroup removed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from tests.support import root

MIB = 2**20

_ROOT = Path("/sys/fs/cgroup")
_CLEANUP_SECONDS = 10.0


class CgroupUnavailableError(Exception):
    """This machine lets the test make no memory cgroup; the message says why."""


@dataclass(frozen=True)
class MemoryCgroup:
    """A memory cgroup that a test made.

    Attributes:
        directory: Where it is.
        parent: The cgroup directory above it.
        version: The cgroup version, 1 or 2.
    """

    directory: Path
    parent: Path
    version: Literal[1, 2]

    @property
    def counter(self) -> Path:
        """The file in which the kernel counts its kills here."""
        return self.directory / ("memory.oom_control" if self.version == 1 else "memory.events")

    @property
    def join_code(self) -> str:
        """Python statements by which the process that runs them moves itself in."""
        procs = str(self.directory / "cgroup.procs")
        # 0 means the writer itself, whatever its pid is called in this pid namespace.
        return f"with open({procs!r}, 'w') as procs: procs.write('0')\n"

    def command(self, argv: Sequence[str]) -> list[str]:
        """Change a command so that it joins before it runs, under the pid that was started."""
        code = self.join_code + "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
        return [sys.executable, "-c", code, *argv]

    def add(self, pid: int) -> None:
        """Move a running process in. What it has allocated before stays charged where it was."""
        (self.directory / "cgroup.procs").write_text(str(pid))

    def members(self) -> frozenset[int]:
        """The processes inside now."""
        return frozenset(int(pid) for pid in (self.directory / "cgroup.procs").read_text().split())


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[MemoryCgroup]:
    """Make a memory cgroup below this process's own; skip the test where that is not possible.

    Args:
        limit_bytes: How much its processes may use together, page cache included, without swap.
    """
    try:
        cgroup = _create(limit_bytes)
    except CgroupUnavailableError as unavailable:
        root.skip(str(unavailable))
    try:
        yield cgroup
    finally:
        _remove(cgroup)


def _create(limit_bytes: int) -> MemoryCgroup:
    if os.geteuid() != 0:
        raise CgroupUnavailableError("making a memory cgroup needs root")
    version, parent = _parent()
    directory = parent / f"your_ai-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    cgroup = MemoryCgroup(directory, parent, version)
    try:
        directory.mkdir()
    except OSError as error:
        raise CgroupUnavailableError(f"no cgroup can be made in {parent}: {error}") from error
    try:
        _limit(cgroup, limit_bytes)
    except BaseException as error:
        directory.rmdir()
        if isinstance(error, OSError):
            raise CgroupUnavailableError(f"{directory} takes no limit: {error}") from error
        raise
    return cgroup


def _parent() -> tuple[Literal[1, 2], Path]:
    """Find where to make it. On purpose not by your_ai.system.cgroups, which is what this tests."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        raise CgroupUnavailableError(f"this system has no cgroups: {error}") from error
    own = {tuple(line.split(":", 2)[:2]): line.split(":", 2)[2] for line in lines}
    for (_, controllers), path in own.items():
        if "memory" in controllers.split(","):
            return 1, _existing(_ROOT / "memory", path)
    if ("0", "") in own:
        return 2, _delegating(_existing(_ROOT, own["0", ""]))
    raise CgroupUnavailableError("no hierarchy has the memory controller")


def _existing(mount: Path, path: str) -> Path:
    directory = mount / path.lstrip("/")
    if directory.is_dir():
        return directory
    if (mount / "cgroup.procs").exists():  # A cgroup namespace hides the place: take what is seen.
        return mount
    raise CgroupUnavailableError(f"{directory} does not exist")


def _delegating(directory: Path) -> Path:
    """The nearest v2 cgroup whose children get the memory controller.

    A cgroup with processes of its own, as ours is, may not hand controllers down (cgroups(7), "no
    internal processes"), so this is usually the one above it.
    """
    for candidate in (directory, *directory.parents):
        if candidate == _ROOT.parent:
            break
        with suppress(OSError):
            if "memory" in (candidate / "cgroup.subtree_control").read_text().split():
                return candidate
    raise CgroupUnavailableError("no cgroup above this process hands down the memory controller")


def _limit(cgroup: MemoryCgroup, limit_bytes: int) -> None:
    if cgroup.version == 1:
        (cgroup.directory / "memory.limit_in_bytes").write_text(str(limit_bytes))
        swap, swap_limit = cgroup.directory / "memory.memsw.limit_in_bytes", limit_bytes
    else:
        (cgroup.directory / "memory.max").write_text(str(limit_bytes))
        swap, swap_limit = cgroup.directory / "memory.swap.max", 0
    if swap.exists():  # Absent where the kernel does not account swap.
        swap.write_text(str(swap_limit))


def _remove(cgroup: MemoryCgroup) -> None:
    """Kill what is left inside and remove the cgroup.

    Everything inside was put there by the test or started by something that was. The test run
    itself and what started it are moved out again instead.
    """
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    deadline = time.monotonic() + _CLEANUP_SECONDS
    while True:
        for pid in cgroup.members():
            if pid in spared:
                (cgroup.parent / "cgroup.procs").write_text(str(pid))
            else:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
            cgroup.directory.rmdir()
        except OSError:  # Busy: the last of them are still dying.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
