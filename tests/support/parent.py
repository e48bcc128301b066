"""A parent in a process of its own, for the tests in which it is the one in danger.

    python -m tests.support.parent LOG STEPS BALLAST_MIB COMMAND... <request

Prints how the trial ended, as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.support.trials import PATIENT
from your_ai.supervision.outcome import classify
from your_ai.supervision.supervisor import supervise
from your_ai.supervision.trial_log import TrialLog


def main() -> None:
    log, steps, ballast_mib, *command = sys.argv[1:]
    # Written to, so that it is resident: the kernel counts what is used, not what is reserved.
    ballast = b"x" * (int(ballast_mib) * 2**20)
    request = sys.stdin.buffer.readline()
    seen = supervise(request, log=TrialLog(Path(log)), limits=PATIENT, command=command)
    outcome = asdict(classify(seen, int(steps)))
    answer = {**outcome, "returncode": seen.returncode, "ballast": len(ballast)}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
