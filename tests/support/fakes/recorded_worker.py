"""Runs the real worker and also writes its events to a file, which a test can read.

    python -m tests.support.fakes.recorded_worker FILE --events-fd N ...

This process becomes the worker. A child process copies the events.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from worker.protocol.messages import EVENTS_FD_FLAG


def main() -> None:
    file, flag, fd, *rest = sys.argv[1:]
    assert flag == EVENTS_FD_FLAG
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.close(write_end)
        _copy(read_end, int(fd), Path(file))
    os.close(read_end)
    os.close(int(fd))
    os.set_inheritable(write_end, True)
    worker = [sys.executable, "-P", "-m", "worker", EVENTS_FD_FLAG, str(write_end), *rest]
    os.execv(sys.executable, worker)


def _copy(source: int, pipe: int, path: Path) -> None:
    """Copy events to the pipe, then to the file: the parent gets an event before a test sees it."""
    with path.open("ab", buffering=0) as file:
        while chunk := os.read(source, 2**16):
            os.write(pipe, chunk)
            file.write(chunk)
    os._exit(0)


if __name__ == "__main__":
    main()
