"""Control characters are escaped, and long lines are wrapped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from your_ai.terminal.output import IN_ASCII, LastingStream, printable, wrap, wrap_parts


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\x08", r"a\rb\x08"),
        ("gpj\u202e.exe", r"gpj\u202e.exe"),
        ("✓ Pass – café 模型\n\tnext", "✓ Pass – café 模型\n\tnext"),
    ],
)
def test_control_characters_are_escaped(raw: str, shown: str) -> None:
    assert printable(raw) == shown


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    left = {c for c in printable(text) if ord(c) < 32 or 127 <= ord(c) < 160}
    assert left <= {"\n", "\t"}


def test_characters_missing_in_the_encoding_are_replaced() -> None:
    text = "━━ ✓ Pass – 2 × 3 → 6 … café"
    assert text.encode("ascii", IN_ASCII) == b"== + Pass - 2 x 3 -> 6 ... caf?"
    assert text.encode("latin-1", IN_ASCII).decode("latin-1") == "== + Pass - 2 × 3 -> 6 ... café"


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("short", ["short"]),
        ("one two three four", ["one two", "    three", "    four"]),
        ("        deep one two", ["        deep one", "        two"]),
        ("/a/path/that/is/longer/than/the/terminal", ["/a/path/that/is/longer/than/the/terminal"]),
        ("needs 12.4 GB now", ["needs", "    12.4 GB", "    now"]),
        ("3 trials, 20 s", ["3 trials,", "    20 s"]),
        ("layer 24 of 32", ["layer 24", "    of 32"]),
    ],
)
def test_lines_are_wrapped_between_words(line: str, lines: list[str]) -> None:
    assert wrap(line, 10 if "deep" not in line else 16).split("\n") == lines
    assert wrap(line, None) == line


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (60, ["model 2 of 5, about 12 min left (done at 14:32), 7 s"]),
        (34, ["model 2 of 5, about 12 min left", "(done at 14:32), 7 s"]),
        (16, ["model 2 of 5,", "about 12 min", "left", "(done at 14:32),", "7 s"]),
    ],
)
def test_parts_are_kept_together(columns: int, lines: list[str]) -> None:
    parts = ["model 2 of 5", "about 12 min left", "(done at 14:32)", "7 s"]
    assert wrap_parts(parts, columns) == lines


def test_a_closed_pipe_does_not_end_a_run() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        stream = LastingStream(pipe)
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"nobody reads this")
        stream.write("nor this")
        stream.write("nor that")
        assert os.fstat(writing).st_rdev == Path(os.devnull).stat().st_rdev
