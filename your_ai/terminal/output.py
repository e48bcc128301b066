"""What may be written to a terminal: a model's name and a library's message can hold anything."""

from __future__ import annotations

import codecs
import os
import re
import shutil
import sys
import textwrap
from typing import Any, TextIO

import click

from your_ai.errors import MachineError

# C0 but for tab and newline, DEL, C1, and what reverses the direction of what follows.
# rich.control.escape_control_codes leaves most of them, the escape itself among them.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""``text`` with each character that would command the terminal as its escape: ``\x1b``."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: str, *, wrapped: bool = True, err: bool = False) -> None:
    """Print whole lines, ``wrapped`` to a terminal's width; raises MachineError if a disk is full.

    A reader that is gone is no error: the exit code still says how it went.
    """
    stream = sys.stderr if err else sys.stdout
    columns = terminal_columns(stream) if wrapped else None
    try:
        click.echo(wrap(printable(text), columns), err=err)
    except OSError as error:
        _discard(stream)
        if not isinstance(error, BrokenPipeError):
            raise MachineError(f"Cannot print: {error.strerror}.") from error


def terminal_columns(stream: TextIO | None = None) -> int | None:
    """The width of the terminal that ``stream`` (or standard output) is; ``None`` if it is none."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def wrap(text: str, columns: int | None) -> str:
    """``text`` in lines of at most ``columns``; what has no space, as a path, is not broken."""
    # Not by rich: it has no hanging indent, and breaks or cuts a long path.
    if columns is None:
        return text
    return "\n".join(_wrapped(line, columns) for line in text.split("\n"))


def _wrapped(line: str, columns: int) -> str:
    if len(line) <= columns:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(),
        columns,
        initial_indent=indent,
        subsequent_indent=indent or "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


class LastingStream:
    """Writes to ``stream`` at once; from its first error on, as when nobody reads, to nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write it; never raises OSError, which would end a run."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            _discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """Write nowhere from now on: its buffer would fail again when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


IN_ASCII = "your_ai.ascii"
"""The name of an error handler for a stream whose encoding lacks what the output is drawn with."""

_ASCII = {"━": "=", "✓": "+", "✗": "x", "–": "-", "×": "x", "…": "...", "→": "->", "←": "<-"}
_ASCII |= dict(zip("▁▂▃▄▅▆▇█", "__..--==", strict=True))


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_ASCII.get(char, "?") for char in missing), error.end


codecs.register_error(IN_ASCII, _in_ascii)
