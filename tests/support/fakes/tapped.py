"""The real worker, with a copy of its events in a file for the test to watch.

    python -m tests.support.fakes.tapped FILE --events-fd N ...

The process that is started becomes the worker; a child of it copies the events.
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
    """The pipe first: what the file shows, the parent can have read."""
    with path.open("ab", buffering=0) as file:
        while chunk := os.read(source, 2**16):
            os.write(pipe, chunk)
            file.write(chunk)
    os._exit(0)


if __name__ == "__main__":
    main()
