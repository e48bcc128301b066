"""Linux memory cgroups: the kernel's OOM kills, and the memory that a container may use.

A worker that died of SIGKILL was certainly killed for lack of memory only if its cgroup's count of
OOM kills rose. Find the cgroup while the worker lives: /proc no longer shows a dead process's.

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
    """What a version calls its files; ``recursive`` precedes the keys of whole subtrees."""

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
    """A cgroup that accounts memory, by its folder in a v1 or v2 hierarchy."""

    version: Version
    folder: Path

    @property
    def events(self) -> Path:
        """The file with the count of OOM kills; every cgroup that accounts memory has one."""
        return self.folder / _FILES[self.version].events

    def oom_kills(self) -> int | None:
        """How many processes the kernel has OOM-killed here; on v2 also in the cgroups below.

        ``None`` when the cgroup is gone or the kernel does not count (Linux before 4.13).
        """
        return _number(self.events, "oom_kill ")

    def limit(self) -> int | None:
        """The most bytes that processes in it may use, ``None`` when there is no visible limit."""
        if self.version == 1:  # the least of all the cgroups above, also of those that are hidden
            return _number(self.folder / "memory.stat", "hierarchical_memory_limit ")
        return _least(_number(folder / _FILES[2].limit) for folder in self._and_above())

    def left(self) -> int | None:
        """How many more bytes processes in it may use, counting page cache as free.

        ``None`` when there is no visible limit. Any cgroup above may be the tightest: it can have a
        limit that its other children use up.
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
    """The cgroup that a living process's memory is charged to, as far as it is visible.

    ``None`` when the process is gone, or its memory is not accounted where we can see it.
    """
    mounts = _text(proc / "self" / "mountinfo")
    found = candidates(_text(proc / str(pid) / "cgroup"), mounts)
    # os.path, because Path.is_file raises where a directory may not be searched.
    return next((each for each in found if os.path.isfile(each.events)), None)  # noqa: PTH113


def machine_oom_kills(*, proc: Path = _PROC) -> int | None:
    """The OOM kills since the boot, in any container; ``None`` if the kernel does not count."""
    return _number(proc / "vmstat", "oom_kill ")


def candidates(cgroup: str, mountinfo: str) -> tuple[MemoryCgroup, ...]:
    """The cgroups that a process's memory may be charged to; the first that accounts memory is it.

    ``cgroup`` is the process's /proc/<pid>/cgroup, ``mountinfo`` our own.
    """
    membership = _membership(cgroup)
    mounts = membership and _mounts(mountinfo, membership[0])
    if not membership or not mounts:
        return ()
    version, path = membership
    containing = [mount for mount in mounts if path.is_relative_to(mount[0])]
    if not containing:  # a cgroup namespace hides the process's place
        return (MemoryCgroup(version, mounts[0][1]),)
    root, point = max(containing, key=lambda mount: len(mount[0].parts))
    below = path.relative_to(root)
    if ".." in below.parts:  # outside of everything that this process can see
        return ()
    # A v2 cgroup without the memory controller accounts nothing: its memory is charged to the
    # nearest ancestor that has it. On v1 every cgroup has it.
    above = below.parents if version == 2 else (PurePosixPath(),)
    return tuple(MemoryCgroup(version, point / each) for each in dict.fromkeys((below, *above)))


def _membership(text: str) -> tuple[Version, PurePosixPath] | None:
    """The version that accounts the memory, and the path in our cgroup namespace."""
    unified: tuple[Version, PurePosixPath] | None = None
    for line in text.splitlines():
        match line.split(":", 2):
            case [_, controllers, path] if "memory" in controllers.split(","):
                # On a hybrid system, what v1 controls is not available to v2.
                return 1, PurePosixPath(path)
            case ["0", _, path]:
                unified = 2, PurePosixPath(path)
    return unified


def _mounts(text: str, version: Version) -> list[tuple[PurePosixPath, Path]]:
    """Where the version's memory accounting is mounted: the cgroup seen there, and the folder."""
    return [
        (PurePosixPath(_unescape(root)), Path(_unescape(point)))
        for root, point, kind, options in _MOUNT.findall(text)
        if kind == ("cgroup2" if version == 2 else "cgroup")
        and (version == 2 or "memory" in options.split(","))
    ]


def _unescape(field: str) -> str:
    r"""Undo mountinfo's escapes: a space in a path is written \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _number(path: Path, key: str = "") -> int | None:
    """The number on a line of its own, or behind ``key``; ``None`` where there is none."""
    found = re.search(rf"^{key}(\d+)$", _text(path), re.MULTILINE)
    return None if found is None else int(found[1])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
