"""Linux memory cgroups: the kernel's OOM kills, and the memory that a container may use.

If a worker died of SIGKILL, the only proof that it ran out of memory is a higher count of OOM kills
in its cgroup. Look the cgroup up while the worker lives: /proc does not show it afterwards.

Sources: cgroups(7), proc_pid_mountinfo(5), proc_vmstat(5), and the kernel's
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

_PROC = Path("/proc")

_UNLIMITED = 2**62
"""v1 has no word for "no limit": it shows 2^63 less a page."""

# "36 35 98:0 ROOT POINT OPTIONS [optional fields] - TYPE SOURCE SUPER_OPTIONS"
_MOUNT = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .*?- (\S+) \S+ (\S+)", re.MULTILINE)

Version = Literal[1, 2]


@dataclass(frozen=True, slots=True)
class _Files:
    """The names of a version's files, and the keys in them: regular expressions."""

    events: str
    limit: str
    in_force: tuple[str, str]
    """The limit as the kernel applies it: on v1 the lowest of all cgroups above, even hidden ones.
    """
    usage: str
    cache: str
    """The keys in memory.stat, for a cgroup and those below it."""
    swap: tuple[str, str]


_FILES = {
    1: _Files(
        events="memory.oom_control",
        limit="memory.limit_in_bytes",
        in_force=("memory.stat", "hierarchical_memory_limit "),
        usage="memory.usage_in_bytes",
        cache="total_(?:in)?active_file ",
        swap=("memory.stat", "total_swap "),
    ),
    2: _Files(
        events="memory.events",
        limit="memory.max",
        in_force=("memory.max", ""),
        usage="memory.current",
        cache="(?:in)?active_file ",
        swap=("memory.swap.current", ""),
    ),
}


@dataclass(frozen=True, slots=True)
class Room:
    """What a memory limit leaves, in bytes.

    Attributes:
        limit: The limit.
        left: How much more processes may use, counting the page cache as free.
        swap_used: The used swap; ``None`` if the kernel does not count it.
    """

    limit: int
    left: int
    swap_used: int | None


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """A cgroup that accounts memory: a folder in a v1 or v2 hierarchy."""

    version: Version
    folder: Path

    @property
    def events(self) -> Path:
        """The file with the number of OOM kills; every cgroup that accounts memory has one."""
        return self.folder / _FILES[self.version].events

    def oom_kills(self) -> int | None:
        """Return the number of OOM kills in this cgroup; on v2 including the cgroups below it.

        ``None`` if the cgroup is gone or the kernel does not count them (Linux before 4.13).
        """
        return _number(self.events, "oom_kill ")

    def room(self) -> Room | None:
        """Return what the limits of this cgroup and of all above leave; ``None`` without a limit.

        The others count because their other children can use up their limits. The swap is that of
        the highest one with a limit, which includes all below it.
        """
        rooms = [room for folder in self._and_above() if (room := self._room_in(folder))]
        if not rooms:
            return None
        limit, left = min(room.limit for room in rooms), min(room.left for room in rooms)
        return Room(limit, left, rooms[-1].swap_used)

    def members(self) -> set[int]:
        """Return the ids of the processes in this cgroup, without those in cgroups below it."""
        return set(_numbers(self.folder / "cgroup.procs", ""))

    def add(self, pid: int) -> None:
        """Move a process here, unless it is gone. The memory it has used so far is not moved."""
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.procs").write_text(str(pid))

    def set_limit(self, nbytes: int) -> None:
        """Limit the memory. On v2 the kernel's OOM killer then kills all processes here at once.

        So a worker does not continue without a process that it started, such as a compiler.
        """
        (self.folder / _FILES[self.version].limit).write_text(str(nbytes))
        if self.version == 2:
            (self.folder / "memory.oom.group").write_text("1")

    def is_killed_as_a_whole(self) -> bool:
        """Return whether the kernel's OOM killer kills all processes here with the first one.

        On v2 it does so if ``memory.oom.group`` is 1 here or in a cgroup above, up to the one that
        ran out of memory. Kubernetes sets it for containers (kubelet 1.28 and later).
        """
        return any(_number(folder / "memory.oom.group") == 1 for folder in self._and_above())

    def _room_in(self, folder: Path) -> Room | None:
        files = _FILES[self.version]
        limit = _number(folder / files.in_force[0], files.in_force[1])
        if limit is None or limit >= _UNLIMITED:
            return None
        usage = _number(folder / files.usage) or 0
        cache = sum(_numbers(folder / "memory.stat", files.cache))
        swap_used = _number(folder / files.swap[0], files.swap[1])
        return Room(limit, max(0, limit - max(0, usage - cache)), swap_used)

    def _and_above(self) -> tuple[Path, ...]:
        return self.folder, *self.folder.parents


def of_process(pid: int, *, proc: Path = _PROC) -> MemoryCgroup | None:
    """Return the cgroup that a living process's memory is charged to.

    ``None`` if the process is gone, or the cgroup is not visible to us.
    """
    mounts = _text(proc / "self" / "mountinfo")
    found = candidates(_text(proc / str(pid) / "cgroup"), mounts)
    # os.path, because Path.is_file raises if a directory may not be searched.
    return next((each for each in found if os.path.isfile(each.events)), None)  # noqa: PTH113


def is_namespace_root(*, proc: Path = _PROC) -> bool:
    """Return whether our v2 cgroup is the root of our cgroup namespace, as in a container.

    On a machine without namespaces that is the root of the whole hierarchy. It has no limit.
    """
    return _membership(_text(proc / "self" / "cgroup")) == (2, PurePosixPath("/"))


def machine_oom_kills(*, proc: Path = _PROC) -> int | None:
    """Return the OOM kills since the boot, in all containers; ``None`` if they are not counted."""
    return _number(proc / "vmstat", "oom_kill ")


def candidates(cgroup: str, mountinfo: str) -> tuple[MemoryCgroup, ...]:
    """Return the cgroups that a process's memory may be charged to.

    The right one is the first that accounts memory. ``cgroup`` is the text of the process's
    /proc/<pid>/cgroup, ``mountinfo`` that of our own /proc/self/mountinfo.
    """
    membership = _membership(cgroup)
    mounts = membership and _mounts(mountinfo, membership[0])
    if not membership or not mounts:
        return ()
    version, path = membership
    containing = [mount for mount in mounts if path.is_relative_to(mount[0])]
    if not containing:  # a cgroup namespace hides the process's path
        return (MemoryCgroup(version, mounts[0][1]),)
    root, point = max(containing, key=lambda mount: len(mount[0].parts))
    below = path.relative_to(root)
    if ".." in below.parts:  # outside the part of the hierarchy that we can see
        return ()
    # A v2 cgroup without the memory controller accounts nothing: its memory is charged to the
    # nearest ancestor that has it. On v1 every cgroup has it.
    above = below.parents if version == 2 else (PurePosixPath(),)
    return tuple(MemoryCgroup(version, point / each) for each in dict.fromkeys((below, *above)))


def _membership(text: str) -> tuple[Version, PurePosixPath] | None:
    """Return the version that accounts memory, and the path in our cgroup namespace."""
    unified: tuple[Version, PurePosixPath] | None = None
    for line in text.splitlines():
        match line.split(":", 2):
            case [_, controllers, path] if "memory" in controllers.split(","):
                # On a hybrid system, a controller used by v1 is not available to v2.
                return 1, PurePosixPath(path)
            case ["0", _, path]:
                unified = 2, PurePosixPath(path)
    return unified


def _mounts(text: str, version: Version) -> list[tuple[PurePosixPath, Path]]:
    """Return where a version's memory hierarchy is mounted, as (cgroup, mount point)."""
    return [
        (PurePosixPath(_unescape(root)), Path(_unescape(point)))
        for root, point, kind, options in _MOUNT.findall(text)
        if kind == ("cgroup2" if version == 2 else "cgroup")
        and (version == 2 or "memory" in options.split(","))
    ]


def _unescape(field: str) -> str:
    r"""Undo the escapes in mountinfo, where a space in a path is \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _number(path: Path, key: str = "") -> int | None:
    """Return the first of `_numbers`; ``None`` without one."""
    return next(iter(_numbers(path, key)), None)


def _numbers(path: Path, key: str) -> list[int]:
    """Return the numbers on lines by themselves or after ``key``, a regular expression."""
    found = re.findall(rf"^{key}(\d+)$", _text(path), re.MULTILINE)
    return [int(number) for number in found]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
