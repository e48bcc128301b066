"""A traced step, and how much memory it takes at any batch size, sequence length and rank."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten

from worker.step_graph import compiling, parts
from worker.step_graph.allocation import Peak, Sizes, Tasks, peak
from worker.step_graph.backends import RUNNING_TASKS, Backend
from worker.step_graph.graph import Array, Graph
from worker.step_graph.marks import Mark
from worker.step_graph.program import Program, program
from worker.step_graph.scheduling import evaluation_order
from worker.step_graph.trace import trace

_PRIMES = (53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
_LENGTHS = (1009, 1013, 1019, 1031, 1033)
_SHORT_LENGTHS = (101, 103, 107, 109, 113)

_LONGER = 3
"""Most tokens by which an array is longer than the sequences: what a convolution adds."""

Build = Callable[[int, int], nn.Module]
"""Returns a planned model that trains this number of layers with adapters of this rank."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Needed memory, and the peak without a memory limit in bytes, for one batch."""

    needed: Peak
    unlimited: float


@dataclass(frozen=True, slots=True)
class _Primes:
    """The traced sizes. As primes that divide no width of the model they show where they occur.

    ``length`` is ``None`` if the graph is only valid for its own length.
    """

    batch: int
    length: int | None
    rank: int


@dataclass(frozen=True, slots=True)
class _Size:
    """An array's bytes and elements, and how often batch, length and rank are in its shape."""

    bytes: float
    elements: float
    batch: int
    length: int
    rank: int

    @classmethod
    def of(cls, array: Array, primes: _Primes) -> _Size:
        """Divide the widths by the primes. Some arrays are a few tokens longer than the others."""
        batch, rank = (
            sum(width % prime == 0 for width in array.shape)
            for prime in (primes.batch, primes.rank)
        )
        long = primes.length
        length = sum(w % long == 0 or 0 < w - long <= _LONGER for w in array.shape) if long else 0
        factor = primes.batch**batch * (long or 1) ** length * primes.rank**rank
        return cls(array.bytes / factor, array.size / factor, batch, length, rank)

    def factor(self, batch: int, length: int, rank: int) -> float:
        """Return by how much the array is larger at these sizes."""
        return float(batch**self.batch * length**self.length * rank**self.rank)


@dataclass(frozen=True, slots=True)
class TracedStep:
    """The graph of a step before it is rewritten for a backend."""

    graph: Graph
    marks: list[Mark]
    primes: _Primes

    @classmethod
    def of(cls, build: Build, layers: int, *, is_short: bool = False) -> TracedStep:
        """Trace a step for sequences of about 1,000 tokens or, if short, 100."""
        candidates = _SHORT_LENGTHS if is_short else _LENGTHS
        widths = _widths(build)
        length = next(prime for prime in candidates if _is_absent(prime, widths, _LONGER))
        return cls._traced(build, layers, widths, length, is_fixed=False)

    @classmethod
    def at(cls, build: Build, layers: int, length: int) -> TracedStep:
        """Trace a step that is only valid for sequences of this length."""
        return cls._traced(build, layers, _widths(build), length, is_fixed=True)

    @classmethod
    def _traced(
        cls, build: Build, layers: int, widths: set[int], length: int, *, is_fixed: bool
    ) -> TracedStep:
        batch, rank = islice((prime for prime in _PRIMES if _is_absent(prime, widths)), 2)
        primes = _Primes(batch, None if is_fixed else length, rank)
        graph, marks = trace(build(layers, rank), optim.Adam(learning_rate=1e-5), batch, length + 1)
        return cls(graph, marks, primes)

    def on(self, backend: Backend, *, grad_checkpoint: bool) -> BackendStep:
        """Return the step as a backend evaluates it."""
        graph = copy.copy(self.graph)
        graph.arrays = dict(graph.arrays)
        parts.fuse(graph, self.marks, backend.fused, backend.recomputed)
        if grad_checkpoint:
            parts.recompute_layers(graph, self.marks)
        parts.remove_marks(graph, self.marks)
        compiling.compile_graph(graph)
        found = program(graph, evaluation_order(graph))
        sizes = tuple(_Size.of(graph.arrays[name], self.primes) for name in found.names)
        return BackendStep(backend, found, sizes)


@dataclass(frozen=True, slots=True)
class BackendStep:
    """A step as a backend evaluates it, and the sizes of its arrays."""

    backend: Backend
    program: Program
    sizes: tuple[_Size, ...]

    def cell(self, batch: int, length: int, rank: int) -> Cell:
        """Return the memory of a step with a batch of this size."""
        return self._cell(batch, length, rank, self.backend.tasks)

    def smooth_cell(self, batch: int, length: int, rank: int) -> Cell:
        """Return the same, but needed memory without what a GPU's tasks hold.

        That is negligible for the long sequences to which short ones are extrapolated.
        """
        tasks = self.backend.tasks
        return self._cell(batch, length, rank, tasks if tasks.elements == math.inf else Tasks(1))

    def _cell(self, batch: int, length: int, rank: int, tasks: Tasks) -> Cell:
        factors = [size.factor(batch, length, rank) for size in self.sizes]
        pairs = list(zip(self.sizes, factors, strict=True))
        sizes = Sizes(
            [size.bytes * factor for size, factor in pairs],
            [size.bytes * factor * size.rank / rank for size, factor in pairs],
            [size.elements * factor for size, factor in pairs],
        )
        found = [peak(self.program, sizes, tasks, start) for start in self.backend.starts]
        unlimited = replace(self.backend.tasks, running=RUNNING_TASKS)
        return Cell(
            max(found, key=lambda each: each.bytes), peak(self.program, sizes, unlimited).bytes
        )


def _widths(build: Build) -> set[int]:
    weights = tree_flatten(build(1, 1).parameters())
    return {width for _, array in weights for width in array.shape}


def _is_absent(prime: int, widths: set[int], more: int = 0) -> bool:
    """Return whether no width is a multiple of the prime, or up to ``more`` above it."""
    return all(width % prime and not 0 < width - prime <= more for width in widths)
