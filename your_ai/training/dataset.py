"""Check the data of a training before the model is loaded."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.protocol.requests import TrainingRequest
from your_ai.errors import UsageError

_SEE = "see mlx-lm's LORA.md for the data formats"

# The formats in the order in which mlx-lm tries them (create_dataset in mlx_lm/tuner/datasets.py).
# The first line of a file determines the format of all its lines.
_FORMATS: tuple[Mapping[str, str], ...] = (
    {"prompt": "string", "completion": "string"},
    {"messages": "non-empty list"},
    {"text": "non-empty string"},
)


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape that may be half of a surrogate pair; two halves are one character."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The numbers of training and validation sequences, and the SHA-256 of the files."""

    sequences: int
    validation: int
    digest: str


def check_dataset(
    folder: Path, batch_size: int, *, mask_prompt: bool, for_mlx_lm: bool = False
) -> Dataset:
    """Check ``train.jsonl`` and, if it exists, ``valid.jsonl``.

    ``for_mlx_lm`` checks ``test.jsonl``, too, which mlx_lm.lora reads even if it only trains, and
    refuses what only our worker can read.

    Raises:
        UsageError: if a file cannot be read, has a format that mlx-lm does not support, or has too
            few sequences.
    """
    if not (folder / "train.jsonl").is_file():
        raise UsageError(f"{folder} is not a folder with a train.jsonl; {_SEE}.")
    digest = hashlib.sha256()
    counts = {"valid": 0}
    minima = {"train": batch_size, "valid": batch_size} | ({"test": 1} if for_mlx_lm else {})
    for name, least in minima.items():
        path = folder / f"{name}.jsonl"
        if not path.exists():
            continue
        counts[name] = count = _count(
            path, digest.update, mask_prompt=mask_prompt, for_mlx_lm=for_mlx_lm
        )
        if count < least:
            smaller = ", or lower --batch-size" if least > 1 else ""
            optional = "" if name == "train" else ", or remove the file"
            raise UsageError(
                f"{path} has {count} sequence{'' if count == 1 else 's'}, but needs at least "
                f"{least}. Add sequences{smaller}{optional}."
            )
    return Dataset(counts["train"], counts["valid"], digest.hexdigest())


def check_unchanged(before: Dataset, request: TrainingRequest) -> None:
    """Raise UsageError if the data of a training has changed since it was ``before``.

    The order of the batches depends on all of it.
    """
    folder, batch_size = Path(request.data), request.configuration.batch_size
    if check_dataset(folder, batch_size, mask_prompt=request.mask_prompt) != before:
        raise UsageError(
            f"The data in {folder} has changed since this training started. Restore it, or start a "
            "new training without --resume."
        )


def _count(
    path: Path, digest: Callable[[bytes], None], *, mask_prompt: bool, for_mlx_lm: bool
) -> int:
    """Check a file and return its number of sequences; pass all its bytes to ``digest``."""
    fields: Mapping[str, str] | None = None
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                digest(line)
                where = f"{path}, line {number}"
                mark = codecs.BOM_UTF8 if number == 1 else b""
                if for_mlx_lm and mark and line.startswith(mark):
                    raise UsageError(
                        f"{path} starts with a byte order mark, which mlx_lm.lora cannot read. "
                        "Save it without a byte order mark."
                    )
                sequence = _object(line.removeprefix(mark), where)
                fields = fields or _fields(sequence, where)
                if mask_prompt and "text" in fields:
                    raise UsageError(
                        f"--mask-prompt needs prompts, but {path} contains plain text. Remove the "
                        "option."
                    )
                _check_fields(sequence, fields, where)
                is_chat = "messages" in fields
                if for_mlx_lm and mask_prompt and is_chat and len(sequence["messages"]) < 2:
                    raise UsageError(
                        f"{where}: --mask-prompt needs a message before the last one. Add a prompt."
                    )
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
    return number


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where}: not valid UTF-8 ({error.reason}). Save the file with the encoding UTF-8."
        ) from error
    try:
        found = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{where}: contains half of a surrogate pair (such as \\ud83d), which is not a "
            "character. Remove it."
        ) from error
    except (ValueError, RecursionError) as error:
        problem = getattr(error, "msg", error) if text.strip() else "the line is empty"
        raise UsageError(f"{where}: not valid JSON ({problem}).") from error
    if not isinstance(found, dict):
        raise UsageError(f"{where}: not a JSON object; {_SEE}.")
    return found


def _fields(sequence: Mapping[str, Any], where: str) -> Mapping[str, str]:
    for fields in _FORMATS:
        if fields.keys() <= sequence.keys():
            return fields
    raise UsageError(f'{where}: needs "text", "messages", or "prompt" and "completion"; {_SEE}.')


def _check_fields(sequence: Mapping[str, Any], fields: Mapping[str, str], where: str) -> None:
    for key, required in fields.items():
        value = sequence.get(key)
        kind = list if key == "messages" else str
        if not isinstance(value, kind) or not (value or required == "string"):
            raise UsageError(f'{where}: "{key}" must be a {required}.')
