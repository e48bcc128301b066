"""Tables of how the memory of a step depends on layers, sequence length and batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import mlx.optimizers as optim

from worker.protocol.memory import BATCH_SIZES, SEQ_LENGTHS, StepMemory, Table
from worker.step_graph.allocation import Peak
from worker.step_graph.backends import Backend
from worker.step_graph.trace import trace
from worker.step_graph.traced_step import BackendStep, Build, Cell, TracedStep

RANK = 16
"""The rank of the adapters in the tables."""

_LAYERS = 9
"""Layers that are trained to find what each further one adds: more than most patterns have."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The sequence lengths and batch sizes of a table."""

    seq_lengths: tuple[int, ...] = SEQ_LENGTHS
    batch_sizes: tuple[int, ...] = BATCH_SIZES


@dataclass(frozen=True, slots=True)
class _Lengths:
    """The lengths at which a step is traced for sequences ``until`` a length.

    Without ``fixed`` ones, one trace is valid for all. Otherwise the graph is another one for each
    length, and the memory that of a parabola through them.
    """

    until: float = math.inf
    fixed: tuple[int, ...] = ()

    def traced(self, build: Build, layers: int) -> tuple[TracedStep, ...]:
        """Trace the step at these lengths."""
        if self.fixed:
            return tuple(TracedStep.at(build, layers, length) for length in self.fixed)
        return (TracedStep.of(build, layers, is_short=self.until < math.inf),)


_ALL = (_Lengths(),)
_FIXED = _Lengths(fixed=(256, 512, 1024))
_CHUNKS = {width: (_Lengths(width), _FIXED) for width in (128, 256)}
"""Linear attention and state-space models compute chunks of so many tokens, one after the other."""


class TokenLoopError(ValueError):
    """The model's layers loop over tokens, so the graphs of long sequences are huge."""


@dataclass(frozen=True, slots=True)
class TracedModel:
    """Steps that train one layer and several, each traced at as many lengths as necessary."""

    lengths: tuple[_Lengths, ...]
    steps: dict[int, list[tuple[TracedStep, ...]]]

    @classmethod
    def of(cls, build: Build, layers: int) -> TracedModel:
        """Trace a model that has this number of layers.

        Raises:
            TokenLoopError: if its layers loop over tokens.
        """
        lengths = _lengths(build)
        most = min(layers, _LAYERS)
        steps = {
            count: [each.traced(build, count) for each in lengths] for count in sorted({1, most})
        }
        return cls(lengths, steps)

    def memory(self, backend: Backend, grid: Grid, *, grad_checkpoint: bool) -> StepMemory:
        """Return the memory of the steps on a backend."""
        cells: list[list[list[Cell]]] = []
        for traced in self.steps.values():
            ranges = [
                _Range(each, [step.on(backend, grad_checkpoint=grad_checkpoint) for step in steps])
                for each, steps in zip(self.lengths, traced, strict=True)
            ]
            cells.append(list(_rows(ranges, grid)))

        def table(value: Callable[[Cell], float]) -> Table:
            return tuple(
                tuple(tuple(round(value(cell)) for cell in row) for row in rows) for rows in cells
            )

        return StepMemory(
            tuple(self.steps),
            grid.seq_lengths,
            grid.batch_sizes,
            RANK,
            growing(table(lambda cell: cell.needed.bytes)),
            table(lambda cell: cell.needed.per_rank),
            growing(table(lambda cell: cell.unlimited)),
        )


def growing(table: Table) -> Table:
    """Return the table with no number below one for a smaller length or batch.

    Larger arrays can end a task earlier, which frees memory sooner. Where MLX's tasks end is not
    known so exactly, and needed memory does not shrink.
    """

    def larger(rows: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
        above: tuple[int, ...] = (0,) * len(rows[0])
        for row in rows:
            above = tuple(accumulate(map(max, row, above), max))
            yield above

    return tuple(tuple(larger(rows)) for rows in table)


_LOOP = 8
"""A loop adds more operations than this. Equal widths by chance change the number by a few."""


def _lengths(build: Build) -> tuple[_Lengths, ...]:
    """Return at which lengths to trace, by how the number of operations grows with the length."""

    def operations(length: int) -> int:
        graph, _ = trace(build(1, RANK), optim.Adam(learning_rate=1e-5), 1, length + 1)
        return len(graph.nodes)

    if abs(operations(67) - operations(83)) > _LOOP:
        raise TokenLoopError("it loops over tokens")
    if abs(operations(1009) - operations(2039)) <= _LOOP:
        return _ALL
    return _CHUNKS[128 if abs(operations(101) - operations(251)) > _LOOP else 256]


@dataclass(frozen=True, slots=True)
class _Range:
    lengths: _Lengths
    steps: list[BackendStep]

    def cells(self, batch: int) -> Callable[[int], Cell]:
        """Return a function from the length to the memory of a batch."""
        if not self.lengths.fixed:
            return lambda length: self.steps[0].cell(batch, length, RANK)
        pairs = zip(self.steps, self.lengths.fixed, strict=True)
        found = [step.smooth_cell(batch, length, RANK) for step, length in pairs]
        return lambda length: _parabola(length, self.lengths.fixed, found)


def _rows(ranges: Sequence[_Range], grid: Grid) -> Iterator[list[Cell]]:
    columns = [[each.cells(batch) for batch in grid.batch_sizes] for each in ranges]
    for seq_length in grid.seq_lengths:
        length = seq_length - 1  # mlx-lm's loss predicts one token less
        own = next(i for i, each in enumerate(ranges) if length <= each.lengths.until)
        yield [cell(length) for cell in columns[own]]


def _parabola(x: int, lengths: tuple[int, ...], cells: Sequence[Cell]) -> Cell:
    """Return the cell at ``x`` of the parabolas through three cells."""
    weights = []
    for own in lengths:
        first, second = (each for each in lengths if each != own)
        weights.append((x - first) * (x - second) / ((own - first) * (own - second)))

    def value(of: Callable[[Cell], float]) -> float:
        return sum(weight * of(cell) for weight, cell in zip(weights, cells, strict=True))

    needed = Peak(value(lambda cell: cell.needed.bytes), value(lambda cell: cell.needed.per_rank))
    # What tasks hold has no such form; it grows at most linearly.
    held = (cells[-1].unlimited - cells[-1].needed.bytes) * max(1.0, x / lengths[-1])
    return Cell(needed, needed.bytes + held)
