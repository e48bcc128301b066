"""Linux: the kernel's own counts of the processes that it killed for want of memory.

A worker that died of SIGKILL was an OOM for certain only if the count of its memory cgroup rose.
So look up the counter while the worker lives (a dead process's cgroup is no longer shown), read it
then, and read it again after the death.

Sources: cgroups(7), proc_pid_mountinfo(5), proc_vmstat(5), and the kernel's
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

_PROC = Path("/proc")
_COUNTER_FILES = {1: "memory.oom_control", 2: "memory.events"}
# Beside each counter: the limit, what is used, and what counts of all below begin with in the stat.
_LEVEL_FILES = {
    "memory.oom_control": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    "memory.events": ("memory.max", "memory.current", ""),
}


@dataclass(frozen=True)
class Membership:
    """The memory cgroup that a process is in, as /proc/<pid>/cgroup shows it.

    Attributes:
        version: 1 where the memory controller has a hierarchy of its own, 2 for the unified one.
        path: The cgroup, from the root of the reader's cgroup namespace; `..` leads out of it.
    """

    version: Literal[1, 2]
    path: PurePosixPath


@dataclass(frozen=True)
class CgroupMount:
    """One place where a hierarchy that may account memory can be read.

    Attributes:
        version: 1 for a mount of the v1 memory controller, 2 for one of the unified hierarchy.
        root: The cgroup that is seen at the mount point, in the terms of `Membership.path`.
        point: The directory where it is seen.
    """

    version: Literal[1, 2]
    root: PurePosixPath
    point: Path


def oom_counter_path(pid: int, *, proc: Path = _PROC) -> Path | None:
    """Find the file that counts the kernel's OOM kills in a living process's memory cgroup.

    Where a cgroup namespace hides the process's place, this is the counter of the mount's root.

    Args:
        pid: The process.
        proc: Where procfs is mounted.

    Returns:
        A `memory.oom_control` (v1) or `memory.events` (v2), or None: the process is gone, or this
        system does not account memory by cgroup, or not where this process can see it.
    """
    cgroups = _read(proc / str(pid) / "cgroup")
    mountinfo = _read(proc / "self" / "mountinfo")
    if cgroups is None or mountinfo is None:
        return None
    membership = parse_membership(cgroups)
    if membership is None:
        return None
    candidates = counter_candidates(membership, parse_mounts(mountinfo))
    # os.path, because Path.is_file raises where a directory may not be searched.
    return next((path for path in candidates if os.path.isfile(path)), None)  # noqa: PTH113


def read_oom_kills(path: Path) -> int | None:
    """Read how many processes the kernel has OOM-killed in a cgroup.

    A v1 count is the cgroup's own; a v2 count includes the cgroups below it.

    Args:
        path: What `oom_counter_path` answered.

    Returns:
        The count since the cgroup was made, or None where the file is gone or has no such count
        (Linux before 4.13).
    """
    return _read_count(path)


def machine_oom_kills(*, proc: Path = _PROC) -> int | None:
    """Read how many processes the kernel has OOM-killed on the whole machine since it started.

    This includes kills inside any cgroup, other containers' too, so that its rise alone does not
    say who died. None where the kernel does not tell.
    """
    return _read_count(proc / "vmstat")


def memory_limit(pid: int, *, proc: Path = _PROC) -> int | None:
    """Read how much memory a process's cgroup may use, a container's limit usually, in bytes.

    None where there is no limit, or none that this process can see. v1 writes the least of all the
    cgroups above into one file; on v2 each has its own. The largest v1 limit means none.
    """
    counter = oom_counter_path(pid, proc=proc)
    if counter is None:
        return None
    if counter.name == _COUNTER_FILES[1]:
        return _limit(_read(counter.parent / "memory.stat"), "hierarchical_memory_limit")
    limits = (_limit(_read(above / "memory.max")) for above in counter.parents)
    return min((limit for limit in limits if limit is not None), default=None)


def memory_left(pid: int, *, proc: Path = _PROC) -> int | None:
    """Read how much more memory a process's cgroup may use, page cache that can go given back.

    None where there is no limit, or none that this process can see. Each cgroup above may have a
    limit, and others below it that use some of that too: the least that is left anywhere counts.
    """
    counter = oom_counter_path(pid, proc=proc)
    if counter is None:
        return None
    lefts = (_left(above, _LEVEL_FILES[counter.name]) for above in counter.parents)
    return min((left for left in lefts if left is not None), default=None)


def _left(cgroup: Path, names: tuple[str, str, str]) -> int | None:
    limit_name, usage_name, prefix = names
    limit, usage = _limit(_read(cgroup / limit_name)), _limit(_read(cgroup / usage_name))
    if limit is None or usage is None:
        return None
    stat = _read(cgroup / "memory.stat")
    cache = [_limit(stat, f"{prefix}{list_}_file") or 0 for list_ in ("active", "inactive")]
    return max(0, limit - max(0, usage - sum(cache)))


def _limit(text: str | None, key: str | None = None) -> int | None:
    for line in (text or "").splitlines():
        match line.split():
            case [name, value] if name == key and value.isdecimal():
                return int(value)
            case [value] if key is None and value.isdecimal():
                return int(value)
    return None


def parse_membership(text: str) -> Membership | None:
    """Read from a /proc/<pid>/cgroup which cgroup the process's memory is charged to."""
    unified = None
    for line in text.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            # In a hybrid set-up a controller that v1 has is not available to v2.
            return Membership(1, PurePosixPath(path))
        if hierarchy == "0":
            unified = Membership(2, PurePosixPath(path))
    return unified


def parse_mounts(text: str) -> tuple[CgroupMount, ...]:
    """Read from a /proc/<pid>/mountinfo where the memory controller can be seen."""
    mounts = (_parse_mount(line) for line in text.splitlines())
    return tuple(mount for mount in mounts if mount is not None)


def parse_oom_kills(text: str) -> int | None:
    """Read the `oom_kill` count, which memory.oom_control, memory.events and vmstat write alike."""
    for line in text.splitlines():
        match line.split():
            case ["oom_kill", count] if count.isdecimal():
                return int(count)
    return None


def counter_candidates(membership: Membership, mounts: Sequence[CgroupMount]) -> tuple[Path, ...]:
    """List where a process's counter may be, the nearest first; the first that exists is it."""
    visible = [mount for mount in mounts if mount.version == membership.version]
    if not visible:
        return ()
    mount = max(visible, key=lambda mount: _nearness(mount, membership))
    name = _COUNTER_FILES[membership.version]
    if not membership.path.is_relative_to(mount.root):
        return (mount.point / name,)
    below = membership.path.relative_to(mount.root)
    if ".." in below.parts:  # Outside of everything that this process can see.
        return ()
    # Without the controller enabled a v2 cgroup has no counter: its memory is then charged to the
    # nearest ancestor that has one, and counts include what happens below. On v1 every cgroup has
    # a counter, of its own kills only.
    above = below.parents if membership.version == 2 else (PurePosixPath(),)
    return tuple(dict.fromkeys(mount.point / place / name for place in (below, *above)))


def _nearness(mount: CgroupMount, membership: Membership) -> int:
    """Rank a mount: the closer above the cgroup its root is, the better; -1 where it is not."""
    above = membership.path.is_relative_to(mount.root)
    return len(mount.root.parts) if above else -1


def _parse_mount(line: str) -> CgroupMount | None:
    # "36 35 98:0 ROOT POINT OPTIONS [optional fields] - TYPE SOURCE SUPER_OPTIONS"
    before, _, after = line.partition(" - ")
    head, tail = before.split(), after.split()
    if len(head) < 5 or len(tail) < 3:
        return None
    root, point = PurePosixPath(_unescape(head[3])), Path(_unescape(head[4]))
    if tail[0] == "cgroup2":
        return CgroupMount(2, root, point)
    if tail[0] == "cgroup" and "memory" in tail[2].split(","):
        return CgroupMount(1, root, point)
    return None


def _unescape(field: str) -> str:
    r"""Undo mountinfo's escapes: a space in a path is written \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _read_count(path: Path) -> int | None:
    text = _read(path)
    return None if text is None else parse_oom_kills(text)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
