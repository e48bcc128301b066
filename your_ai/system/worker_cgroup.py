"""Give a worker a memory cgroup of its own, so that the kernel's OOM killer ends only the worker.

Its limit is below what a container has left. So the kernel kills the worker before the container
reaches its limit, where it could kill our process too: all of a container's processes if
``memory.oom.group`` is 1. The memory guard acts earlier, and this is for workers that it misses.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst ("No Internal Process Constraint",
"Delegation", ``memory.oom.group``) and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from your_ai.system import cgroups
from your_ai.system.cgroups import MemoryCgroup
from your_ai.units import MB

RESERVE_BYTES = 128 * MB
"""What the container keeps when the worker reaches its limit.

It is less than what raises the alarm, which is at least 256 MB, so the memory guard acts first. If
other processes of the container grow by more than this during a trial, the container can get full.
The worker's limit does not rise when others free memory later; what it needs fits from the start.
"""

_REMOVE_ATTEMPTS = 100

OURS = "your_ai-parent"
"""The name of the cgroup that our process moves to on v2."""

_WORKER = re.compile(r"your_ai-worker-(\d+)-")


@contextlib.contextmanager
def created() -> Iterator[MemoryCgroup | None]:
    """Create a cgroup for a worker, and remove it after the worker has ended.

    ``None`` if our own cgroup has no limit, or no cgroup may be created in it: most containers
    mount the hierarchy read-only.
    """
    cgroup = None
    with contextlib.suppress(OSError):
        cgroup = _create()
    try:
        yield cgroup
    finally:
        if cgroup is not None:
            _remove(cgroup.folder)


def _create() -> MemoryCgroup | None:
    own = cgroups.of_process(os.getpid())
    room = own.room() if own else None
    # An ancestor that accounts our memory is not ours: there we would escape from limits below it.
    if own is None or room is None or os.getpid() not in own.members():
        return None
    home = own.folder if own.version == 1 else _prepare(own)
    if home is None:
        return None
    _remove_leftovers(home)
    folder = tempfile.mkdtemp(prefix=f"your_ai-worker-{os.getpid()}-", dir=home)
    cgroup = MemoryCgroup(own.version, Path(folder))
    try:
        cgroup.set_limit(max(0, room.left - RESERVE_BYTES))
    except OSError:
        _remove(cgroup.folder)
        raise
    return cgroup


def _prepare(own: MemoryCgroup) -> Path | None:
    """Return the v2 cgroup in which workers' cgroups can be created; ``None`` if that is not ours.

    A v2 cgroup can limit its children only if it contains no processes itself, so our process moves
    to a child first. This is done only at the root of a cgroup namespace, which is a container's
    own. Elsewhere systemd owns the hierarchy and would lose track of a process that moved. A
    container's other processes are not moved either. v1 has no such rule.
    """
    if own.folder.name == OURS:  # moved for an earlier worker
        return own.folder.parent
    children = psutil.Process().children(recursive=True)  # such as the one that prevents sleep
    mine = {os.getpid(), *(child.pid for child in children)}
    if not cgroups.is_namespace_root() or not own.members() <= mine:
        return None
    ours = MemoryCgroup(2, own.folder / OURS)
    ours.folder.mkdir(exist_ok=True)
    _move(own, ours)
    try:
        (own.folder / "cgroup.subtree_control").write_text("+memory")
    except OSError:  # another process has started here in the meantime
        _move(ours, own)
        _remove(ours.folder)
        raise
    return own.folder


def _move(source: MemoryCgroup, target: MemoryCgroup) -> None:
    for pid in source.members():
        target.add(pid)


def _remove_leftovers(home: Path) -> None:
    """Remove the cgroups of processes that were killed, and ours that could not be removed yet."""
    for folder in home.iterdir():
        found = _WORKER.match(folder.name)
        if found and (int(found[1]) == os.getpid() or not psutil.pid_exists(int(found[1]))):
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a cgroup; wait a moment for the last processes in it, which are still ending."""
    for _ in range(_REMOVE_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.01)
                continue
        return
