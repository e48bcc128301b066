"""The grid of configurations that a search chooses from: pure.

Each axis is sorted by the memory that its values need, so that a configuration that is at least as
large on every axis needs at least as much memory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

from worker.protocol.configuration import Configuration
from your_ai.models.quantization import Quantization

LENGTH_STEP = 256
MAX_LENGTHS = 512
LONGEST = 32_768
"""The longest sequence that is searched if a model does not say what it allows."""

Sizes = tuple[int, ...]
"""A configuration's place on each axis."""

Kind = tuple[int, ...]
"""The quantization and gradient checkpointing of a configuration, as the last of its `Sizes`.

If lengths are searched, the batch size comes first: each has its own forecast.
"""


@dataclass(frozen=True, slots=True)
class Axes:
    """What a search varies: it chooses from all combinations of these values.

    In the options of a search, an axis without values is not varied.
    """

    batch_sizes: tuple[int, ...] = ()
    """Batch sizes, ascending."""
    lora_ranks: tuple[int, ...] = ()
    """Ranks, ascending."""
    lora_layers: tuple[int, ...] = ()
    """Layer counts, ascending."""
    seq_lengths: tuple[int, ...] = ()
    """Sequence lengths in tokens, ascending; empty if version 0.1 made the search."""
    quantizations: tuple[str, ...] = ()
    """Quantizations, least memory first."""
    grad_checkpoints: tuple[bool, ...] = ()
    """With gradient checkpointing, which needs less memory, or without."""

    @property
    def varied(self) -> tuple[str, ...]:
        """The names of the axes with several values."""
        return tuple(f.name for f in fields(self) if len(getattr(self, f.name)) > 1)

    def around(
        self,
        base: Configuration,
        layers: int,
        quantizations: Sequence[Quantization] = (),
    ) -> Grid:
        """Return the grid for a model with that many layers, and the base configuration.

        ``quantizations`` are those to vary, least memory first.
        """
        counts = {min(count, layers) for count in self.lora_layers} or {base.lora_layers}
        ranks = {*self.lora_ranks} if base.lora_rank else set()  # full fine-tuning has none
        return Grid(
            _ascending(self.batch_sizes) or (base.batch_size,),
            _ascending(ranks) or (base.lora_rank,),
            _ascending(counts),
            _ascending(self.seq_lengths) or (base.seq_length,),
            tuple(quantizations) or (Quantization.of(base),),
            tuple(sorted({*self.grad_checkpoints}, reverse=True)) or (base.grad_checkpoint,),
            base,
        )


@dataclass(frozen=True)
class Grid:
    """All combinations of the values of six axes, each in the order of `Axes`.

    All other fields of the configurations are those of ``base``.
    """

    batch_sizes: tuple[int, ...]
    lora_ranks: tuple[int, ...]
    lora_layers: tuple[int, ...]
    seq_lengths: tuple[int, ...]
    quantizations: tuple[Quantization, ...]
    grad_checkpoints: tuple[bool, ...]
    base: Configuration

    @property
    def axes(self) -> Axes:
        """The axes in the form of the results file."""
        names = tuple(each.name for each in self.quantizations)
        sizes = (self.batch_sizes, self.lora_ranks, self.lora_layers, self.seq_lengths)
        return Axes(*sizes, names, self.grad_checkpoints)

    @property
    def size(self) -> int:
        """The number of configurations."""
        return math.prod(map(len, self._values))

    @cached_property
    def sizes(self) -> dict[Configuration, Sizes]:
        """The configurations, the last axis varying fastest, and their places on the axes."""
        return {c: self._sizes_of(c) for c in self.configurations}

    @cached_property
    def configurations(self) -> tuple[Configuration, ...]:
        """All configurations, the last axis varying fastest."""
        return tuple(self._at(*values) for values in product(*self._values))

    @property
    def largest(self) -> Configuration:
        """The configuration that covers all others."""
        return self._at(*(values[-1] for values in self._values))

    @property
    def smallest(self) -> Configuration:
        """The configuration that all others cover."""
        return self._at(*(values[0] for values in self._values))

    @property
    def middle(self) -> Configuration:
        """The configuration in the middle of every axis."""
        return self._at(*(values[len(values) // 2] for values in self._values))

    def place(self, configuration: Configuration) -> Sizes:
        """Return the place of a configuration on each axis; it need not be in the grid."""
        return self.sizes.get(configuration) or self._sizes_of(configuration)

    def _sizes_of(self, c: Configuration) -> Sizes:
        quantization = self.quantizations.index(Quantization.of(c))
        stored = not c.grad_checkpoint
        return c.batch_size, c.lora_rank, c.lora_layers, c.seq_length, quantization, int(stored)

    def covers(self, one: Configuration, other: Configuration) -> bool:
        """Return whether ``one`` is at least as large as ``other`` on every axis."""
        pairs = zip(self.place(one), self.place(other), strict=True)
        return all(ours >= theirs for ours, theirs in pairs)

    def covering(self, some: Collection[Configuration]) -> list[int]:
        """Return, for each of the configurations in order, how many of ``some`` cover it."""
        counts = [int(c in some) for c in self.configurations]
        stride = 1
        for length in reversed([len(values) for values in self._values]):
            for place in reversed(range(len(counts))):
                if place // stride % length < length - 1:
                    counts[place] += counts[place + stride]
            stride *= length
        return counts

    def kind(self, configuration: Configuration) -> Kind:
        """Return the kind of a configuration; see `Kind`."""
        batch, _, _, _, *kind = self.place(configuration)
        return (batch, *kind) if len(self.seq_lengths) > 1 else tuple(kind)

    @cached_property
    def kinds(self) -> dict[Kind, list[Configuration]]:
        """The configurations of each kind."""
        found: dict[Kind, list[Configuration]] = {}
        for configuration in self.configurations:
            found.setdefault(self.kind(configuration), []).append(configuration)
        return found

    @property
    def _values(self) -> tuple[tuple[int, ...] | tuple[Quantization, ...], ...]:
        return (
            *(self.batch_sizes, self.lora_ranks, self.lora_layers, self.seq_lengths),
            *(self.quantizations, self.grad_checkpoints),
        )

    def _at(self, *values: Any) -> Configuration:
        batch_size, lora_rank, lora_layers, seq_length, quantization, grad_checkpoint = values
        return replace(
            self.base,
            batch_size=batch_size,
            lora_rank=lora_rank,
            lora_layers=lora_layers,
            seq_length=seq_length,
            quantization_bits=quantization.bits,
            quantization_mode=quantization.mode,
            group_size=quantization.group_size,
            grad_checkpoint=grad_checkpoint,
        )


def lengths_up_to(longest: int | None) -> tuple[int, ...]:
    """Return the sequence lengths to search for a model that allows so many tokens.

    They are multiples of 256 or, for more than 512 lengths, of a multiple of that.
    """
    most = longest or LONGEST
    step = LENGTH_STEP * max(1, -(-most // (LENGTH_STEP * MAX_LENGTHS)))
    return tuple(range(step, most + 1, step)) or (most,)


def middle_length(lengths: Sequence[int]) -> int:
    """Return the length of several that is closest to the middle, as a factor."""
    middle = math.sqrt(min(lengths) * max(lengths))
    return min(lengths, key=lambda length: abs(math.log(length / middle)))


def _ascending(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted({*values}))


FULL = Axes((2, 4, 6, 8, 10, 12), (32, 64, 96, 128), (8, 16, 24, 32))
QUICK = Axes((2, 4, 8), (64, 128), (16, 24))
