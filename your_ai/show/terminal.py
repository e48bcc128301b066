"""What may be written to a terminal: a model's name and a library's message can hold anything."""

from __future__ import annotations

import codecs
import re

# C0 but for tab and newline, DEL, C1, and what reverses the direction of what follows.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""``text`` with each character that would command the terminal as its escape: ``\x1b``."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


IN_ASCII = "your_ai.ascii"
"""The name of an error handler for a stream whose encoding lacks what the output is drawn with."""

_ASCII = {"━": "=", "✓": "+", "✗": "x", "–": "-", "×": "x", "…": "...", "→": "->", "←": "<-"}


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_ASCII.get(char, "?") for char in missing), error.end


codecs.register_error(IN_ASCII, _in_ascii)
