"""Runs ``your_ai`` with a worker and a memory guard that a test disturbs by creating files.

    python -m tests.support.disturbed ARGUMENTS...

If there is a file called ``alarm`` in the current folder, the guard ends the worker. If there is
one called ``hang``, the worker hangs at its next iteration. Both delete the file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from your_ai import cli
from your_ai.supervision import supervisor
from your_ai.supervision.supervisor import Limits
from your_ai.system.memory import MachineMemory
from your_ai.training import runner

ALARM, HANG = Path("alarm"), Path("hang")
STALL_SECONDS = 10.0
"""Longer than importing MLX takes on a busy machine, during which there is no event."""


def alarm(_recent: Sequence[MachineMemory]) -> str | None:
    if not ALARM.exists():
        return None
    ALARM.unlink()
    return "too little left"


def main() -> None:
    # The defaults of `supervise`, which no option changes.
    supervise: Any = supervisor.supervise
    supervise.__kwdefaults__.update(
        alarm=alarm, command=(sys.executable, "-m", "tests.support.fakes.hanging_training")
    )
    module: Any = runner
    module.Limits = partial(Limits, stall=STALL_SECONDS)
    cli.main()


if __name__ == "__main__":
    main()
