"""Check that a folder's weights and tokenizer are complete, without reading any tensor."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import orjson

from your_ai.errors import UsageError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_MAX_SHARDS = 10_000  # a larger number is not a count of shards
_SNAPSHOT = re.compile(r".*/models--(?P<name>[^/]+)/snapshots/(?P<sha>[^/]+)")  # the Hub's cache
_SHARD = re.compile(r"(.*-)(\d+)-of-(\d+)\.safetensors")


def check_folder(folder: Path) -> None:
    """Raise UsageError unless every weight file that mlx-lm would read is present and complete."""
    files = sorted(_weight_files(folder))
    if not files:
        raise UsageError(
            f"{folder} contains no model*.safetensors. Choose a folder with weights. To measure "
            "without weights, use --weights synthetic."
        )
    names = {file.name for file in files}
    missing = (_shards(folder) | _siblings(names)) - names
    if missing:
        names_missing = ", ".join(sorted(missing))
        raise UsageError(f"Missing in {folder}: {names_missing}. Download the model again.")
    for file in files:
        expected, size = _expected_size(file), file.stat().st_size
        if expected is None:
            raise UsageError(f"{file} is corrupt: its header is invalid. Download it again.")
        if expected != size:
            raise UsageError(
                f"{file} is truncated or corrupt: it has {size} bytes instead of {expected}. "
                "Download it again."
            )


def check_still_there(folder: Path) -> None:
    """Raise UsageError unless the folder of a model still has the weights that a run started with.

    Weights in the Hub's cache may have been deleted, others moved.
    """
    if not any(_weight_files(folder)):
        lack = "has weights" if folder.is_dir() else "exists"
        cached = _SNAPSHOT.fullmatch(folder.as_posix())
        if cached:
            model_id = cached["name"].replace("--", "/")
            remedy = f"Run `hf download {model_id} --revision {cached['sha']}`, then use --resume."
        else:
            remedy = "Restore it and use --resume, or start again with another one."
        raise UsageError(f"The model's folder {folder} no longer {lack}. {remedy}")
    check_folder(folder)


def has_tokenizer(folder: Path) -> bool:
    """Return whether the folder has one of `TOKENIZER_FILES`."""
    return any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES)


def _weight_files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.glob("model*.safetensors") if file.is_file())


class _Index(TypedDict):
    weight_map: dict[str, str]


class _Tensor(TypedDict):
    data_offsets: tuple[int, int]


def _shards(folder: Path) -> set[str]:
    """Return the weight files listed in the folder's index; empty without an index."""
    try:
        content = (folder / "model.safetensors.index.json").read_bytes()
        return {*msgspec.convert(orjson.loads(content), _Index)["weight_map"].values()}
    except FileNotFoundError:
        return set()
    except (orjson.JSONDecodeError, msgspec.ValidationError) as error:
        raise UsageError(
            f"Cannot read {folder}/model.safetensors.index.json ({error}). Download it again."
        ) from error


def _siblings(names: Iterable[str]) -> set[str]:
    """Return all shards of the sets that ``names`` belong to: the index may be missing."""
    shards = [match for name in names if (match := _SHARD.fullmatch(name))]
    counts = {(match[1], match[3]) for match in shards if int(match[3]) <= _MAX_SHARDS}
    return {
        f"{start}{number:0{len(count)}}-of-{count}.safetensors"
        for start, count in counts
        for number in range(1, int(count) + 1)
    }


def _expected_size(file: Path) -> int | None:
    """Return the file's size in bytes according to its header; ``None`` if that is invalid.

    Layout: a little-endian u64 header length, the JSON header with each tensor's ``data_offsets``,
    the tensors (https://huggingface.co/docs/safetensors).
    """
    with file.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(_LENGTH_BYTES))
            if length > min(file.stat().st_size, _MAX_HEADER_BYTES):
                return None
            header = msgspec.convert(orjson.loads(stream.read(length)), dict[str, Any])
            header.pop("__metadata__", None)
            tensors = msgspec.convert(header, dict[str, _Tensor])
        except (struct.error, orjson.JSONDecodeError, msgspec.ValidationError):
            return None
    ends = (tensor["data_offsets"][1] for tensor in tensors.values())
    return int(_LENGTH_BYTES + length + max(ends, default=0))
