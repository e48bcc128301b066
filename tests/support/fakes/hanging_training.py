"""The real worker, except that it hangs at the next iteration if there is a file called ``hang``.

Like a worker that waits for a GPU, it still sends heartbeats.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from worker import __main__ as worker


def hang_if_asked() -> None:
    from worker import finetune

    loop_class: Any = finetune.TrainingLoop
    validate = loop_class._validate

    def wrapper(loop: Any) -> None:
        file = Path("hang")
        if file.exists():
            file.unlink()
            while True:
                signal.pause()
        validate(loop)

    loop_class._validate = wrapper


if __name__ == "__main__":
    hang_if_asked()
    worker.main()
