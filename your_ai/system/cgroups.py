"""Linux memory cgroups: the kernel's OOM kills, and the memory that a container may use.

If a worker died of SIGKILL, the only proof that it ran out of memory is a higher count of OOM kills
in its cgroup. Look the cgroup up while the worker lives: /proc does not show it afterwards.

Sources: cgroups(7), proc_pid_mountinfo(5), proc_vmstat(5), and the kernel's
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

_PROC = Path("/proc")

# "36 35 98:0 ROOT POINT OPTIONS [optional fields] - TYPE SOURCE SUPER_OPTIONS"
_MOUNT = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .*?- (\S+) \S+ (\S+)", re.MULTILINE)

Version = Literal[1, 2]


@dataclass(frozen=True, slots=True)
class _Files:
    """The names of a version's files, and the prefix of keys in memory.stat for whole subtrees."""

    events: str
    limit: str
    usage: str
    recursive: str


_FILES = {
    1: _Files("memory.oom_control", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    2: _Files("memory.events", "memory.max", "memory.current", ""),
}


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

    def limit(self) -> int | None:
        """Return the memory limit in bytes; ``None`` if no limit is visible."""
        if self.version == 1:  # the lowest limit of all cgroups above, even of hidden ones
            return _number(self.folder / "memory.stat", "hierarchical_memory_limit ")
        return _least(_number(folder / _FILES[2].limit) for folder in self._and_above())

    def left(self) -> int | None:
        """Return how many more bytes processes may use, counting the page cache as free.

        ``None`` if no limit is visible. All cgroups above are checked, because other children can
        use up their limits.
        """
        return _least(self._left_in(folder) for folder in self._and_above())

    def _and_above(self) -> tuple[Path, ...]:
        return self.folder, *self.folder.parents

    def _left_in(self, folder: Path) -> int | None:
        files = _FILES[self.version]
        limit, usage = _number(folder / files.limit), _number(folder / files.usage)
        if limit is None or usage is None:
            return None
        stat, keys = folder / "memory.stat", ("active_file ", "inactive_file ")
        cache = sum(_number(stat, files.recursive + key) or 0 for key in keys)
        return max(0, limit - max(0, usage - cache))


def of_process(pid: int, *, proc: Path = _PROC) -> MemoryCgroup | None:
    """Return the cgroup that a living process's memory is charged to.

    ``None`` if the process is gone, or the cgroup is not visible to us.
    """
    mounts = _text(proc / "self" / "mountinfo")
    found = candidates(_text(proc / str(pid) / "cgroup"), mounts)
    # os.path, because Path.is_file raises if a directory may not be searched.
    return next((each for each in found if os.path.isfile(each.events)), None)  # noqa: PTH113


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


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _number(path: Path, key: str = "") -> int | None:
    """Return the number on a line by itself or after ``key``; ``None`` without such a line."""
    found = re.search(rf"^{key}(\d+)$", _text(path), re.MULTILINE)
    return None if found is None else int(found[1])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
