"""The training data and its batches, in mlx-lm's order, resumable at any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import mlx.core as mx
from mlx_lm.tuner.datasets import CacheDataset, load_dataset
from mlx_lm.tuner.trainer import default_loss, iterate_batches
from mlx_lm.utils import load_tokenizer

from worker.checkpoint import Progress, numpy_state, set_numpy_state
from worker.events import EventPipe
from worker.lora import Batch
from worker.protocol.messages import Configuration, TrainingRequest, Truncated


def load_data(request: TrainingRequest, events: EventPipe) -> tuple[Any, Any]:
    """Return the training set and the validation set, or ``None`` for a missing one.

    Sequences are tokenized on first use.
    """
    eos = request.model.config.get("eos_token_id")
    tokenizer = load_tokenizer(Path(request.model.path or ""), eos_token_ids=eos)
    options = SimpleNamespace(
        data=request.data, train=True, test=False, mask_prompt=request.mask_prompt
    )
    train, valid, _ = load_dataset(options, tokenizer)
    limit = request.configuration.seq_length
    return _Dataset(train, limit, events), _Dataset(valid, limit, events) if valid else None


class _Dataset(CacheDataset):  # type: ignore[misc]  # mlx-lm is untyped
    """Reports the first sequence of any set that will be truncated."""

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


class TrainingBatches:
    """Mlx-lm's endless batches of ``data``, continued after ``progress``, which is kept current.

    Their order depends on numpy's random state alone.
    """

    def __init__(self, data: Any, configuration: Configuration, progress: Progress) -> None:
        self._progress = progress
        self._per_epoch = len(data) // configuration.batch_size
        set_numpy_state(progress.epoch_state)
        self._source: Iterator[Batch] = iterate_batches(
            data, configuration.batch_size, configuration.seq_length, loop=True
        )
        for _ in range(progress.drawn):
            next(self._source)
        set_numpy_state(progress.state)

    def draw(self) -> Batch:
        """Return the next batch."""
        progress = self._progress
        if progress.drawn in (0, self._per_epoch):
            progress.drawn, progress.epoch_state = 0, numpy_state()
        batch = next(self._source)
        progress.drawn += 1
        return batch


def split(batch: Batch, parts: int) -> Iterator[Batch]:
    """Yield the batch as ``parts`` equal micro-batches."""
    tokens, lengths = batch
    yield from zip(mx.split(tokens, parts), mx.split(lengths, parts), strict=True)


def loss_function(*, mask_prompt: bool) -> Callable[..., Batch]:
    """Mlx-lm's loss, which also returns its number of tokens.

    With masked prompts, a micro-batch in which prompts fill every sequence has no tokens to train
    on: mlx-lm's loss would be 0/0, here it is 0.
    """
    return _masked_loss if mask_prompt else default_loss


def _masked_loss(model: Any, batch: mx.array, lengths: mx.array) -> Batch:
    steps = mx.arange(1, batch.shape[1])
    has_targets = mx.logical_and(steps >= lengths[:, 0:1], steps <= lengths[:, 1:]).any()
    # Without targets, take the loss of all tokens, so that the gradient is finite, and zero it.
    everything = mx.array([0, batch.shape[1]])
    loss, tokens = default_loss(model, batch, mx.where(has_targets, lengths, everything))
    return loss * has_targets, tokens * has_targets
