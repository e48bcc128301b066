"""A graph in evaluation order, with what each operation does to memory: view, copy or allocate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.step_graph.compiling import COMPILED, ELEMENTWISE
from worker.step_graph.graph import Graph, Node
from worker.step_graph.layout import Layout, view
from worker.step_graph.parts import DEPENDS, FUSED_IN_PLACE

_IN_PLACE = frozenset(
    {"Softmax", "Scan", "ScatterAxis", "SliceUpdate", "Scatter", "MaskedScatter", FUSED_IN_PLACE}
)
"""Operations that can take the memory of their first input."""
_PRODUCTS = frozenset({"Matmul", "AddMM", "BlockMaskedMM"})
_QUANTIZED_PRODUCTS = frozenset({"QuantizedMatmul", "GatherQMM"})


@dataclass(frozen=True, slots=True)
class Output:
    """An array that an operation makes.

    It shares the memory of ``source``, if that is not None, or takes that of one of the ``donors``
    if nothing else needs it. Otherwise memory is allocated.
    """

    array: int
    source: int | None
    donors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on arrays, which are numbered.

    ``copies`` are the inputs that are first copied, ``unused`` the arrays that nothing reads later.
    """

    inputs: tuple[int, ...]
    copies: tuple[int, ...]
    outputs: tuple[Output, ...]
    unused: tuple[int, ...]

    @property
    def is_view(self) -> bool:
        """Whether nothing is computed."""
        return all(output.source is not None for output in self.outputs)


@dataclass(frozen=True, slots=True)
class Program:
    """The operations of a step, the names of the arrays, and which of these are updated."""

    operations: tuple[Operation, ...]
    names: tuple[str, ...]
    updated: tuple[int, ...]


def program(graph: Graph, order: Sequence[Node]) -> Program:
    """Return the program that evaluates the nodes in this order."""
    return _Compiler(graph, order).program()


class _Compiler:
    def __init__(self, graph: Graph, order: Sequence[Node]) -> None:
        self._graph = graph
        self._order = order
        self._numbers: dict[str, int] = {}
        self._layouts: dict[str, Layout] = {}
        self._readers = Counter(name for node in order for name in node.inputs)
        self._readers.update(graph.outputs)

    def program(self) -> Program:
        computed = {name for node in self._order for name in node.outputs}
        given = [n for n in self._readers if n not in computed]
        for name in given:
            self._number(name)
            self._layouts[name] = Layout.row_major(self._graph.arrays[name].shape)
        operations = tuple(map(self._operation, self._order))
        updated = [name for name in given if name in self._graph.updated]
        return Program(
            operations,
            tuple(self._numbers),
            tuple(map(self._number, updated)),
        )

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _operation(self, node: Node) -> Operation:
        copies = tuple(map(self._number, self._copied(node)))
        outputs = tuple(self._output(node, index) for index in range(len(node.outputs)))
        for name in node.inputs:
            self._readers[name] -= 1
        names = dict.fromkeys((*node.inputs, *node.outputs))
        unused = tuple(self._number(name) for name in names if not self._readers[name])
        inputs = tuple(map(self._number, dict.fromkeys(node.inputs)))
        return Operation(inputs, copies, outputs, unused)

    def _output(self, node: Node, index: int) -> Output:
        name = node.outputs[index]
        shape = self._graph.arrays[name].shape
        if node.inputs:
            source = node.inputs[index if node.name == DEPENDS else 0]
            layout = view(node, self._layouts[source], shape)
            if layout is not None:
                self._layouts[name] = layout
                return Output(self._number(name), self._number(source), ())
        self._layouts[name] = self._result(node, shape)
        return Output(self._number(name), None, tuple(self._donors(node, name)))

    def _copied(self, node: Node) -> list[str]:
        """Return the inputs that the operation cannot read as they lie in memory."""
        if node.name in _PRODUCTS:
            return [n for n in node.inputs[:2] if not self._layouts[n].can_be_multiplied]
        if node.name in _QUANTIZED_PRODUCTS:
            return [n for n in node.inputs[:1] if not self._layouts[n].is_row_major]
        return []

    def _result(self, node: Node, shape: tuple[int, ...]) -> Layout:
        """Return the layout of a new array. Elementwise operations keep that of their inputs."""
        if _is_elementwise(node):
            layouts = [self._layouts[n] for n in node.inputs if self._graph.arrays[n].size > 1]
            is_same = len({layout.order for layout in layouts}) == 1
            if is_same and layouts[0].shape == shape and layouts[0].is_dense:
                return layouts[0]
        return Layout.row_major(shape)

    def _donors(self, node: Node, name: str) -> Iterator[int]:
        """Yield the inputs of the same size and layout that nothing else reads."""
        array, layout = self._graph.arrays[name], self._layouts[name]
        first = node.inputs[:1] if node.name in _IN_PLACE else ()
        for each in node.inputs if _is_elementwise(node) else first:
            own = self._graph.arrays[each]
            is_alike = (own.size, own.item_bytes) == (array.size, array.item_bytes)
            is_last = self._readers[each] == 1
            if is_alike and is_last and self._layouts[each].order == layout.order:
                yield self._number(each)


def _is_elementwise(node: Node) -> bool:
    return node.name == COMPILED or node.name in ELEMENTWISE
