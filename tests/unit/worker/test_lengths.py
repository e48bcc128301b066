"""The lengths that the worker reports make the batches that mlx-lm makes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.tuner.datasets import CacheDataset, TextDataset
from mlx_lm.tuner.trainer import iterate_batches
from mlx_lm.utils import load_tokenizer

from tests.support.chat import make_chat_model, pair, words, write_rows
from worker.datasets import DataError, TokenizedFile
from worker.lengths import mlx_lm_order
from your_ai.planning.batches import batches


class Counted:
    """A tokenizer for which a text is its number of tokens, and the end of text is missing."""

    eos_token_id = 1

    def encode(self, text: str) -> list[int]:
        return [1] * int(text)


def rows_of(lengths: list[int], keys: list[int]) -> list[dict[str, Any]]:
    """Return rows that also have further keys, which change the order in mlx-lm 0.32.2."""
    return [
        {"text": str(length), **{f"key{n}": "" for n in range(more)}}
        for length, more in zip(lengths, keys, strict=True)
    ]


SAMPLES = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 2)), min_size=1, max_size=40)


@given(SAMPLES, st.integers(1, 5), st.integers(2, 150))
def test_batches_are_those_of_mlx_lm(
    samples: list[tuple[int, int]], batch_size: int, most: int
) -> None:
    lengths, keys = map(list, zip(*samples, strict=True))
    dataset = CacheDataset(TextDataset(rows_of(lengths, keys), Counted()))
    if len(samples) < batch_size:
        return
    np.random.seed(0)
    made = iterate_batches(dataset, batch_size, most)
    theirs = Counter(batch.shape[1] for batch, _ in made)
    in_order = [lengths[index] for index in mlx_lm_order(dataset)]
    ours = batches(in_order, batch_size, most)
    assert dict(ours.counts) == theirs
    assert ours.number == theirs.total()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_model(tmp_path_factory.mktemp("lengths") / "model")


def test_samples_have_the_tokens_that_mlx_lm_trains_on(model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [{"text": words(5)}, {"text": words(9)}])
    tokenizer = load_tokenizer(model)
    file = TokenizedFile(tmp_path / "train.jsonl", tokenizer, str(model), mask_prompt=False)
    assert [len(file[index][0]) for index in mlx_lm_order(file)] == [6, 10]  # with end of text


def test_chat_data_needs_a_template(model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [pair(3, 2)])
    with pytest.raises(DataError, match="no chat template"):
        TokenizedFile(
            tmp_path / "train.jsonl", load_tokenizer(model), str(model), mask_prompt=False
        )
