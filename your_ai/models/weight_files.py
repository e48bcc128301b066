"""Whether a folder's weights and tokenizer are complete, without reading a tensor."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path

import orjson

from your_ai.errors import UsageError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_MAX_SHARDS = 10_000  # more is a name that only looks like one
_SHARD = re.compile(r"(.*-)(\d+)-of-(\d+)\.safetensors")


def check_folder(folder: Path) -> None:
    """Raise UsageError unless every weight file that mlx-lm would read is there and whole."""
    files = sorted(file for file in folder.glob("model*.safetensors") if file.is_file())
    if not files:
        raise UsageError(
            f"{folder} holds no model*.safetensors; name a folder with weights, "
            "or leave out --weights real."
        )
    names = {file.name for file in files}
    missing = (_shards(folder) | _siblings(names)) - names
    if missing:
        raise UsageError(f"{folder} lacks {', '.join(sorted(missing))}; download the model again.")
    for file in files:
        expected, size = _expected_size(file), file.stat().st_size
        if expected != size:
            raise UsageError(
                f"{file} is truncated or damaged: {size} bytes, its header says "
                f"{expected if expected is not None else 'nothing readable'}; download it again."
            )


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder has one of `TOKENIZER_FILES`."""
    return any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES)


def _shards(folder: Path) -> set[str]:
    """The weight files that the folder's index lists; none without an index."""
    try:
        index = orjson.loads((folder / "model.safetensors.index.json").read_bytes())
        return {str(name) for name in index["weight_map"].values()}
    except FileNotFoundError:
        return set()
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"Cannot read {folder}'s model.safetensors.index.json: {error}") from error


def _siblings(names: Iterable[str]) -> set[str]:
    """The shards that belong to these by their names: the index may be missing."""
    shards = [match for name in names if (match := _SHARD.fullmatch(name))]
    counts = {(match[1], match[3]) for match in shards if int(match[3]) <= _MAX_SHARDS}
    return {
        f"{start}{number:0{len(count)}}-of-{count}.safetensors"
        for start, count in counts
        for number in range(1, int(count) + 1)
    }


def _expected_size(file: Path) -> int | None:
    """Bytes of the file by its header; ``None`` if that cannot be read.

    Layout: a little-endian u64 header length, the JSON header with each tensor's ``data_offsets``,
    the tensors (https://huggingface.co/docs/safetensors).
    """
    with file.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(_LENGTH_BYTES))
            if length > min(file.stat().st_size, _MAX_HEADER_BYTES):
                return None
            header = orjson.loads(stream.read(length))
            header.pop("__metadata__", None)
            ends = [int(tensor["data_offsets"][1]) for tensor in header.values()]
        except (struct.error, AttributeError, LookupError, TypeError, ValueError, OverflowError):
            return None
    return int(_LENGTH_BYTES + length + max(ends, default=0))
