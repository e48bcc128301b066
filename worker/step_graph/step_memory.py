"""Tables of how the memory of a step depends on layers, sequence length and batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.optimizers as optim

from worker.protocol.messages import StepMemory, Table
from worker.step_graph.allocation import Peak
from worker.step_graph.backends import Backend
from worker.step_graph.trace import trace
from worker.step_graph.traced_step import BackendStep, Build, Cell, TracedStep

RANK = 16
"""The rank of the adapters in the tables."""

_LAYERS = 9
"""Layers that are trained to find what each further one adds: more than most patterns have."""
_LAYERS_WITH_LOOP = 5

_SHORT = (16, 32, 64)
"""Lengths at which a model is traced that loops over tokens. Longer ones are extrapolated."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The sequence lengths and batch sizes of a table."""

    seq_lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TracedModel:
    """Steps that train one layer and several, each traced at as many lengths as necessary."""

    steps: dict[int, list[TracedStep]]
    has_loop: bool

    @classmethod
    def of(cls, build: Build, layers: int) -> TracedModel:
        """Trace a model that has this number of layers."""
        has_loop = _operations(build, 13) != _operations(build, 17)
        lengths = _SHORT if has_loop else (None,)
        most = min(layers, _LAYERS_WITH_LOOP if has_loop else _LAYERS)
        return cls(
            {
                count: [TracedStep.of(build, count, length) for length in lengths]
                for count in sorted({1, most})
            },
            has_loop,
        )

    def memory(self, backend: Backend, grid: Grid, *, grad_checkpoint: bool) -> StepMemory:
        """Return the memory of the steps on a backend."""
        cells: list[list[list[Cell]]] = []
        for traced in self.steps.values():
            steps = [step.on(backend, grad_checkpoint=grad_checkpoint) for step in traced]
            cells.append([_row(steps, length - 1, grid) for length in grid.seq_lengths])

        def table(value: Callable[[Cell], float]) -> Table:
            return tuple(
                tuple(tuple(round(value(cell)) for cell in row) for row in rows) for rows in cells
            )

        return StepMemory(
            tuple(self.steps),
            grid.seq_lengths,
            grid.batch_sizes,
            RANK,
            table(lambda cell: cell.needed.bytes),
            table(lambda cell: cell.needed.per_rank),
            table(lambda cell: cell.unlimited),
            self.has_loop,
        )


def _operations(build: Build, length: int) -> list[str]:
    graph, _ = trace(build(1, RANK), optim.Adam(learning_rate=1e-5), 1, length + 1)
    return [node.name for node in graph.nodes]


def _row(steps: Sequence[BackendStep], length: int, grid: Grid) -> list[Cell]:
    if len(steps) == 1:
        return [steps[0].cell(batch, length, RANK) for batch in grid.batch_sizes]
    return [_extrapolated(steps, length, batch) for batch in grid.batch_sizes]


def _extrapolated(steps: Sequence[BackendStep], length: int, batch: int) -> Cell:
    """Return the cell of a longer sequence, by a parabola through those of `_SHORT`."""
    cells = [step.cell(batch, own, RANK) for step, own in zip(steps, _SHORT, strict=True)]

    def value(of: Callable[[Cell], float]) -> float:
        return sum(weight * of(cell) for weight, cell in zip(_weights(length), cells, strict=True))

    needed = Peak(value(lambda cell: cell.needed.bytes), value(lambda cell: cell.needed.per_rank))
    return Cell(needed, value(lambda cell: cell.unlimited))


def _weights(x: int) -> Iterator[float]:
    """Yield the weights of the values at `_SHORT` in that of their parabola at ``x``."""
    for own in _SHORT:
        first, second = (each for each in _SHORT if each != own)
        yield (x - first) * (x - second) / ((own - first) * (own - second))
