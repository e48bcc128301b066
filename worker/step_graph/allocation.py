"""Follows MLX's evaluation of a graph, and finds what is in memory at the peak."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from worker.step_graph.compiling import COMPILED, ELEMENTWISE
from worker.step_graph.graph import Graph, Node
from worker.step_graph.layout import Layout, view
from worker.step_graph.parts import FUSED_IN_PLACE

_SOURCE_DONATED = frozenset(
    {"Softmax", "Scan", "ScatterAxis", "SliceUpdate", "Scatter", FUSED_IN_PLACE}
)
"""Operations that write to the memory of their first input if nothing else needs it."""
_PRODUCTS = frozenset({"Matmul", "AddMM", "BlockMaskedMM"})
_QUANTIZED_PRODUCTS = frozenset({"QuantizedMatmul", "GatherQMM"})

Sizes = Callable[[str], float]
"""Returns the size of an array in bytes."""


@dataclass(frozen=True, slots=True)
class Waits:
    """When MLX frees memory, if it is over its limit: after ``dispatches`` of work.

    MLX waits for the device only then. ``view`` and ``computation`` are the dispatches of an
    operation without and with a kernel.
    """

    dispatches: int
    view: int
    computation: int
    elements: float = math.inf


@dataclass(frozen=True, slots=True)
class Peak:
    """The bytes in memory at the peak, and the arrays for which they were allocated."""

    bytes: float
    arrays: tuple[str, ...]


def peak(
    graph: Graph, order: Collection[Node], sizes: Sizes, waits: Waits, start: int = 0
) -> Peak:
    """Return the peak of evaluating the nodes in this order.

    Weights that do not change are not counted. ``start`` is the number of dispatches before.
    """
    return _Allocator(graph, order, sizes, waits, start).run()


@dataclass(slots=True, eq=False)
class _Buffer:
    """Memory, the array for which it was allocated, and how many arrays share it.

    It is held while operations that read it may still run. Constant weights are not counted.
    """

    name: str
    size: float
    arrays: int = 0
    is_held: bool = False
    is_counted: bool = True


class _Allocator:
    def __init__(
        self, graph: Graph, order: Collection[Node], sizes: Sizes, waits: Waits, start: int
    ) -> None:
        self._graph = graph
        self._order = order
        self._sizes = sizes
        self._waits = waits
        self._dispatched = start
        self._readers = Counter(name for node in order for name in node.inputs)
        self._readers.update(graph.outputs)
        self._layouts: dict[str, Layout] = {}
        self._buffers: dict[str, _Buffer] = {}
        self._counted = dict[_Buffer, None]()
        self._held: list[_Buffer] = []
        self._bytes = 0.0
        self._elements = 0
        self._peak = Peak(0.0, ())

    def run(self) -> Peak:
        """Evaluate all nodes."""
        computed = {name for node in self._order for name in node.outputs}
        for name in dict.fromkeys(name for node in self._order for name in node.inputs):
            if name not in computed:
                self._buffers[name] = _Buffer(name, 0.0, 1, is_counted=False)
                self._layouts[name] = Layout.row_major(self._graph.arrays[name].shape)
                if name in self._graph.updated:
                    self._buffers[name] = self._allocate(name, self._sizes(name))
                    self._buffers[name].arrays = 1
        for node in self._order:
            is_view = self._evaluate(node)
            self._release(node)
            self._dispatched += self._waits.view if is_view else self._waits.computation
            if not is_view: self._elements += sum(self._graph.arrays[n].size for n in node.inputs)
            if self._dispatched >= self._waits.dispatches or self._elements > self._waits.elements:
                self._dispatched = 0 if self._elements > self._waits.elements else self._dispatched % self._waits.dispatches
                self._elements = 0
                self._wait()
        self._record()
        return self._peak

    def _evaluate(self, node: Node) -> bool:
        """Give each output its memory, and return whether it is that of an input."""
        layout = self._layouts[node.inputs[0]] if node.inputs else None
        is_view = False
        for index, name in enumerate(node.outputs):
            shape = self._graph.arrays[name].shape
            if node.name == "Depends":
                layout = self._layouts[node.inputs[index]]
            found = view(node, layout, shape) if layout is not None else None
            if found is not None:
                source = node.inputs[index if node.name == "Depends" else 0]
                self._add(name, self._buffers[source], found)
                is_view = True
            else:
                self._compute(node, name, shape)
        return is_view

    def _compute(self, node: Node, name: str, shape: tuple[int, ...]) -> None:
        if node.name in _PRODUCTS:
            copied = [n for n in node.inputs[:2] if not self._layouts[n].can_be_multiplied]
        elif node.name in _QUANTIZED_PRODUCTS:
            copied = [n for n in node.inputs[:1] if not self._layouts[n].is_row_major]
        else:
            copied = []
        for each in copied:
            self._hold(self._allocate(each, self._sizes(each)))
        donor = self._donor(node, name)
        if donor is None:
            self._add(name, self._allocate(name, self._sizes(name)), self._result(node, shape))
        else:
            self._add(name, self._buffers[donor], self._layouts[donor])

    def _donor(self, node: Node, name: str) -> str | None:
        """Return an input whose memory the output can take, because nothing else needs it."""
        array = self._graph.arrays[name]
        if node.name == COMPILED or node.name in ELEMENTWISE:
            candidates = node.inputs
        elif node.name in _SOURCE_DONATED:
            candidates = node.inputs[:1]
        else:
            return None
        for each in candidates:
            buffer, own = self._buffers[each], self._graph.arrays[each]
            if (
                self._readers[each] == 1
                and buffer.arrays == 1
                and buffer.is_counted
                and not buffer.is_held
                and (own.size, own.item_bytes) == (array.size, array.item_bytes)
                and self._layouts[each].is_dense
            ):
                return each
        return None

    def _result(self, node: Node, shape: tuple[int, ...]) -> Layout:
        """Return the layout of a new array. Elementwise operations keep that of their inputs."""
        if node.name == COMPILED or node.name in ELEMENTWISE:
            layouts = {self._layouts[n] for n in node.inputs if self._graph.arrays[n].size > 1}
            if len(layouts) == 1 and (layout := layouts.pop()).shape == shape and layout.is_dense:
                return layout
        return Layout.row_major(shape)

    def _add(self, name: str, buffer: _Buffer, layout: Layout) -> None:
        buffer.arrays += 1
        self._buffers[name], self._layouts[name] = buffer, layout

    def _allocate(self, name: str, size: float) -> _Buffer:
        buffer = _Buffer(name, size)
        self._counted[buffer] = None
        self._bytes += size
        return buffer

    def _release(self, node: Node) -> None:
        """Hold what the operation reads until it has run, and drop what nothing else reads."""
        own = {self._buffers[name] for name in node.outputs}
        for name in node.inputs:
            if self._buffers[name] not in own:
                self._hold(self._buffers[name])
            self._readers[name] -= 1
        for name in (*node.inputs, *node.outputs):
            if not self._readers[name] and name in self._buffers:
                buffer = self._buffers.pop(name)
                buffer.arrays -= 1
                self._hold(buffer)

    def _hold(self, buffer: _Buffer) -> None:
        if buffer.is_counted and not buffer.is_held:
            buffer.is_held = True
            self._held.append(buffer)

    def _wait(self) -> None:
        """Free what is not needed any more: all operations have run."""
        self._record()
        for buffer in self._held:
            buffer.is_held = False
            if not buffer.arrays:
                self._bytes -= buffer.size
                del self._counted[buffer]
        self._held.clear()

    def _record(self) -> None:
        if self._bytes > self._peak.bytes:
            self._peak = Peak(self._bytes, tuple(buffer.name for buffer in self._counted))
