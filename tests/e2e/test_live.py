"""The real command at a real terminal: what is drawn, and what remains."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import PLAIN, TIMEOUT, at_a_terminal, environment, make_model

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Session:
    """What a command wrote to its terminal, and its exit code."""

    code: int
    output: str

    @property
    def settled(self) -> str:
        """The final content of the terminal, without what was erased."""
        lines = [""]
        for part in re.split(r"(\r\n|\x1b\[1A|\x1b\[2K|\r)", self.output):
            match part:
                case "\r\n":
                    lines.append("")
                case "\x1b[1A":
                    lines.pop()
                case "\x1b[2K":
                    lines[-1] = ""
                case "\r":
                    pass
                case _:
                    lines[-1] += ESCAPE.sub("", part)
        return "\n".join(lines)


def at_terminal(
    folder: Path,
    *arguments: str | Path,
    when: Callable[[str, subprocess.Popen[bytes]], None] = lambda text, process: None,
    **env: str,
) -> Session:
    """Run ``your_ai`` at a terminal of 80 columns; ``when`` gets all output so far."""
    ours, theirs = pty.openpty()
    changed = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40", **env}
    with subprocess.Popen(
        at_a_terminal(*map(str, arguments)),
        cwd=folder,
        env=environment(folder / "home", **changed),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        output = b""
        until = time.monotonic() + TIMEOUT
        try:
            while time.monotonic() < until:
                if select.select([ours], [], [], 1)[0]:
                    try:
                        chunk = os.read(ours, 2**16)
                    except OSError:  # the command has closed the terminal
                        break
                    output += chunk
                    when(output.decode(errors="replace"), process)
            process.wait(10)
        finally:
            process.kill()
            os.close(ours)
    return Session(process.returncode, output.decode())


RUNNING = re.compile("starting MLX|loading the model|measuring the needed|training within")
"""What is drawn while a trial runs. Which phase is seen first depends on the machine."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def test_a_running_trial_is_drawn_and_replaced_by_its_line(tmp_path: Path, model: Path) -> None:
    done = at_terminal(tmp_path, "benchmark", "--model", model, *PLAIN)
    assert done.code == 0, done.output
    assert RUNNING.search(done.output)
    assert done.output.count(HIDE_CURSOR) == done.output.count(SHOW_CURSOR) == 1
    assert "starting" not in done.settled
    assert re.search(r"\[1/1\] tiny +\(\S+\) \.\.\. ✓ Pass\s+\(", done.settled)
    assert "Recommended: tiny" in done.settled


def sending(number: signal.Signals) -> Callable[[str, subprocess.Popen[bytes]], None]:
    """A callback that sends a signal, once, when the trial is running."""
    sent: list[signal.Signals] = []

    def send(text: str, process: subprocess.Popen[bytes]) -> None:
        if RUNNING.search(text) and not sent:
            sent.append(number)
            process.send_signal(number)

    return send


def test_ctrl_c_restores_the_terminal(tmp_path: Path, model: Path) -> None:
    arguments = ["benchmark", "--model", str(model), "--model", "smoke-tiny", *PLAIN]
    # With so many steps, the signal arrives before the trial ends.
    done = at_terminal(tmp_path, *arguments, "--steps", "500", when=sending(signal.SIGINT))
    assert done.code == 130, done.output
    assert done.output.rindex(SHOW_CURSOR) > done.output.rindex(HIDE_CURSOR)
    assert "– Interrupted" in done.settled
    assert re.search("Not tried: (smoke-tiny|tiny) ", done.settled)


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_be_redrawn_gets_plain_lines(
    term: str, tmp_path: Path, model: Path
) -> None:
    arguments = ["benchmark", "--model", str(model), *PLAIN, "--timeout", "0.3"]
    done = at_terminal(tmp_path, *arguments, TERM=term)
    assert done.code == 1
    assert "\x1b" not in done.output
    assert "✗ Timeout" in done.output


def test_no_color_and_an_ascii_locale(tmp_path: Path, model: Path) -> None:
    arguments = ["benchmark", "--model", str(model), *PLAIN]
    done = at_terminal(tmp_path, *arguments, NO_COLOR="1", PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert RUNNING.search(done.output)
    assert not re.search(r"\x1b\[(3\d|9\d|38;[\d;]+)m", done.output)
    assert done.output.isascii()
    assert "+ Pass" in done.settled
