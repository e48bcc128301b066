"""``python -P -m worker``: the lifeline first, then the spec in, the events out."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import resource
import sys
from pathlib import Path

from worker import lifeline
from worker.events import EventPipe
from worker.protocol.codec import decode_request
from worker.protocol.messages import (
    EVENTS_FD_FLAG,
    PROBE_FLAG,
    TRAIN_FLAG,
    ProbeRequest,
    Started,
    TrainingRequest,
    TrialRequest,
)


def main() -> None:
    """Run the one trial, probe or training that the first line on stdin asks for."""
    parser = argparse.ArgumentParser(prog="python -P -m worker", description=__doc__)
    parser.add_argument(EVENTS_FD_FLAG, type=int, required=True, dest="events_fd")
    parser.add_argument(PROBE_FLAG, action="store_true", dest="probe")
    parser.add_argument(TRAIN_FLAG, action="store_true", dest="train")
    arguments = parser.parse_args()
    # A crash inside MLX leaves its Python stack in the log; the signal is raised again afterwards.
    faulthandler.enable()
    # No core dump: tens of GB on the disk, and minutes of silence while they are written.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _offer_to_the_oom_killer()
    request = sys.stdin.buffer.readline()
    lifeline.hold(sys.stdin.buffer)
    events = EventPipe(arguments.events_fd)
    events.send(Started(at=events.now(), pid=os.getpid()))
    # Everything heavy is imported from here on, under the lifeline.
    if arguments.probe:
        from worker import probe

        probe.run(decode_request(ProbeRequest, request), events)
    if arguments.train:
        from worker import finetune

        finetune.run(decode_request(TrainingRequest, request), events)
    from worker import trial

    trial.run(decode_request(TrialRequest, request), events)


def _offer_to_the_oom_killer() -> None:
    """When Linux must kill something for memory, it shall be the worker, not the parent."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
