"""Tells the parent how many tokens the samples of a data folder have. Loads no weights."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from mlx_lm.utils import load_tokenizer

from worker.datasets import TokenizedFile
from worker.events import EventPipe
from worker.protocol.messages import Lengths, LengthsDone
from worker.protocol.requests import LengthsRequest

_SAMPLES = 200
"""Samples per event. Long samples take milliseconds each, and events are the heartbeat."""


def run(request: LengthsRequest, events: EventPipe) -> NoReturn:
    """Send the lengths of the training and validation samples, and exit.

    Raises:
        DataError: if a sample cannot be tokenized.
    """
    source = request.model
    eos = source.config.get("eos_token_id")
    tokenizer = load_tokenizer(Path(source.path or ""), eos_token_ids=eos)
    for name in ("train", "valid"):
        path = Path(request.data) / f"{name}.jsonl"
        if path.exists():
            # Masking the prompt changes no length, and would tokenize every prompt twice.
            file = TokenizedFile(path, tokenizer, source.path, mask_prompt=False)
            for tokens, seconds in _tokenized(file):
                events.send(Lengths(events.now(), name, tokens, seconds))
    events.send(LengthsDone(events.now()))
    os._exit(0)


def _tokenized(file: TokenizedFile) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield the lengths of some samples after the other, and the seconds that they took."""
    order = mlx_lm_order(file)
    for start in range(0, len(order), _SAMPLES):
        began = time.perf_counter()
        tokens = tuple(len(file[index][0]) for index in order[start : start + _SAMPLES])
        yield tokens, time.perf_counter() - began


def mlx_lm_order(file: TokenizedFile) -> list[int]:
    """Return the samples in the order in which mlx-lm groups them into batches.

    `iterate_batches` sorts them by ``itemlen``, which in mlx-lm 0.32.2 is not the number of tokens
    but that of the keys in the line. So the order is mostly that of the file.
    """
    return sorted(range(len(file)), key=file.itemlen)
