"""Keep the machine from falling asleep during a run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def kept_awake() -> Iterator[None]:
    """Keep the machine, not its display, from going to sleep by itself, where that can be asked.

    The helpers end with this process even when it is killed: macOS's caffeinate watches it, and
    systemd's inhibitor lasts as long as ``cat`` has an open stdin.
    """
    with contextlib.ExitStack() as helpers:
        for command in _commands():
            with contextlib.suppress(OSError):  # not installed, so nothing here blocks sleep
                helpers.enter_context(_running(command))
        yield


def _commands() -> list[list[str]]:
    if sys.platform == "darwin":
        return [["caffeinate", "-i", "-w", str(os.getpid())]]
    # One for each kind: over ssh and in cron jobs logind lets everyone block idle and nobody block
    # sleep (inhibit-block-* in org.freedesktop.login1.policy), and refuses both when asked at once.
    inhibit = ["--who=your_ai", "--why=measuring", "--mode=block", "cat"]
    return [["systemd-inhibit", f"--what={what}", *inhibit] for what in ("idle", "sleep")]


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # or the terminal's Ctrl-C would end it before the run
    ) as helper:
        try:
            yield
        finally:
            helper.kill()
