"""Checks the data of a training before anything is loaded for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from your_ai.errors import UsageError

_SEE = "see mlx-lm's LORA.md for the data formats"

# In the order in which mlx-lm tries them (create_dataset in mlx_lm/tuner/datasets.py). The first
# line of a file determines the form of all its lines.
_FORMS: tuple[Mapping[str, str], ...] = (
    {"prompt": "string", "completion": "string"},
    {"messages": "non-empty list"},
    {"text": "non-empty string"},
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Numbers of sequences to train on and to validate with, and the SHA-256 of the files."""

    sequences: int
    validation: int
    digest: str


def check_dataset(folder: Path, batch_size: int, *, mask_prompt: bool) -> Dataset:
    """Read ``train.jsonl`` and any ``valid.jsonl`` and ``test.jsonl``: mlx-lm reads all three.

    Raises:
        UsageError: if a file cannot be read, is not in a form of mlx-lm, or has too few sequences.
    """
    if not (folder / "train.jsonl").is_file():
        raise UsageError(f"{folder} is not a folder with a train.jsonl; {_SEE}.")
    digest = hashlib.sha256()
    counts = {"valid": 0}
    for name, least in (("train", batch_size), ("valid", batch_size), ("test", 1)):
        path = folder / f"{name}.jsonl"
        if not path.exists():
            continue
        counts[name] = count = _count(path, digest.update, mask_prompt=mask_prompt)
        if count < least:
            optional = "" if name == "train" else ", or remove the file"
            raise UsageError(
                f"{path} has {count} sequence{'' if count == 1 else 's'}, but a batch needs "
                f"{least}; add some{optional}."
            )
    return Dataset(counts["train"], counts["valid"], digest.hexdigest())


def _count(path: Path, digest: Callable[[bytes], None], *, mask_prompt: bool) -> int:
    """The number of sequences in a file, all of whose bytes are passed to ``digest``."""
    form: Mapping[str, str] | None = None
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                digest(line)
                where = f"{path}, line {number}"
                sequence = _object(line, where)
                form = form or _form(sequence, where)
                if mask_prompt and "text" in form:
                    raise UsageError(
                        f"--mask-prompt needs prompts, but {path} contains plain text; remove the "
                        "option."
                    )
                _check_fields(sequence, form, where)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
    return number


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not valid JSON ({getattr(error, 'msg', error)}).") from error
    if not isinstance(found, dict):
        raise UsageError(f"{where}: not a JSON object; {_SEE}.")
    return found


def _form(sequence: Mapping[str, Any], where: str) -> Mapping[str, str]:
    for form in _FORMS:
        if form.keys() <= sequence.keys():
            return form
    raise UsageError(f'{where}: needs "text", "messages", or "prompt" and "completion"; {_SEE}.')


def _check_fields(sequence: Mapping[str, Any], form: Mapping[str, str], where: str) -> None:
    for key, wanted in form.items():
        value = sequence.get(key)
        kind = list if key == "messages" else str
        if not isinstance(value, kind) or not (value or wanted == "string"):
            raise UsageError(f'{where}: "{key}" must be a {wanted}.')
