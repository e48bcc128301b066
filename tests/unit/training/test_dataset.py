"""Errors in the data are found before a training starts."""

from __future__ import annotations

import json
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


def test_validation_and_test_files_are_checked(tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT, TEXT)
    write(tmp_path, "valid", TEXT)
    with pytest.raises(
        UsageError, match=r"valid\.jsonl has 1 sequence, .*. Add sequences, .*or remove the file"
    ):
        check_dataset(tmp_path, 2, mask_prompt=False)
    write(tmp_path, "valid", TEXT, TEXT)
    write(tmp_path, "test", "?")
    with pytest.raises(UsageError, match=r"test\.jsonl, line 1: not valid JSON"):
        check_dataset(tmp_path, 2, mask_prompt=False)


def test_mask_prompt_is_refused_for_plain_text(tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT, TEXT)
    with pytest.raises(
        UsageError, match=r"--mask-prompt needs prompts, but .*train\.jsonl contains plain text"
    ):
        check_dataset(tmp_path, 2, mask_prompt=True)


def test_missing_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a folder with a train\.jsonl"):
        check_dataset(tmp_path, 2, mask_prompt=False)
