"""Text output that is safe for any terminal, pipe or file, and wrapped to a terminal's width."""

from __future__ import annotations

import codecs
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Any, TextIO

import click

from your_ai.errors import MachineError

# C0 except tab and newline, DEL, C1, and the characters that change the writing direction.
# rich.control.escape_control_codes keeps most of these, even ESC.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


# Spaces between a number and its unit.
_UNIT_SPACE = re.compile(r"(?<=\d) (?=(?:[KMG]?B|h|min|s|tokens|trials?)\b)")
_NO_BREAK = "\0"


def printable(text: str) -> str:
    r"""``text`` with terminal control characters replaced by escapes such as ``\x1b``.

    Names of models and messages of libraries can contain anything.
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: str, *, wrapped: bool = True, err: bool = False) -> None:
    """Print ``text`` and a newline, ``wrapped`` to the width of a terminal.

    Raises MachineError if it cannot be written, for example to a full disk. A closed pipe is
    ignored.
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
    """The width of the terminal at ``stream`` (default: stdout); ``None`` if it is not one."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def wrap(text: str, columns: int | None) -> str:
    """Wrap lines longer than ``columns`` between words, but not between a number and its unit.

    A word longer than a line, such as a path, is not broken.
    """
    # rich has no hanging indent, and breaks long paths.
    if columns is None:
        return text
    columns = max(1, columns)  # textwrap needs one
    return "\n".join(_wrapped(line, columns) for line in text.split("\n"))


def wrap_parts(parts: Iterable[str], columns: int) -> list[str]:
    """Lines with these parts, separated by commas; only parts longer than a line are broken.

    A part in parentheses follows the one before without a comma.
    """
    columns = max(1, columns)  # textwrap needs one
    text = ", ".join(part if len(part) >= columns else _unbroken(part) for part in parts)
    return _wrapped(text.replace(", (", " ("), columns, hanging="").split("\n")


def _unbroken(text: str) -> str:
    return text.replace(" ", _NO_BREAK)


def _wrapped(line: str, columns: int, hanging: str = "    ") -> str:
    if len(line) <= columns:
        return line.replace(_NO_BREAK, " ")
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        _UNIT_SPACE.sub(_NO_BREAK, line.strip()),
        columns,
        initial_indent=indent,
        subsequent_indent=indent or hanging,
        break_long_words=False,
        break_on_hyphens=False,
    ).replace(_NO_BREAK, " ")


class LastingStream:
    """Writes to ``stream`` and flushes it; after an error, such as a closed pipe, discards text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write ``text``; never raises OSError, which would end a run."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            _discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """Redirect the stream to /dev/null, so that flushing it at exit does not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


IN_ASCII = "your_ai.ascii"
"""Name of the error handler for streams whose encoding lacks characters such as ✓."""

_ASCII = {"━": "=", "✓": "+", "✗": "x", "–": "-", "×": "x", "…": "...", "→": "->", "←": "<-"}
_ASCII |= dict(zip("▁▂▃▄▅▆▇█", "__..--==", strict=True))


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_ASCII.get(char, "?") for char in missing), error.end


codecs.register_error(IN_ASCII, _in_ascii)
