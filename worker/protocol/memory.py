"""What estimates of memory require, as a probe finds it.

Imports only the standard library, because the parent imports this module and must start fast.
Sizes are in bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SEQ_LENGTHS = (16, 64, 256, 512, 1024, 2048, 4096, 16384)
BATCH_SIZES = (1, 2, 4, 16)
"""The sizes in the tables of the presets."""


def lengths_around(seq_length: int) -> tuple[int, ...]:
    """Return three of `SEQ_LENGTHS` for a table that a probe makes: the second is closest."""
    inner = range(1, len(SEQ_LENGTHS) - 1)
    middle = min(inner, key=lambda index: abs(math.log(SEQ_LENGTHS[index] / seq_length)))
    return SEQ_LENGTHS[middle - 1 : middle + 2]


OLD_METAL = "metal-0.32.3"
"""The tables for Metal before MLX 0.32.4, which had fewer kernels."""

Table = tuple[tuple[tuple[int, ...], ...], ...]
"""A number for each number of layers, sequence length and batch size, in this order."""


@dataclass(frozen=True, slots=True)
class StepMemory:
    """The memory that a training step takes in addition to the weights that it does not change.

    It includes what is trained and the optimizer's state. The tables have the bytes at `rank`.
    """

    layers: tuple[int, ...]
    """The numbers of layers that are trained."""
    seq_lengths: tuple[int, ...]
    """Tokens per sequence."""
    batch_sizes: tuple[int, ...]
    """Sequences per step."""
    rank: int
    """The rank of the adapters."""
    needed: Table
    """Needed memory."""
    needed_per_rank: Table
    """What needed memory gains if the rank grows by 1."""
    unlimited: Table
    """The peak without a memory limit."""


@dataclass(frozen=True, slots=True)
class TrainedLayers:
    """What so many layers train, each: weights and bytes, and what these gain per rank."""

    layers: int
    weights: int
    bytes: int
    weights_per_rank: int
    bytes_per_rank: int


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """What an estimate of a model's memory requires, for one backend and one kind of training."""

    trained: tuple[TrainedLayers, ...]
    """The layers from the last to the first, where equal neighbors are counted together."""
    checkpointed: StepMemory
    """The memory of a step with gradient checkpointing."""
    stored: StepMemory
    """The memory of a step that stores all activations."""
