"""Supervises a worker in a separate process, for tests in which the parent may be killed.

    python -m tests.support.parent LOG STEPS BALLAST_MIB GUARD COMMAND... <request

GUARD is "guarded", or "unguarded" for a worker that is faster than the memory guard. Prints the
outcome as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.support.trials import PATIENT
from your_ai.supervision import memory_guard
from your_ai.supervision.classify import classify
from your_ai.supervision.supervisor import supervise
from your_ai.supervision.trial_log import TrialLog


def main() -> None:
    log, steps, ballast_mib, guard, *command = sys.argv[1:]
    # Write to the memory, because the kernel counts only pages that are used.
    ballast = b"x" * (int(ballast_mib) * 2**20)
    request = sys.stdin.buffer.readline()
    alarm = {"guarded": memory_guard.alarm, "unguarded": lambda *_: None}[guard]
    seen = supervise(request, log=TrialLog(Path(log)), limits=PATIENT, command=command, alarm=alarm)
    outcome = asdict(classify(seen, int(steps)))
    answer = {**outcome, "returncode": seen.returncode, "ballast": len(ballast)}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
