"""Fake workers that crash or fail. Each function is one way to end."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback

from tests.support.fakes.reporting import Reporter, run_one_of
from worker.protocol.messages import Failed, Phase

METAL_OOM = (
    "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] Command "
    "buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
)

STEPS = 3
"""Relaxed steps that these workers are asked to do."""


def abort_with_metal_message(reporter: Reporter) -> None:
    faulthandler.enable()  # as in the worker: its stack trace follows Metal's message
    reporter.train(1)
    os.write(2, f"{METAL_OOM}\n".encode())
    os.abort()


def fail_with_cuda_message(reporter: Reporter) -> None:
    _fail(reporter, "cudaMallocAsync(&data, size, stream) failed: out of memory")


def fail_with_malloc_message(reporter: Reporter) -> None:
    _fail(reporter, "[malloc] Unable to allocate 1234567 bytes.")


def _fail(reporter: Reporter, message: str) -> None:
    """Report an exception raised by MLX, as the real worker does."""
    reporter.start()
    reporter.send(Failed(reporter.now(), Phase.TIGHT, "RuntimeError", message))
    sys.exit(1)


def abort_without_message(reporter: Reporter) -> None:
    reporter.train(1)
    os.abort()


def segfault(reporter: Reporter) -> None:
    reporter.train(1)
    os.kill(os.getpid(), signal.SIGSEGV)


def pass_and_segfault(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.send(reporter.passed())
    os.kill(os.getpid(), signal.SIGSEGV)


def pass_without_all_steps(reporter: Reporter) -> None:
    reporter.train(STEPS - 1)
    reporter.send(reporter.passed())


def exit_without_a_result(reporter: Reporter) -> None:
    reporter.train(STEPS)


def exit_with_a_traceback(reporter: Reporter) -> None:
    reporter.start()
    try:
        raise RuntimeError("the disk went away")
    except RuntimeError:
        traceback.print_exc()
    sys.exit(3)


def use_up_memory(reporter: Reporter) -> None:
    """Allocate 1 GB/s without end, from when the request has arrived."""
    sys.stdin.readline()
    reporter.start()
    began, blocks = time.monotonic(), []
    while True:
        blocks.append(b"x" * (4 << 20))
        ahead = len(blocks) / 256 - (time.monotonic() - began)
        time.sleep(max(0, ahead))


def exit_before_reading(reporter: Reporter) -> None:
    reporter.say("cannot start")
    os.close(0)
    sys.exit(1)


if __name__ == "__main__":
    run_one_of(
        abort_with_metal_message,
        fail_with_cuda_message,
        fail_with_malloc_message,
        abort_without_message,
        segfault,
        pass_and_segfault,
        pass_without_all_steps,
        exit_without_a_result,
        exit_with_a_traceback,
        use_up_memory,
        exit_before_reading,
    )
