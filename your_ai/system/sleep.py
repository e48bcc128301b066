"""Keeps the machine from falling asleep in the middle of a run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_END_SECONDS = 5.0


@contextlib.contextmanager
def kept_awake() -> Iterator[None]:
    """While this lasts the machine does not go to sleep by itself, where it can be asked not to.

    The display may. What keeps it awake ends with this process, however that ends: macOS's
    caffeinate watches it, and systemd's inhibitor lasts as long as ``cat`` has an open stdin.
    """
    helpers = [_start(command) for command in _commands()]
    try:
        yield
    finally:
        for helper in helpers:
            if helper is not None:
                _end(helper)


def _commands() -> list[list[str]]:
    if sys.platform == "darwin":
        return [["caffeinate", "-i", "-w", str(os.getpid())]]
    # One for each: over ssh and in a cron job logind allows everyone to block idle, and nobody to
    # block sleep (inhibit-block-* in its org.freedesktop.login1.policy); who asks for both at once
    # there gets neither.
    inhibit = ["--who=your_ai", "--why=measuring", "--mode=block", "cat"]
    return [["systemd-inhibit", f"--what={what}", *inhibit] for what in ("idle", "sleep")]


def _start(command: list[str]) -> subprocess.Popen[bytes] | None:
    try:
        # In a session of its own, or the terminal's Ctrl-C would end it before the run.
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:  # not installed: then nothing here puts the machine to sleep, or nobody minds
        return None


def _end(helper: subprocess.Popen[bytes]) -> None:
    assert helper.stdin is not None
    with contextlib.suppress(OSError):
        helper.stdin.close()
    helper.terminate()
    try:
        helper.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        helper.kill()
        helper.wait()
