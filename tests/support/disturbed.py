"""Runs ``your_ai train`` with a worker and a memory guard that disturb it once.

    python -m tests.support.disturbed alarm|hang RUN_DIR ITERATION ARGUMENTS...

At the iteration, the guard ends the worker (``alarm``) or the worker hangs (``hang``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.fakes.hanging_training import HANG_AT
from tests.support.workspace import reported
from your_ai import cli
from your_ai.supervision import supervisor
from your_ai.supervision.supervisor import Limits
from your_ai.system.memory import MachineMemory
from your_ai.training import runner

STALL_SECONDS = 12.0
"""Longer than importing MLX takes on a busy machine, during which there is no event."""


class Guard:
    """Raises an alarm once, when a training has reported an iteration."""

    def __init__(self, run_dir: Path, iteration: int) -> None:
        self._run_dir, self._iteration = run_dir, iteration
        self._is_done = False

    def alarm(self, _recent: Sequence[MachineMemory]) -> str | None:
        if self._is_done or max(reported(self._run_dir), default=0) < self._iteration:
            return None
        self._is_done = True
        return "too little left"


def main() -> None:
    kind, run_dir, iteration, *sys.argv[1:] = sys.argv[1:]
    defaults: dict[str, Any] = {}
    if kind == "alarm":
        defaults["alarm"] = Guard(Path(run_dir), int(iteration)).alarm
    else:
        os.environ[HANG_AT] = iteration
        worker = (sys.executable, "-m", "tests.support.fakes.hanging_training")
        defaults["command"] = worker
    supervise: Any = supervisor.supervise  # no option changes these defaults
    supervise.__kwdefaults__.update(defaults)
    module: Any = runner
    module.Limits = partial(Limits, stall=STALL_SECONDS)
    cli.main()


if __name__ == "__main__":
    main()
