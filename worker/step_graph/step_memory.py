"""How the memory of a training step depends on batch size, sequence length, rank and layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass

import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten

from worker.protocol.messages import StepPeaks, Terms
from worker.step_graph import allocation, compiling, parts, scheduling
from worker.step_graph.allocation import Waits
from worker.step_graph.graph import Array, Graph, Node
from worker.step_graph.marks import Kind, Mark
from worker.step_graph.trace import trace

_LENGTHS = (1009, 1013, 1019, 1021, 1031)
_RANKS = (61, 67, 71, 73, 79)
"""Primes. One that divides no width of the model shows which dimensions grow with the length or
the rank."""

_SHORT_LENGTHS = (16, 32, 64)
"""The lengths at which models are traced whose layers loop over tokens."""
_FEW_TOKENS = (13, 17)

_SIZES = ((128, 8), (1024, 8), (1024, 128), (8192, 16))
"""The lengths and ranks at which peaks are looked for."""

_AT_ONCE = Waits(1, view=1, computation=1)


@dataclass(frozen=True, slots=True)
class _Backend:
    """The operations for which a backend has a kernel, and when it waits for the device.

    ``recomputed`` are those without a kernel for the gradient.
    """

    waits: Waits
    fused: frozenset[Kind] = frozenset()
    recomputed: frozenset[Kind] = frozenset()


_ALWAYS = frozenset({Kind.EXPERTS, Kind.COPY})
_SMALL = _ALWAYS | {Kind.NORM, Kind.ROPE}
_BACKENDS = {
    # mlx/backend/cpu/encoder.h: a task has ten dispatches. 
    "cpu": _Backend(Waits(10, view=1, computation=2), _ALWAYS),
    # mlx/backend/cuda/device.cpp: a graph has 100 operations on an H100. Attention has a kernel for
    # gradients only if the length is a multiple of 128, and mlx-lm's are one token shorter.
    "cuda": _Backend(
        Waits(101, view=0, computation=1),
        _SMALL | {Kind.ATTENTION, Kind.LOSS},
        frozenset({Kind.ATTENTION}),
    ),
    # mlx/backend/metal/device.cpp: a command buffer has 40 or 50 operations.
    "metal": _Backend(Waits(41, view=0, computation=1), _SMALL | {Kind.ATTENTION, Kind.LOSS}),
    "metal-0.32.3": _Backend(Waits(41, view=0, computation=1), _SMALL),
}

Build = Callable[[int, int], nn.Module]
"""Returns a planned model in which this number of layers is trained, with adapters of this rank."""


def step_peaks(
    build: Build, layers: int, backend: str, *, grad_checkpoint: bool
) -> tuple[StepPeaks, ...]:
    """Return the peaks of a step that trains one layer, and of one that trains several.

    ``layers`` is the number of layers that the model has.
    """
    model = build(1, 8)
    few, more = (_Step.traced(model, length) for length in _FEW_TOKENS)
    has_loop = [node.name for node in few.graph.nodes] != [node.name for node in more.graph.nodes]
    counts = (1, min(layers, 5 if has_loop else 9))
    found = _of_loops if has_loop else _of_graph
    rewrite = _rewriter(_BACKENDS[backend], grad_checkpoint=grad_checkpoint)
    waits = _BACKENDS[backend].waits
    return tuple(found(build, count, rewrite, waits) for count in dict.fromkeys(counts))


@dataclass(frozen=True, slots=True)
class _Step:
    """A traced step, and the parts of its graph."""

    graph: Graph
    marks: list[Mark]

    @classmethod
    def traced(cls, model: nn.Module, length: int) -> _Step:
        return cls(*trace(model, optim.Adam(learning_rate=1e-5), 1, length + 1))


def _rewriter(backend: _Backend, *, grad_checkpoint: bool) -> Callable[[_Step], list[Node]]:
    """Return a function that makes of a traced graph what ``backend`` evaluates, in its order."""

    def rewrite(step: _Step) -> list[Node]:
        parts.fuse(step.graph, step.marks, backend.fused, backend.recomputed)
        if grad_checkpoint:
            parts.recompute_layers(step.graph, step.marks)
        parts.remove_marks(step.graph, step.marks)
        compiling.compile_graph(step.graph)
        return scheduling.evaluation_order(step.graph)

    return rewrite


def _of_graph(
    build: Build, layers: int, rewrite: Callable[[_Step], list[Node]], waits: Waits
) -> StepPeaks:
    """Return the peaks of a model whose graph is the same at all lengths."""
    model = build(layers, 1)
    widths = {width for _, array in tree_flatten(model.parameters()) for width in array.shape}
    length, rank = _indivisible(_LENGTHS, widths), _indivisible(_RANKS, widths)
    step = _Step.traced(build(layers, rank), length)
    order = rewrite(step)
    terms = {name: _term(array, length, rank) for name, array in step.graph.arrays.items()}

    def largest(waits: Waits, starts: Iterable[int]) -> tuple[Terms, ...]:
        found = [
            _sum(terms[name] for name in peak.arrays)
            for peak in _peaks(step.graph, order, terms, waits, starts)
        ]
        return tuple(dict.fromkeys(found))

    return StepPeaks(layers, largest(_AT_ONCE, (0,)), largest(waits, _starts(waits)))


def _starts(waits: Waits) -> range:
    """Return some of the numbers of dispatches after which a step may start."""
    return range(0, waits.dispatches, -(-waits.dispatches // 3))


def _peaks(
    graph: Graph, order: list[Node], terms: dict[str, Terms], waits: Waits, starts: Iterable[int]
) -> Iterator[allocation.Peak]:
    for length, rank in _SIZES:
        sizes = {name: value(term, length, length, rank) for name, term in terms.items()}
        for start in starts:
            yield allocation.peak(graph, order, sizes.__getitem__, waits, start)


def value(terms: Terms, tokens: int, length: int, rank: int) -> float:
    """Return the bytes of a batch with so many tokens, in sequences of ``length``."""
    return (
        terms.fixed
        + terms.rank * rank
        + (terms.tokens + terms.tokens_rank * rank + terms.pairs * length) * tokens
    )


def _term(array: Array, length: int, rank: int) -> Terms:
    """Return the size of an array, by the dimensions that are multiples of the primes."""
    grows = sum(width % length == 0 or (width - 1) % length == 0 and width > 1 for width in array.shape)
    has_rank = any(width % rank == 0 for width in array.shape)
    if grows >= 2:
        return Terms(pairs=array.bytes / length**grows)
    if has_rank:
        size = array.bytes / rank
        return Terms(tokens_rank=size / length) if grows else Terms(rank=size)
    return Terms(tokens=array.bytes / length) if grows else Terms(fixed=float(array.bytes))


def _indivisible(primes: Iterable[int], widths: Iterable[int]) -> int:
    return next(prime for prime in primes if all(width % prime for width in widths))


def _sum(terms: Iterable[Terms]) -> Terms:
    return Terms(*map(sum, zip(*map(astuple, terms), strict=True)))


def _of_loops(
    build: Build, layers: int, rewrite: Callable[[_Step], list[Node]], waits: Waits
) -> StepPeaks:
    """Return the peaks of a model whose graph grows with the length, as quadratic functions."""
    alive, held = [], []
    model = build(layers, 8)
    for length in _SHORT_LENGTHS:
        step = _Step.traced(model, length)
        order = rewrite(step)
        graph = step.graph

        def size(name: str, graph: Graph = graph) -> float:
            return graph.arrays[name].bytes

        alive.append(allocation.peak(graph, order, size, _AT_ONCE).bytes)
        held.append(allocation.peak(graph, order, size, waits).bytes)
    return StepPeaks(layers, (_quadratic(alive),), (_quadratic(held),))


def _quadratic(values: list[float]) -> Terms:
    """Return the terms with these values at `_SHORT_LENGTHS`."""
    (x0, x1, x2), (y0, y1, y2) = _SHORT_LENGTHS, values
    first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    pairs = (second - first) / (x2 - x0)
    tokens = first - pairs * (x0 + x1)
    return Terms(fixed=y0 - tokens * x0 - pairs * x0**2, tokens=tokens, pairs=pairs)
