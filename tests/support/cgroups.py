"""Real memory cgroups for tests, in which the kernel kills processes that use too much memory.

    with memory_cgroup(64 * MIB) as cgroup:
        parent = subprocess.Popen(cgroup.command([sys.executable, "-m", "your_ai", "benchmark"]))
        # or, for a running process:
        cgroup.add(worker.pid)
        # or, in a Python script:
        subprocess.Popen([sys.executable, "-c", cgroup.join_code + script])

Child processes of members are members, too. When the block ends, all members are killed and the
cgroup is removed.
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

from tests.support import root_only

MIB = 2**20

_ROOT = Path("/sys/fs/cgroup")
_CLEANUP_SECONDS = 10.0
_MOUNT = f'umount -l {_ROOT} && mount -t cgroup2 cgroup2 {_ROOT} && exec "$@"'
_NAMESPACE = ["unshare", "--cgroup", "--mount", "sh", "-c", _MOUNT, "sh"]


class CgroupUnavailableError(Exception):
    """No memory cgroup can be created here; the message says why."""


@dataclass(frozen=True)
class MemoryCgroup:
    """A memory cgroup created by a test.

    Attributes:
        directory: The cgroup's directory.
        parent: The directory of the cgroup above it.
        version: The cgroup version, 1 or 2.
    """

    directory: Path
    parent: Path
    version: Literal[1, 2]

    def kill_as_a_whole(self) -> None:
        """Let the kernel's OOM killer kill all processes at once, like Kubernetes; v2 only."""
        if self.version == 2:
            (self.directory / "memory.oom.group").write_text("1")

    def let_join(self) -> None:
        """Let processes join again after the product has created cgroups here, as v2 requires."""
        if self.version == 2:
            (self.directory / "cgroup.subtree_control").write_text("-memory")

    @property
    def workers(self) -> list[Path]:
        """The cgroups that the product has created for workers."""
        return sorted(self.directory.glob("your_ai-worker-*"))

    @property
    def was_full(self) -> bool:
        """Whether its own limit was ever reached; limits of cgroups below it do not count."""
        if self.version == 1:
            names = ("memory.max_usage_in_bytes", "memory.limit_in_bytes")
            peak, limit = (int((self.directory / name).read_text()) for name in names)
            return peak >= limit
        return "max 0\n" not in (self.directory / "memory.events.local").read_text()

    @property
    def counter(self) -> Path:
        """The file in which the kernel counts the processes that it killed in this cgroup."""
        return self.directory / ("memory.oom_control" if self.version == 1 else "memory.events")

    @property
    def join_code(self) -> str:
        """Python statements that move the process that runs them into this cgroup."""
        procs = str(self.directory / "cgroup.procs")
        # 0 means the writing process, so its pid in this namespace does not matter.
        return f"with open({procs!r}, 'w') as procs: procs.write('0')\n"

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return a command that joins this cgroup and then runs ``argv`` in the same process.

        On v2 the process is also in a cgroup namespace, so it sees only this cgroup and those below
        it, as in a container.
        """
        code = self.join_code + "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
        namespace = [] if self.version == 1 else _NAMESPACE
        return [sys.executable, "-c", code, *namespace, *argv]

    def add(self, pid: int) -> None:
        """Move a running process here. Its earlier allocations stay charged to its old cgroup."""
        (self.directory / "cgroup.procs").write_text(str(pid))

    def members(self) -> frozenset[int]:
        """Return the pids of the processes in this cgroup."""
        return frozenset(_members(self.directory))


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[MemoryCgroup]:
    """Create a memory cgroup below this process's own, or skip the test if that is impossible.

    Args:
        limit_bytes: Limit for all its processes together, including page cache. There is no swap.
    """
    try:
        cgroup = _create(limit_bytes)
    except CgroupUnavailableError as unavailable:
        root_only.skip(str(unavailable))
    try:
        yield cgroup
    finally:
        _remove(cgroup)


def _create(limit_bytes: int) -> MemoryCgroup:
    if os.geteuid() != 0:
        raise CgroupUnavailableError("creating a memory cgroup requires root")
    version, parent = _parent()
    directory = parent / f"your_ai-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    cgroup = MemoryCgroup(directory, parent, version)
    try:
        directory.mkdir()
    except OSError as error:
        raise CgroupUnavailableError(f"cannot create a cgroup in {parent}: {error}") from error
    try:
        _limit(cgroup, limit_bytes)
    except BaseException as error:
        directory.rmdir()
        if isinstance(error, OSError):
            raise CgroupUnavailableError(f"cannot limit {directory}: {error}") from error
        raise
    return cgroup


def _parent() -> tuple[Literal[1, 2], Path]:
    """Return cgroup version and parent directory, without using the tested code."""
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
    raise CgroupUnavailableError("this process is in no cgroup with the memory controller")


def _existing(mount: Path, path: str) -> Path:
    directory = mount / path.lstrip("/")
    if directory.is_dir():
        return directory
    if (mount / "cgroup.procs").exists():  # a cgroup namespace mounts this process's own cgroup
        return mount
    raise CgroupUnavailableError(f"{directory} does not exist")


def _delegating(directory: Path) -> Path:
    """Return the nearest v2 cgroup that enables the memory controller for its children.

    A cgroup that contains processes cannot do that (cgroups(7), "no internal processes"), so this
    is usually the cgroup above ``directory``.
    """
    for candidate in (directory, *directory.parents):
        if candidate == _ROOT.parent:
            break
        with suppress(OSError):
            if "memory" in (candidate / "cgroup.subtree_control").read_text().split():
                return candidate
    raise CgroupUnavailableError("no cgroup above this process enables the memory controller")


def _limit(cgroup: MemoryCgroup, limit_bytes: int) -> None:
    if cgroup.version == 1:
        (cgroup.directory / "memory.limit_in_bytes").write_text(str(limit_bytes))
        swap, swap_limit = cgroup.directory / "memory.memsw.limit_in_bytes", limit_bytes
    else:
        (cgroup.directory / "memory.max").write_text(str(limit_bytes))
        swap, swap_limit = cgroup.directory / "memory.swap.max", 0
    if swap.exists():  # missing if the kernel does not account for swap
        swap.write_text(str(swap_limit))


def _members(directory: Path) -> list[int]:
    return [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]


def _remove(cgroup: MemoryCgroup) -> None:
    """Kill all members, also of cgroups below it, and remove the cgroup.

    The test process and its parents are moved out.
    """
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    deadline = time.monotonic() + _CLEANUP_SECONDS
    for directory in (*filter(Path.is_dir, cgroup.directory.iterdir()), cgroup.directory):
        while True:
            for pid in _members(directory):
                if pid in spared:
                    (cgroup.parent / "cgroup.procs").write_text(str(pid))
                else:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            try:
                directory.rmdir()
            except OSError:  # busy, because the last members are still ending
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                break
