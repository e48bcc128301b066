"""Keep the machine awake during a run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def kept_awake() -> Iterator[None]:
    """Keep the machine, but not its display, from going to sleep, if the system supports it.

    The helper processes end with this process, even if it is killed: caffeinate on macOS watches
    it, and systemd-inhibit runs ``cat``, which ends when its stdin is closed.
    """
    with contextlib.ExitStack() as helpers:
        for command in _commands():
            with contextlib.suppress(OSError):  # the helper is not installed
                helpers.enter_context(_running(command))
        yield


def _commands() -> list[list[str]]:
    if sys.platform == "darwin":
        return [["caffeinate", "-i", "-w", str(os.getpid())]]
    # One command for each kind: in ssh sessions and cron jobs, logind lets users block "idle" but
    # not "sleep" (inhibit-block-* in org.freedesktop.login1.policy), and rejects both together.
    inhibit = ["--who=your_ai", "--why=measuring", "--mode=block", "cat"]
    return [["systemd-inhibit", f"--what={what}", *inhibit] for what in ("idle", "sleep")]


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # or Ctrl-C at the terminal would end it before the run
    ) as helper:
        try:
            yield
        finally:
            helper.kill()
