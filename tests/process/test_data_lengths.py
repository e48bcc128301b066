"""The worker that tokenizes the user's data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chat import OPEN, add_template, make_chat_model, pair, words, write_rows
from your_ai.errors import UsageError
from your_ai.supervision.lengths import tokenized_lengths


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and a config, but without weights."""
    folder = make_chat_model(tmp_path_factory.mktemp("tokenizer") / "model")
    (folder / "model.safetensors").unlink()
    return folder


def test_lengths_are_those_of_all_samples_in_order(model: Path, tmp_path: Path) -> None:
    counts = [*range(1, 451)]
    write_rows(tmp_path / "train.jsonl", [{"text": words(n)} for n in counts])
    write_rows(tmp_path / "valid.jsonl", [{"text": words(3)}])
    progress: list[int] = []
    found = tokenized_lengths(model, {}, tmp_path, progress.append)
    assert found.train == tuple(n + 1 for n in counts)  # with end of text
    assert found.valid == (4,)
    assert progress == [200, 400, 450, 451]
    assert found.seconds_per_sample > 0


def test_a_sample_that_cannot_be_tokenized_is_a_usage_error(model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [pair(3, 2)])
    with pytest.raises(UsageError, match="has no chat template; use a chat or instruct model"):
        tokenized_lengths(model, {}, tmp_path)


def test_a_damaged_tokenizer_is_a_usage_error(tmp_path: Path) -> None:
    model = make_chat_model(tmp_path / "model")
    add_template(model, OPEN)
    (model / "tokenizer.json").write_text("{")
    write_rows(tmp_path / "train.jsonl", [pair(3, 2)])
    with pytest.raises(UsageError, match="Cannot tokenize the data with the tokenizer in"):
        tokenized_lengths(model, {}, tmp_path)
