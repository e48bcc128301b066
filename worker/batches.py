"""The batches of the training data in mlx-lm's order; can resume after any batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.tuner.trainer import iterate_batches

from worker.checkpoint import Progress, numpy_state
from worker.protocol.configuration import Configuration
from worker.trainer import Batch


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
