"""The training data and its batches, in mlx-lm's order; can resume after any batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np
from mlx_lm.tuner.datasets import CacheDataset, load_dataset
from mlx_lm.tuner.trainer import default_loss, iterate_batches
from mlx_lm.utils import load_tokenizer

from worker.checkpoint import Progress, numpy_state
from worker.events import EventPipe
from worker.lora import Batch
from worker.protocol.messages import Configuration, TrainingRequest, Truncated


def load_data(request: TrainingRequest, events: EventPipe) -> tuple[Any, Any]:
    """Return the training set and the validation set, ``None`` if missing. Tokenization is lazy."""
    eos = request.model.config.get("eos_token_id")
    tokenizer = load_tokenizer(Path(request.model.path or ""), eos_token_ids=eos)
    options = {"data": request.data, "train": True, "test": False}
    options["mask_prompt"] = request.mask_prompt
    train, valid, _ = load_dataset(SimpleNamespace(**options), tokenizer)
    limit = request.configuration.seq_length
    return _Dataset(train, limit, events), _Dataset(valid, limit, events) if valid else None


class _Dataset(CacheDataset):  # type: ignore[misc]  # mlx-lm is untyped
    """A tokenized set that reports the first sequence to be truncated, once for all sets."""

    _is_reported: ClassVar[bool] = False

    def __init__(self, data: Any, seq_length: int, events: EventPipe) -> None:
        super().__init__(data)
        self._seq_length = seq_length
        self._events = events

    def __getitem__(self, index: int) -> Any:
        sequence = super().__getitem__(index)
        tokens = len(sequence[0])
        if tokens > self._seq_length and not _Dataset._is_reported:
            _Dataset._is_reported = True
            self._events.send(Truncated(self._events.now(), tokens))
        return sequence


def resumed_batches(data: Any, configuration: Configuration, progress: Progress) -> Iterator[Batch]:
    """Yield batches endlessly in mlx-lm's order, starting after ``progress`` and updating it.

    The order depends only on numpy's random state.
    """
    size = configuration.batch_size
    np.random.set_state(progress.epoch_state)
    batches = iterate_batches(data, size, configuration.seq_length, loop=True)
    for _ in range(progress.drawn):
        next(batches)
    np.random.set_state(progress.state)
    while True:
        if progress.drawn in (0, len(data) // size):
            progress.drawn, progress.epoch_state = 0, numpy_state()
        batch = next(batches)
        progress.drawn += 1
        yield batch


def split(batch: Batch, parts: int) -> Iterator[Batch]:
    """Yield the batch as ``parts`` equal micro-batches."""
    tokens, lengths = batch
    yield from zip(mx.split(tokens, parts), mx.split(lengths, parts), strict=True)


def masked_loss(model: Any, batch: mx.array, lengths: mx.array) -> Batch:
    """Return mlx-lm's loss and token count; the loss is 0, not NaN, if there are only prompts."""
    steps = mx.arange(1, batch.shape[1])
    has_targets = mx.logical_and(steps >= lengths[:, 0:1], steps <= lengths[:, 1:]).any()
    # Without targets, compute the loss of all tokens (its gradient is finite) and multiply by 0.
    everything = mx.array([0, batch.shape[1]])
    loss, tokens = default_loss(model, batch, mx.where(has_targets, lengths, everything))
    return loss * has_targets, tokens * has_targets
