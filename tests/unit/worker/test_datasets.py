"""The data is read like mlx-lm does, and unusable data is refused before the weights are loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlx_lm.tuner.datasets import CacheDataset, TextDataset, load_dataset
from mlx_lm.tuner.trainer import iterate_batches
from mlx_lm.utils import load_tokenizer

from tests.support import builders
from tests.support.chat import (
    CLOSED,
    OPEN,
    THINKING,
    Template,
    add_template,
    chat,
    make_chat_model,
    pair,
    words,
    write_rows,
)
from worker.datasets import DataError, load_data
from worker.events import EventPipe
from worker.protocol.codec import decode_event
from worker.protocol.messages import Event, Tokenized
from worker.protocol.requests import ModelSource, TrainingRequest

LIMIT = 32
TEXT = {"text": words(5)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_model(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture
def model(plain: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plain, tmp_path / "model")


def request_for(model: Path, *, mask_prompt: bool = True, batch_size: int = 1) -> TrainingRequest:
    """Return a request for the data in the folder next to ``model``."""
    known = builders.TRAINING_REQUEST
    configuration = replace(known.configuration, batch_size=batch_size, seq_length=LIMIT)
    source = ModelSource({}, str(model))
    return replace(
        known,
        model=source,
        configuration=configuration,
        data=str(model.parent),
        mask_prompt=mask_prompt,
    )


@dataclass(frozen=True)
class Loaded:
    train: Any
    valid: Any
    events: list[Event]

    @property
    def dropped(self) -> dict[str, int]:
        return {event.file: event.dropped for event in self.events if isinstance(event, Tokenized)}


def load(request: TrainingRequest) -> Loaded:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        try:
            found = load_data(request, EventPipe(writing))
        finally:
            os.close(writing)
        return Loaded(*found, [decode_event(line) for line in pipe])


FITS, TOO_LONG, EMPTY = pair(5, 3), pair(LIMIT, 3), pair(5, 0)
CASES: list[tuple[Template, list[dict[str, Any]], list[int]]] = [
    (CLOSED, [FITS, TOO_LONG, EMPTY], [0, 2]),  # an empty completion still has its end
    (OPEN, [EMPTY, FITS, TOO_LONG], [1]),
    (THINKING, [pair(5, 2), pair(5, 3), pair(5, 4)], [1, 2]),
    (OPEN, [pair(LIMIT - 3, 9), pair(LIMIT - 2, 9)], [0]),  # the prompt has two more tokens
    (OPEN, [chat(3, 0), chat(3, 2), chat(3, 4, LIMIT, 2)], [1]),
    (OPEN, [chat(3, 4, 5, last="user"), chat(40, 1, last="user"), chat(1, 0)], [0]),
    (CLOSED, [chat(3), chat(2, 3), chat(3, last="user")], [1]),  # mlx-lm fails at a single message
]


@pytest.mark.parametrize(("template", "rows", "kept"), CASES)
def test_sequences_without_a_completion_are_dropped(
    template: Template, rows: list[dict[str, Any]], kept: list[int], model: Path
) -> None:
    add_template(model, template)
    write_rows(model.parent / "train.jsonl", rows)
    found = load(request_for(model))
    assert [i for i, row in enumerate(rows) if template.has_completion(row, LIMIT)] == kept
    assert found.dropped == {"train.jsonl": len(rows) - len(kept)}
    tokenizer = load_tokenizer(model)
    options = SimpleNamespace(data=str(model.parent), train=True, test=False, mask_prompt=True)
    theirs = CacheDataset(load_dataset(options, tokenizer)[0])
    assert [found.train[i] for i in range(len(found.train))] == [theirs[i] for i in kept]
    assert [found.train.itemlen(i) for i in range(len(kept))] == [theirs.itemlen(i) for i in kept]


@pytest.mark.parametrize("rows", [[FITS] * 8, [chat(2, 3)] * 7 + [chat(2, 3, 4, 5)], [TEXT] * 6])
def test_batches_equal_those_of_mlx_lm_if_nothing_is_dropped(
    rows: list[dict[str, Any]], model: Path
) -> None:
    add_template(model, CLOSED)
    write_rows(model.parent / "train.jsonl", rows)
    write_rows(model.parent / "valid.jsonl", rows)
    mask_prompt = rows[0] != TEXT
    found = load(request_for(model, mask_prompt=mask_prompt, batch_size=2))
    options = SimpleNamespace(data=str(model.parent), train=True, test=False)
    options.mask_prompt = mask_prompt
    theirs = load_dataset(options, load_tokenizer(model))
    for our, their in ((found.train, theirs[0]), (found.valid, theirs[1])):
        assert _batches(our) == _batches(CacheDataset(their))
    assert not any(found.dropped.values())


def _batches(data: Any) -> list[Any]:
    np.random.seed(3)
    return [[part.tolist() for part in batch] for batch in iterate_batches(data, 2, LIMIT)]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([EMPTY, TOO_LONG], "--mask-prompt needs 2 or more sequences, but none of the 2 in .*"),
        ([EMPTY, FITS, EMPTY], "--mask-prompt needs 2 or more sequences, but only 1 of 3 in .*"),
    ],
)
@pytest.mark.parametrize("name", ["train", "valid"])
def test_a_file_with_too_few_completions_is_refused(
    rows: list[dict[str, Any]], problem: str, name: str, model: Path
) -> None:
    add_template(model, OPEN)
    write_rows(model.parent / "train.jsonl", [FITS] * 2)
    write_rows(model.parent / f"{name}.jsonl", rows)
    with pytest.raises(
        DataError, match=rf"{problem}{name}\.jsonl have a completion within 32 "
    ) as raised:
        load(request_for(model, batch_size=2))
    advice = str(raised.value)
    assert ("lower --batch-size" in advice) is (FITS in rows)
    assert ("remove the file" in advice) is (name == "valid")


def test_without_masking_no_sequence_is_dropped(model: Path) -> None:
    add_template(model, OPEN)
    write_rows(model.parent / "train.jsonl", [EMPTY, TOO_LONG])
    found = load(request_for(model, mask_prompt=False))
    assert (len(found.train), found.valid, found.dropped) == (2, None, {})


@pytest.mark.parametrize("rows", [[FITS], [chat(1, 2)]])
@pytest.mark.parametrize("mask_prompt", [False, True])
def test_a_tokenizer_without_chat_template_is_refused(
    rows: list[dict[str, Any]], mask_prompt: bool, model: Path
) -> None:
    write_rows(model.parent / "train.jsonl", rows)
    with pytest.raises(DataError, match=r"no chat template; use a chat or instruct model"):
        load(request_for(model, mask_prompt=mask_prompt))
    write_rows(model.parent / "train.jsonl", [TEXT])
    assert len(load(request_for(model, mask_prompt=False)).train) == 1


def test_a_template_in_its_own_file_is_used(model: Path) -> None:
    (model / "chat_template.jinja").write_text(CLOSED.jinja)
    write_rows(model.parent / "train.jsonl", [FITS])
    assert len(load(request_for(model)).train) == 1


def test_a_row_that_cannot_be_tokenized_is_named(model: Path) -> None:
    add_template(model, CLOSED)
    bad = {"messages": [{"role": "user"}, "no message"]}
    write_rows(model.parent / "train.jsonl", [chat(LIMIT, 1), chat(1, 1), bad])
    with pytest.raises(DataError, match=r"train\.jsonl, line 3: cannot be tokenized \("):
        load(request_for(model))
    found = load(request_for(model, mask_prompt=False)).train
    with pytest.raises(DataError, match=r"train\.jsonl, line 3: cannot be tokenized \("):
        found[2]


def test_a_lack_of_memory_is_no_problem_of_the_data(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    write_rows(model.parent / "train.jsonl", [TEXT])
    monkeypatch.setattr(TextDataset, "process", fail)
    with pytest.raises(MemoryError):
        load(request_for(model, mask_prompt=False))


LINES: dict[str, Sequence[bytes]] = {
    "a byte order mark": [b"\xef\xbb\xbf", b"\n"],
    "Windows line ends": [b"", b"\r\n"],
}


@pytest.mark.parametrize("kind", LINES)
def test_files_of_other_editors_are_read(kind: str, model: Path) -> None:
    start, end = LINES[kind]
    content = start + end.join([json.dumps(TEXT).encode()] * 3)
    (model.parent / "train.jsonl").write_bytes(content)
    found = load(request_for(model, mask_prompt=False)).train
    assert [len(found[index][0]) for index in range(3)] == [6, 6, 6]
