"""Errors in the data are found before a training starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from your_ai.errors import UsageError
from your_ai.training.dataset import check_dataset

TEXT = {"text": "one two"}
CHAT = {"messages": [{"role": "user", "content": "one"}]}
PAIR = {"prompt": "one", "completion": "two"}


def write(folder: Path, name: str, *lines: Any) -> None:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    (folder / f"{name}.jsonl").write_text(text)


@pytest.mark.parametrize("line", [TEXT, CHAT, PAIR, {**PAIR, **TEXT}, {**PAIR, "prompt": ""}])
def test_each_format_of_mlx_lm_is_accepted(line: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "train", line, line, line)
    write(tmp_path, "valid", line, line)
    found = check_dataset(tmp_path, 2, mask_prompt=False)
    assert (found.sequences, found.validation) == (3, 2)


def test_mlx_lm_accepts_what_is_accepted(tmp_path: Path) -> None:
    from mlx_lm.tuner.datasets import create_dataset

    for line, kind in ((TEXT, "TextDataset"), (CHAT, "ChatDataset"), (PAIR, "CompletionsDataset")):
        assert type(create_dataset([line], None, None)).__name__ == kind
    with pytest.raises(ValueError, match="Unsupported data format"):
        create_dataset([{"other": 1}], None, None)


def test_the_digest_changes_with_the_data(tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT)
    before = check_dataset(tmp_path, 1, mask_prompt=False)
    assert check_dataset(tmp_path, 1, mask_prompt=False) == before
    os.utime(tmp_path / "train.jsonl", (1, 1))  # only the content counts
    assert check_dataset(tmp_path, 1, mask_prompt=False) == before
    write(tmp_path, "train", {"text": "one twO"})
    assert check_dataset(tmp_path, 1, mask_prompt=False).digest != before.digest


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            [],
            r"train\.jsonl has 0 sequences, but needs at least 2\. .*lower --batch-size\.",
        ),
        (
            [TEXT],
            r"train\.jsonl has 1 sequence, but needs at least 2\. .*lower --batch-size\.",
        ),
        ([TEXT, "{", TEXT], r"train\.jsonl, line 2: not valid JSON \("),
        ([TEXT, "", TEXT], r"train\.jsonl, line 2: not valid JSON \("),
        ([TEXT, "", TEXT], r"line 2: not valid JSON \(the line is empty\)"),
        ([TEXT, '{"text": "\\ud800"}'], r"train\.jsonl, line 2: contains half of a surrogate pair"),
        ([TEXT, '{"text": "\\uDC00 \\uD83D"}'], "line 2: contains half of a surrogate pair"),
        ([TEXT, '{"text": "x", "\\udfff": 1}'], "line 2: contains half of a surrogate pair"),
        ([TEXT, "[1]"], r"train\.jsonl, line 2: not a JSON object"),
        ([{"words": "one"}], r'line 1: needs "text", "messages", or "prompt" and "completion"'),
        ([{"prompt": "one"}], r'line 1: needs "text", "messages", or "prompt"'),
        ([TEXT, CHAT], r'train\.jsonl, line 2: "text" must be a non-empty string\.'),
        ([TEXT, {"text": ""}], r'train\.jsonl, line 2: "text" must be a non-empty string\.'),
        ([TEXT, {"text": 3}], r'train\.jsonl, line 2: "text" must be a non-empty string\.'),
        ([CHAT, {"messages": []}], r'line 2: "messages" must be a non-empty list\.'),
        ([PAIR, {**PAIR, "completion": None}], r'line 2: "completion" must be a string\.'),
    ],
)
def test_invalid_data_is_refused(lines: list[Any], complaint: str, tmp_path: Path) -> None:
    write(tmp_path, "train", *lines)
    with pytest.raises(UsageError, match=complaint):
        check_dataset(tmp_path, 2, mask_prompt=False)


@pytest.mark.parametrize("name", ["train", "valid"])
@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80", b"\xc3"])
def test_invalid_utf_8_is_refused(text: bytes, name: str, tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT, TEXT)
    line = json.dumps(TEXT).encode()
    content = b"\n".join((line, line.replace(b"one", text)))
    (tmp_path / f"{name}.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name}\.jsonl, line 2: not valid UTF-8 .* encoding"):
        check_dataset(tmp_path, 1, mask_prompt=False)


@pytest.mark.parametrize("lines", ["utf-8-sig", "\r\n", "no newline at the end", "escapes"])
def test_valid_encodings_are_accepted(lines: str, tmp_path: Path) -> None:
    rows = [json.dumps({"text": "\U0001f600 \0"}, ensure_ascii=lines == "escapes")] * 2
    text = ("\r\n" if lines == "\r\n" else "\n").join(rows)
    content = text.encode("utf-8-sig" if lines == "utf-8-sig" else "utf-8")
    (tmp_path / "train.jsonl").write_bytes(content)
    assert check_dataset(tmp_path, 2, mask_prompt=False).sequences == 2


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_mlx_lm_cannot_read_a_byte_order_mark(name: str, tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT)
    (tmp_path / f"{name}.jsonl").write_text(json.dumps(TEXT), encoding="utf-8-sig")
    assert check_dataset(tmp_path, 1, mask_prompt=False).sequences == 1
    with pytest.raises(
        UsageError, match=rf"{name}\.jsonl starts with .* without a byte order mark"
    ):
        check_dataset(tmp_path, 1, mask_prompt=False, for_mlx_lm=True)


def test_a_byte_order_mark_elsewhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT, "\ufeff" + json.dumps(TEXT))
    with pytest.raises(UsageError, match=r"train\.jsonl, line 2: not valid JSON"):
        check_dataset(tmp_path, 1, mask_prompt=False)


def test_validation_files_are_checked(tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT, TEXT)
    write(tmp_path, "valid", TEXT)
    with pytest.raises(
        UsageError, match=r"valid\.jsonl has 1 sequence, .*. Add sequences, .*or remove the file"
    ):
        check_dataset(tmp_path, 2, mask_prompt=False)


def test_test_files_matter_only_to_mlx_lm(tmp_path: Path) -> None:
    write(tmp_path, "train", PAIR)
    before = check_dataset(tmp_path, 1, mask_prompt=True)
    for line, complaint in (
        ("?", r"test\.jsonl, line 1: not valid JSON"),
        (TEXT, r"--mask-prompt needs prompts, but .*test\.jsonl contains plain text"),
    ):
        write(tmp_path, "test", line)
        assert check_dataset(tmp_path, 1, mask_prompt=True) == before
        with pytest.raises(UsageError, match=complaint):
            check_dataset(tmp_path, 1, mask_prompt=True, for_mlx_lm=True)


def test_mask_prompt_is_refused_for_plain_text(tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT, TEXT)
    with pytest.raises(
        UsageError, match=r"--mask-prompt needs prompts, but .*train\.jsonl contains plain text"
    ):
        check_dataset(tmp_path, 2, mask_prompt=True)


def test_mlx_lm_cannot_mask_the_prompt_of_a_single_message(tmp_path: Path) -> None:
    message = CHAT["messages"][0]
    write(tmp_path, "train", {"messages": [message, message]}, CHAT)
    assert check_dataset(tmp_path, 2, mask_prompt=True).sequences == 2  # the worker drops it
    assert check_dataset(tmp_path, 2, mask_prompt=False, for_mlx_lm=True).sequences == 2
    with pytest.raises(UsageError, match=r"line 2: --mask-prompt needs a message before the last"):
        check_dataset(tmp_path, 2, mask_prompt=True, for_mlx_lm=True)


def test_missing_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a folder with a train\.jsonl"):
        check_dataset(tmp_path, 2, mask_prompt=False)
