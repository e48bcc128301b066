"""The real worker, except that it hangs before an iteration, unless it resumes a training.

Like a worker that waits for a GPU, it still sends heartbeats.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from worker import __main__ as worker

HANG_AT = "YOUR_AI_TEST_HANG_AT"
"""The environment variable with the iteration."""


def hang_at(iteration: int) -> None:
    from worker import finetune

    loop_class: Any = finetune.TrainingLoop
    validate = loop_class._validate

    def wrapper(loop: Any) -> None:
        while loop.progress.iteration >= iteration and not loop.request.resume:
            signal.pause()
        validate(loop)

    loop_class._validate = wrapper


if __name__ == "__main__":
    hang_at(int(os.environ[HANG_AT]))
    worker.main()
