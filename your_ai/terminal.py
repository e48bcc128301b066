"""What may be written to a terminal: a model's name and a library's message can hold anything."""

from __future__ import annotations

import re

# C0 but for tab and newline, DEL, C1, and what reverses the direction of what follows.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""``text`` with each character that would command the terminal as its escape: ``\x1b``."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)
