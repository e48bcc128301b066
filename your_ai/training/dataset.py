"""The data of a training, read before anything is loaded for it: what is wrong, and where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from your_ai.errors import UsageError

_FORM = "see mlx-lm's LORA.md for its form"

_NEVER_EMPTY = ("text", "messages")

# In the order in which mlx-lm looks for them (create_dataset in mlx_lm/tuner/datasets.py); the
# first line of a file tells which of them all of its lines have.
_FORMS: tuple[Mapping[str, type], ...] = (
    {"prompt": str, "completion": str},
    {"messages": list},
    {"text": str},
)


@dataclass(frozen=True, slots=True)
class Data:
    """How many sequences there are to train on and to validate with, and the files' SHA-256."""

    sequences: int
    validation: int
    digest: str


def look_at(folder: Path, batch_size: int, *, mask_prompt: bool) -> Data:
    """Read ``train.jsonl`` and, if they are there, ``valid.jsonl`` and ``test.jsonl``.

    mlx-lm reads the last, too, and would fail on it.

    Raises:
        UsageError: when one cannot be read, a line is not of mlx-lm's form, or there are too few.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "is not there"
        raise UsageError(f"{folder} {what}; name the folder that holds train.jsonl.")
    if not (folder / "train.jsonl").is_file():
        raise UsageError(f"{folder} has no train.jsonl; {_FORM}.")
    digest = hashlib.sha256()
    counts = {"valid": 0}
    for name, least in (("train", batch_size), ("valid", batch_size), ("test", 1)):
        path = folder / f"{name}.jsonl"
        if not path.exists():
            continue
        count = sum(1 for _ in _sequences(path, digest.update, mask_prompt=mask_prompt))
        if count < least:
            optional = "" if name == "train" else ", or remove it"
            raise UsageError(
                f"{path} holds {count or 'no'} sequence{'' if count == 1 else 's'}, and {least} "
                f"{'is' if least == 1 else 'are'} needed for a batch; add some{optional}."
            )
        counts[name] = count
    return Data(counts["train"], counts["valid"], digest.hexdigest())


def _sequences(path: Path, read: Callable[[bytes], None], *, mask_prompt: bool) -> Iterator[None]:
    """One for each line; ``read`` is given its bytes."""
    form: Mapping[str, type] | None = None
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                read(line)
                where = f"Line {number} of {path}"
                sequence = _object(line, where)
                if form is None:
                    form = _form(sequence, where)
                    if mask_prompt and "text" in form:
                        raise UsageError(
                            f"{path} has plain texts, which have no prompt that --mask-prompt "
                            "could mask; leave it out."
                        )
                for key, kind in form.items():
                    value = sequence.get(key)
                    if not isinstance(value, kind) or (key in _NEVER_EMPTY and not value):
                        wanted = "text" if kind is str else "list"
                        raise UsageError(f"{where} has no {key} that is a {wanted}; {_FORM}.")
                yield
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON ({getattr(error, 'msg', error)}).") from error
    if not isinstance(found, dict):
        raise UsageError(f"{where} is no JSON object; {_FORM}.")
    return found


def _form(sequence: Mapping[str, Any], where: str) -> Mapping[str, type]:
    for form in _FORMS:
        if form.keys() <= sequence.keys():
            return form
    raise UsageError(
        f"{where} has neither a text, nor messages, nor a prompt with its completion; {_FORM}."
    )
