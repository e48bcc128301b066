"""What may be written to a terminal: a model's name and a library's message can hold anything."""

from __future__ import annotations

import codecs
import os
import re
import shutil
import sys
import textwrap
from typing import TextIO

import click

from your_ai.errors import MachineError

# C0 but for tab and newline, DEL, C1, and what reverses the direction of what follows.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""``text`` with each character that would command the terminal as its escape: ``\x1b``."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: str, *, wrapped: bool = True, err: bool = False) -> None:
    """Print whole lines; a terminal's are no longer than it is wide, if they are ``wrapped``.

    A reader that is gone is no error: the exit code still says how it went.

    Raises:
        MachineError: when it cannot be written, as to a full disk.
    """
    stream = sys.stderr if err else sys.stdout
    if wrapped and stream.isatty():
        columns = shutil.get_terminal_size().columns
        text = "\n".join(folded(line, columns) for line in text.split("\n"))
    try:
        click.echo(printable(text), err=err)
    except OSError as error:
        abandon(stream)
        if not isinstance(error, BrokenPipeError):
            raise MachineError(f"Cannot print: {error.strerror}.") from error


def abandon(stream: TextIO) -> None:
    """Write nowhere from now on: its buffer would fail again when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def folded(line: str, columns: int) -> str:
    """Lines no longer than ``columns``; what has no space, as a path, is not broken."""
    if len(line) <= columns:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(),
        columns,
        initial_indent=indent,
        subsequent_indent=indent if len(indent) >= _DEEP else f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


_DEEP = 8
"""Columns of an indent that is deep enough for what follows, too."""

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
