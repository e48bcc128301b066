"""``python -P -m worker``: reads one request from stdin, sends events and exits."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

from worker import lifeline, stand_ins
from worker.events import EventPipe
from worker.protocol.codec import decode_request
from worker.protocol.messages import EVENTS_FD_FLAG, Failed, FinalEvent, Phase, Started
from worker.protocol.requests import LengthsRequest, ProbeRequest, TrainingRequest, TrialRequest


def main() -> None:
    """Serve the request in the first line of stdin."""
    parser = argparse.ArgumentParser(prog="python -P -m worker", description=__doc__)
    parser.add_argument(EVENTS_FD_FLAG, type=int, required=True, dest="events_fd")
    arguments = parser.parse_args()
    sys.stdout, sys.stderr = _log(sys.stdout), _log(sys.stderr)
    _prepare_for_crashes()
    line = sys.stdin.buffer.readline()
    lifeline.hold(sys.stdin.buffer)
    events = EventPipe(arguments.events_fd)
    events.send(Started(at=events.now(), pid=os.getpid()))
    request = decode_request(line)
    # Slow imports come only after this line, when the lifeline is already watched.
    if isinstance(request, ProbeRequest):
        stand_ins.import_mlx_lm()
        from worker import probe

        probe.run(request, events)
    events.finish(_run(request, events))


class _LogFile(io.FileIO):
    """A log that may be on a full or failing disk. What cannot be written to it is dropped."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content) or 0
        except OSError:
            return len(content)


def _log(stream: TextIO) -> TextIO:
    """Return the stream, except that printing never raises an error, which would end a training."""
    file = _LogFile(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(file, stream.encoding, "backslashreplace", write_through=True)


def _prepare_for_crashes() -> None:
    # If MLX crashes, write the Python stack to the log. The process still dies of the signal.
    faulthandler.enable()
    # Writing a core dump of tens of GB would delay the exit by minutes.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # If Linux runs out of memory, it should kill the worker, not the parent.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _run(request: TrialRequest | LengthsRequest | TrainingRequest, events: EventPipe) -> FinalEvent:
    """Return the final event. An exception becomes `Failed`, and its traceback goes to the log."""
    events.enter(Phase.IMPORT)
    try:
        if isinstance(request, TrainingRequest):
            from worker import finetune

            return finetune.run(request, events)
        if isinstance(request, LengthsRequest):
            from worker import lengths

            lengths.run(request, events)
        stand_ins.import_mlx_lm()
        from worker import trial

        return trial.run(request, events)
    except Exception as error:  # noqa: BLE001 - the parent classifies every failure
        traceback.print_exc()
        return Failed(events.now(), events.phase, type(error).__name__, str(error))


if __name__ == "__main__":
    main()
