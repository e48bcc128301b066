"""A model's tokenizer, so far as files tell."""

from __future__ import annotations

from pathlib import Path

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")


def is_there(folder: Path) -> bool:
    """Whether the folder has a file that a tokenizer can be made of."""
    return any(True for name in FILES for _ in folder.glob(name))
