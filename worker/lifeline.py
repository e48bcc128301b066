"""No worker outlives its parent."""

from __future__ import annotations

import os
import threading
from typing import BinaryIO


def hold(lifeline: BinaryIO) -> None:
    """End this process as soon as the parent's end of ``lifeline`` closes, however it came to.

    A daemon thread blocks in ``read``: the kernel closes a dead parent's descriptors, even after
    SIGKILL, and ``os._exit`` needs neither the main thread nor a clean MLX. It reads past the
    buffer, whose lock the interpreter would abort over, should the main thread end in an exception.
    """

    def wait_for_end() -> None:
        while os.read(lifeline.fileno(), 2**12):  # not by way of the buffer, see above
            pass
        os._exit(1)

    threading.Thread(target=wait_for_end, name="lifeline", daemon=True).start()
