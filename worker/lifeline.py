"""Ends the worker when its parent ends."""

from __future__ import annotations

import os
import threading
from typing import BinaryIO


def hold(lifeline: BinaryIO) -> None:
    """Exit as soon as the parent's end of ``lifeline`` closes, for example because it was killed.

    A daemon thread reads the raw descriptor, because the interpreter aborts at exit if a daemon
    thread holds a buffer's lock. ``os._exit`` works even if the main thread hangs inside MLX.
    """

    def wait_for_end() -> None:
        while os.read(lifeline.fileno(), 2**12):
            pass
        os._exit(1)

    threading.Thread(target=wait_for_end, name="lifeline", daemon=True).start()
