"""``python -P -m worker``: read one request from stdin, send events, exit."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import resource
import sys
import traceback
from pathlib import Path

from worker import lifeline
from worker.events import EventPipe
from worker.protocol.codec import decode_request
from worker.protocol.messages import (
    EVENTS_FD_FLAG,
    Failed,
    FinalEvent,
    Phase,
    ProbeRequest,
    Started,
    TrainingRequest,
    TrialRequest,
)


def main() -> None:
    """Serve the request on the first line of stdin."""
    parser = argparse.ArgumentParser(prog="python -P -m worker", description=__doc__)
    parser.add_argument(EVENTS_FD_FLAG, type=int, required=True, dest="events_fd")
    arguments = parser.parse_args()
    _prepare_for_death()
    line = sys.stdin.buffer.readline()
    lifeline.hold(sys.stdin.buffer)
    events = EventPipe(arguments.events_fd)
    events.send(Started(at=events.now(), pid=os.getpid()))
    request = decode_request(line)
    # Import nothing heavy before this line: the lifeline must be held first.
    if isinstance(request, ProbeRequest):
        from worker import probe

        probe.run(request, events)
    events.finish(_run(request, events))


def _prepare_for_death() -> None:
    # A crash inside MLX leaves its Python stack in the log; the signal is raised again afterwards.
    faulthandler.enable()
    # A core dump would write tens of GB and delay the end by minutes.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # If Linux must kill a process for memory, it should be the worker, not the parent.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _run(request: TrialRequest | TrainingRequest, events: EventPipe) -> FinalEvent:
    """Return the final event; an exception becomes `Failed`, with its traceback in the log."""
    events.enter(Phase.IMPORT)
    try:
        if isinstance(request, TrainingRequest):
            from worker import finetune

            return finetune.run(request, events)
        from worker import trial

        return trial.run(request, events)
    except Exception as error:  # noqa: BLE001 - the parent classifies every failure
        traceback.print_exc()
        return Failed(events.now(), events.phase, type(error).__name__, str(error))


if __name__ == "__main__":
    main()
