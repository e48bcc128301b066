"""Put files and folders on the disk itself, so that they survive a power cut.

Imports only the standard library, because parent and worker both import this module.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_CANNOT_FLUSH = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES})
"""Errors of a folder that cannot be flushed: on some network file systems, or if not readable."""


_NO_FULL_FLUSH = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY})
"""Errors of file systems without F_FULLFSYNC: SMB and NTFS, WebDAV, and ZFS (libuv #2135)."""


def sync(descriptor: int) -> None:
    """Flush an open file to the disk itself; on macOS, fsync does not guarantee that (fcntl(2)).

    Another error of F_FULLFSYNC is not ignored: after EIO, a second flush may succeed although data
    was lost.
    """
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in _NO_FULL_FLUSH:
                raise
    os.fsync(descriptor)


def sync_file(path: Path) -> None:
    """Flush the content of the file at ``path``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush the entries of ``folder``: without that, a new or renamed file may be lost."""
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise


def replace(temporary: Path, target: Path) -> None:
    """Rename a complete file to ``target``, in the same folder, durably.

    After a power cut, ``target`` has either its old content or all of the new one.
    """
    sync_file(temporary)
    rename(temporary, target)


def rename(flushed: Path, target: Path) -> None:
    """Rename a file that has been flushed to ``target``, in the same folder, durably."""
    flushed.replace(target)
    sync_folder(target.parent)


def make_folder(folder: Path, mode: int = 0o777) -> list[Path]:
    """Create ``folder`` and its missing parents durably; return those created, outermost first.

    ``mode`` is that of ``folder``. Nothing is left if it cannot be created.
    """
    created = [] if folder.parent.exists() else make_folder(folder.parent)
    try:
        folder.mkdir(mode)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return created
    except OSError:
        remove_empty(created)
        raise
    sync_folder(folder.parent)
    return [*created, folder]


def remove_empty(created: Sequence[Path]) -> None:
    """Remove the folders that `make_folder` created, if they are empty."""
    for folder in reversed(created):
        with contextlib.suppress(OSError):
            folder.rmdir()
