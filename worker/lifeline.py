"""No worker outlives its parent."""

from __future__ import annotations

import os
import threading
from typing import BinaryIO


def hold(lifeline: BinaryIO) -> None:
    """End this process as soon as the parent's end of ``lifeline`` closes, even after SIGKILL.

    A daemon thread reads the raw descriptor: the interpreter aborts at exit if a daemon thread
    holds a buffer's lock. ``os._exit`` needs neither the main thread nor a working MLX.
    """

    def wait_for_end() -> None:
        while os.read(lifeline.fileno(), 2**12):
            pass
        os._exit(1)

    threading.Thread(target=wait_for_end, name="lifeline", daemon=True).start()
