"""What is said of the data before a training begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from your_ai.errors import UsageError
from your_ai.training.dataset import look_at

TEXT = {"text": "one two"}
CHAT = {"messages": [{"role": "user", "content": "one"}]}
PAIR = {"prompt": "one", "completion": "two"}


def write(folder: Path, name: str, *lines: Any) -> None:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    (folder / f"{name}.jsonl").write_text(text)


@pytest.mark.parametrize("line", [TEXT, CHAT, PAIR, {**PAIR, **TEXT}, {**PAIR, "prompt": ""}])
def test_each_form_of_mlx_lm_is_taken(line: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "train", line, line, line)
    write(tmp_path, "valid", line, line)
    found = look_at(tmp_path, 2, mask_prompt=False)
    assert (found.sequences, found.validation) == (3, 2)


def test_mlx_lm_takes_what_is_taken(tmp_path: Path) -> None:
    from mlx_lm.tuner.datasets import create_dataset

    for line, kind in ((TEXT, "TextDataset"), (CHAT, "ChatDataset"), (PAIR, "CompletionsDataset")):
        assert type(create_dataset([line], None, None)).__name__ == kind
    with pytest.raises(ValueError, match="Unsupported data format"):
        create_dataset([{"other": 1}], None, None)


def test_a_change_is_seen(tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT)
    before = look_at(tmp_path, 1, mask_prompt=False)
    assert look_at(tmp_path, 1, mask_prompt=False) == before
    write(tmp_path, "train", {"text": "one twO"})
    assert look_at(tmp_path, 1, mask_prompt=False).digest != before.digest


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], r"train\.jsonl holds no sequences, and 2 are needed for a batch; add some\."),
        ([TEXT], r"train\.jsonl holds 1 sequence, and 2 are needed for a batch; add some\."),
        ([TEXT, "{", TEXT], r"Line 2 of .*train\.jsonl is not JSON \("),
        ([TEXT, "", TEXT], r"Line 2 of .*train\.jsonl is not JSON \("),
        ([TEXT, "[1]"], r"Line 2 of .*train\.jsonl is no JSON object"),
        ([{"words": "one"}], r"Line 1 of .* has neither a text, nor messages, nor a prompt"),
        ([{"prompt": "one"}], r"Line 1 of .* has neither a text, nor messages, nor a prompt"),
        ([TEXT, CHAT], r"Line 2 of .*train\.jsonl has no text that is a text"),
        ([TEXT, {"text": ""}], r"Line 2 of .*train\.jsonl has no text"),
        ([TEXT, {"text": 3}], r"Line 2 of .*train\.jsonl has no text"),
    ],
)
def test_what_is_wrong_is_named(lines: list[Any], complaint: str, tmp_path: Path) -> None:
    write(tmp_path, "train", *lines)
    with pytest.raises(UsageError, match=complaint):
        look_at(tmp_path, 2, mask_prompt=False)


def test_the_other_files_are_looked_at_too(tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT, TEXT)
    write(tmp_path, "valid", TEXT)
    with pytest.raises(
        UsageError, match=r"valid\.jsonl holds 1 sequence, .*; add some, or remove it"
    ):
        look_at(tmp_path, 2, mask_prompt=False)
    write(tmp_path, "valid", TEXT, TEXT)
    write(tmp_path, "test", "?")
    with pytest.raises(UsageError, match=r"Line 1 of .*test\.jsonl is not JSON"):
        look_at(tmp_path, 2, mask_prompt=False)


def test_texts_have_no_prompt_to_mask(tmp_path: Path) -> None:
    write(tmp_path, "train", TEXT, TEXT)
    with pytest.raises(UsageError, match="no prompt that --mask-prompt could mask"):
        look_at(tmp_path, 2, mask_prompt=True)


def test_there_must_be_some(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no train\.jsonl"):
        look_at(tmp_path, 2, mask_prompt=False)
