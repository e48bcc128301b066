"""The configurations among which a search looks, and how they compare: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product


@dataclass(frozen=True, slots=True, order=True)
class Configuration:
    """What a search varies; the rest of a training stays as it is."""

    batch_size: int
    lora_rank: int
    lora_layers: int

    @property
    def capacity(self) -> int:
        """The capacity score: batch × rank × layers."""
        return self.batch_size * self.lora_rank * self.lora_layers

    @property
    def preference(self) -> tuple[int, int, int]:
        """Larger is better. Of equal capacities the one with more rank, then with more layers.

        So that no two are equally good, and a search and a look at the whole grid name the same.
        """
        return self.capacity, self.lora_rank, self.lora_layers

    def covers(self, other: Configuration) -> bool:
        """Whether this is at least as large as ``other`` on every axis."""
        return (
            self.batch_size >= other.batch_size
            and self.lora_rank >= other.lora_rank
            and self.lora_layers >= other.lora_layers
        )


@dataclass(frozen=True)
class Grid:
    """Every combination of three axes, each ascending and without repetition."""

    batch_sizes: tuple[int, ...]
    lora_ranks: tuple[int, ...]
    lora_layers: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many configurations there are."""
        return len(self.batch_sizes) * len(self.lora_ranks) * len(self.lora_layers)

    @cached_property
    def configurations(self) -> tuple[Configuration, ...]:
        """All of them, the best last."""
        axes = product(self.batch_sizes, self.lora_ranks, self.lora_layers)
        every = (
            Configuration(batch_size=batch, lora_rank=rank, lora_layers=layers)
            for batch, rank, layers in axes
        )
        return tuple(sorted(every, key=lambda c: c.preference))

    @property
    def largest(self) -> Configuration:
        """The one that covers all others."""
        return self.configurations[-1]

    @property
    def smallest(self) -> Configuration:
        """The one that all others cover."""
        return self.configurations[0]

    def cut(self, layers: int) -> Grid:
        """The grid for a model of so many layers: more than those cannot have adapters."""
        return make_grid(
            self.batch_sizes, self.lora_ranks, (min(n, layers) for n in self.lora_layers)
        )


def make_grid(batch_sizes: Iterable[int], ranks: Iterable[int], layers: Iterable[int]) -> Grid:
    """The grid of these axes, given in any order."""
    first, second, third = (tuple(sorted(set(axis))) for axis in (batch_sizes, ranks, layers))
    return Grid(first, second, third)


FULL = make_grid((2, 4, 6, 8, 10, 12), (32, 64, 96, 128), (8, 16, 24, 32))
QUICK = make_grid((2, 4, 8), (64, 128), (16, 24))
