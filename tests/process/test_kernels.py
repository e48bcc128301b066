"""Compiling kernels at their first use is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from tests.support.command import ROOT
from worker.protocol.codec import decode_event
from worker.protocol.messages import Compiled

PROGRAM = """
import os, sys, time
import mlx.core as mx
from worker.events import EventPipe
from worker.kernels import Stopwatch
from worker.memory import MemoryWatch

MemoryWatch(EventPipe(int(sys.argv[1])), 2**40, 0.001).start()
compiled = mx.compile(lambda x: mx.exp(x) * x + 1)
for attempt in range(3):
    if attempt == 2:  # as after the clock was set back
        os.utime(sys.argv[2], (time.time() + 1e6, time.time() + 1e6))
    watch = Stopwatch()
    mx.eval(compiled(mx.ones(4)))
    print(*watch.seconds())
sys.stdin.read()
"""


def test_compiling_a_kernel_is_reported_and_timed(tmp_path: Path) -> None:
    """MLX saves compiled kernels in the temporary folder, which is empty here."""
    cache = tmp_path / "mlx" / metadata.version("mlx") / "cpu"
    read_end, write_end = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(write_end), str(cache)],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        pass_fds=[write_end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(write_end)
        with os.fdopen(read_end, "rb") as events:
            assert any(isinstance(decode_event(line), Compiled) for line in events)
            output, _ = process.communicate("end", timeout=60)
    first, compiling, *others = map(float, output.split())
    assert 0.5 * first < compiling <= first
    assert others[1::2] == [0, 0]
