"""The grid of configurations that a search chooses from: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from worker.protocol.configuration import Configuration


@dataclass(frozen=True)
class Grid:
    """All combinations of three axes, each ascending and without duplicates.

    All other fields of the configurations are those of ``base``.
    """

    batch_sizes: tuple[int, ...]
    lora_ranks: tuple[int, ...]
    lora_layers: tuple[int, ...]
    base: Configuration = Configuration()

    @property
    def axes(self) -> dict[str, tuple[int, ...]]:
        """The axes by name."""
        return {
            "batch_sizes": self.batch_sizes,
            "lora_ranks": self.lora_ranks,
            "lora_layers": self.lora_layers,
        }

    @property
    def size(self) -> int:
        """The number of configurations."""
        return len(self.batch_sizes) * len(self.lora_ranks) * len(self.lora_layers)

    @cached_property
    def configurations(self) -> tuple[Configuration, ...]:
        """All configurations, sorted by preference; the best is the last."""
        points = (self.at(*sizes) for sizes in product(*self.axes.values()))
        return tuple(sorted(points, key=lambda c: c.preference))

    @property
    def largest(self) -> Configuration:
        """The configuration that covers all others."""
        return self.configurations[-1]

    @property
    def smallest(self) -> Configuration:
        """The configuration that all others cover."""
        return self.configurations[0]

    def at(self, batch_size: int, lora_rank: int, lora_layers: int) -> Configuration:
        """Return the base configuration with these sizes."""
        return replace(
            self.base, batch_size=batch_size, lora_rank=lora_rank, lora_layers=lora_layers
        )

    def around(self, base: Configuration, layers: int) -> Grid:
        """Return the grid for a model with that many layers and another base configuration."""
        layer_counts = (min(count, layers) for count in self.lora_layers)
        ranks = self.lora_ranks if base.lora_rank else (0,)  # full fine-tuning has no ranks
        return replace(make_grid(self.batch_sizes, ranks, layer_counts), base=base)


def make_grid(batch_sizes: Iterable[int], ranks: Iterable[int], layers: Iterable[int]) -> Grid:
    """Return the grid with these axes; their values may be in any order."""
    first, second, third = (tuple(sorted(set(axis))) for axis in (batch_sizes, ranks, layers))
    return Grid(first, second, third)


FULL = make_grid((2, 4, 6, 8, 10, 12), (32, 64, 96, 128), (8, 16, 24, 32))
QUICK = make_grid((2, 4, 8), (64, 128), (16, 24))
