"""Complete and damaged weight files, distinguished by their headers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from your_ai.errors import UsageError
from your_ai.models.weight_files import check_folder, check_still_there, has_tokenizer

INDEX = "model.safetensors.index.json"


def file_of(header: object, data: bytes = b"") -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


SMALL = file_of(
    {
        "__metadata__": {"format": "mlx"},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    },
    bytes(12),
)


def test_files_written_by_mlx_are_complete(tmp_path: Path) -> None:
    tensors = {"q": mx.zeros((3, 5), dtype=mx.bfloat16), "k": mx.ones((7,), dtype=mx.uint32)}
    mx.save_safetensors(str(tmp_path / "model.safetensors"), tensors, {"format": "mlx"})
    check_folder(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(SMALL)
    check_folder(tmp_path)
    for size in range(len(SMALL)):
        file.write_bytes(SMALL[:size])
        with pytest.raises(UsageError, match=r"model\.safetensors is .*corrupt"):
            check_folder(tmp_path)


def test_a_truncated_file_written_by_mlx_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    mx.save_safetensors(str(file), {"q": mx.zeros((64, 64))})
    whole = file.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    for size in (0, 7, 8, 8 + header - 1, 8 + header, 8 + header + 1, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(UsageError, match="corrupt"):
            check_folder(tmp_path)


def test_a_file_with_extra_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(SMALL + b"\0")
    with pytest.raises(UsageError, match=f"instead of {len(SMALL)}"):
        check_folder(tmp_path)


HEADERS = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 5000,
    [],
    1,
    None,
    "x",
    {"a": 1},
    {"a": None},
    {"a": {}},
    {"a": {"data_offsets": None}},
    {"a": {"data_offsets": []}},
    {"a": {"data_offsets": [0]}},
    {"a": {"data_offsets": [0, "x"]}},
    {"a": {"data_offsets": [0, None]}},
    {"a": {"data_offsets": [0, 1e999]}},
    {"a": {"data_offsets": [0, -5]}},
    {"a": {"data_offsets": [0, 10**30]}},
    {"a": {"data_offsets": {"1": 2}}},
]


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: repr(header)[:40])
def test_an_invalid_header_is_refused(tmp_path: Path, header: object) -> None:
    (tmp_path / "model.safetensors").write_bytes(file_of(header))
    with pytest.raises(UsageError, match="corrupt"):
        check_folder(tmp_path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 100_000_001, 1000])
def test_a_header_longer_than_the_file_is_not_read(tmp_path: Path, length: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(UsageError, match="its header is invalid"):
        check_folder(tmp_path)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("folder")
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(UsageError):
        check_folder(folder)


@pytest.mark.parametrize("present", [None, "weights.safetensors", "model.bin", "model.safetensors"])
def test_a_folder_without_weights_is_refused(tmp_path: Path, present: str | None) -> None:
    if present == "model.safetensors":
        (tmp_path / present).mkdir()  # a folder with that name does not count
    elif present is not None:
        (tmp_path / present).write_bytes(SMALL)
    with pytest.raises(
        UsageError, match=r"contains no model\*\.safetensors\. .*--weights synthetic"
    ):
        check_folder(tmp_path)


def shards(folder: Path, names: list[str], present: list[str]) -> None:
    index = {"weight_map": {f"tensor{i}": name for i, name in enumerate(names)}}
    (folder / INDEX).write_text(json.dumps(index))
    for name in present:
        (folder / name).write_bytes(SMALL)


def test_all_shards_in_the_index_are_required(tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    shards(tmp_path, names, names)
    check_folder(tmp_path)


def test_the_error_names_missing_shards(tmp_path: Path) -> None:
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    shards(tmp_path, names, names[:1])
    with pytest.raises(UsageError, match=f"Missing in .*: {names[1]}, {names[2]}. Download"):
        check_folder(tmp_path)


def test_the_error_names_a_truncated_shard(tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    shards(tmp_path, names, names)
    (tmp_path / names[1]).write_bytes(SMALL[:-1])
    with pytest.raises(UsageError, match=f"{names[1]} is truncated"):
        check_folder(tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "{",
        "[]",
        "1",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": 1}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": []}}',
        '{"weight_map": {"a": null}}',
    ],
)
def test_an_invalid_index_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(SMALL)
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(UsageError):
        check_folder(tmp_path)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_missing_shard_is_found_without_an_index(tmp_path: Path, at: int) -> None:
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    for name in names:
        (tmp_path / name).write_bytes(SMALL)
    check_folder(tmp_path)
    (tmp_path / names[at - 1]).unlink()
    with pytest.raises(UsageError, match=f"Missing in .*: {names[at - 1]}. Download"):
        check_folder(tmp_path)


@pytest.mark.parametrize("name", ["model-1-of-99999999999", "model-of-2", "model-a-of-b"])
def test_a_name_that_only_resembles_a_shard_is_a_single_file(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.safetensors").write_bytes(SMALL)
    check_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("model", "Restore it and use --resume, or start again with another one"),
        ("models--org--a-model/snapshots/5a0c", "hf download org/a-model --revision 5a0c`"),
        ("models--gpt2/snapshots/5a0c", "`hf download gpt2 --revision 5a0c`"),
    ],
)
def test_a_folder_that_lost_its_weights_can_be_restored(
    tmp_path: Path, name: str, remedy: str
) -> None:
    folder = tmp_path / name
    with pytest.raises(UsageError, match=f"no longer exists. .*{remedy}"):
        check_still_there(folder)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")  # as in the cache of the Hub
    with pytest.raises(UsageError, match=f"no longer has weights. .*{remedy}"):
        check_still_there(folder)
    (tmp_path / "blob").write_bytes(SMALL[:-1])
    with pytest.raises(UsageError, match="truncated or corrupt"):
        check_still_there(folder)
    (tmp_path / "blob").write_bytes(SMALL)
    check_still_there(folder)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("tokenizer.json", True),
        ("tokenizer.model", True),
        ("qwen.tiktoken", True),
        ("tokenizer_config.json", False),
        ("model.safetensors", False),
    ],
)
def test_a_tokenizer_is_recognized_by_its_file(tmp_path: Path, file: str, expected: bool) -> None:
    assert not has_tokenizer(tmp_path)
    (tmp_path / file).touch()
    assert has_tokenizer(tmp_path) is expected
