"""Rewrites the marked parts of a graph: fuses operations, recomputes checkpointed layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from worker.step_graph.graph import RESULTS, Graph, Node, ancestors
from worker.step_graph.marks import Kind, Mark

FUSED = "Fused"
"""The name of nodes that stand for fused operations, which allocate all their outputs."""

DEPENDS = "Depends"
"""MLX's primitive that returns its first inputs, once the other ones are computed."""

FUSED_IN_PLACE = "FusedInPlace"
"""The same, but the output can take the memory of the first input."""

_NEEDS_INPUTS = (Kind.NORM, Kind.ATTENTION, Kind.EXPERTS, Kind.LOSS)
_NEEDS_OUTPUTS = (Kind.ATTENTION, Kind.LOSS)
"""The parts whose fused gradient reads the inputs of the part, and its outputs."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The arrays at the borders of a part, in the forward and in the backward pass."""

    kind: Kind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cotangents: tuple[str, ...]
    gradients: tuple[str, ...]


def fuse(
    graph: Graph, marks: Iterable[Mark], kinds: Collection[Kind], recomputed: Collection[Kind]
) -> None:
    """Replace each part of ``kinds`` by one node, and its gradient by another.

    The gradient of those in ``recomputed`` has no kernel: it consists of the operations of the
    part, computed again, and their gradients.
    """
    borders = _Borders.of(graph)
    wanted = [mark for mark in marks if mark.kind in kinds and mark.is_fusable]
    removed, added, names = set[int](), list[Node](), dict[str, str]()
    for part in borders.parts(wanted):
        nodes = borders.between(part.inputs, part.outputs, borders.constants, is_forward=True)
        node = _fused(nodes, part.outputs)
        if part.kind in recomputed:
            clones, renamed = _copies(nodes, {}, f"~{part.outputs[0]}")
            added += clones
            names |= renamed
        elif part.gradients:
            backward = borders.between(
                part.cotangents, part.gradients, borders.positions, is_forward=False
            )
            removed |= set(map(id, backward))
            needed = node.inputs if part.kind in _NEEDS_INPUTS else ()
            kept = part.outputs if part.kind in _NEEDS_OUTPUTS else ()
            inside = {name for each in nodes for name in each.outputs}
            gradient = _fused(backward, part.gradients)
            outside = [name for name in gradient.inputs if name not in inside]
            inputs = tuple(dict.fromkeys((*needed, *outside, *kept)))
            name = FUSED_IN_PLACE if part.kind is Kind.LOSS else FUSED
            added.append(Node(name, inputs, gradient.outputs))
        removed |= set(map(id, nodes))
        added.append(node)
    left = [node for node in graph.nodes if id(node) not in removed]
    _replace(graph, [*borders.renamed(left, names), *added], names)


def recompute_layers(graph: Graph, marks: Iterable[Mark]) -> None:
    """Let the backward pass compute the layers again, as ``mx.checkpoint`` does."""
    borders = _Borders.of(graph)
    added, names = list[Node](), dict[str, str]()
    for part in borders.parts([mark for mark in marks if mark.kind is Kind.LAYER]):
        if not part.cotangents:
            continue
        suffix = f"~{part.outputs[0]}"
        again = {name: f"{name}{suffix}" for name in part.inputs}
        nodes = borders.between(part.inputs, part.outputs, borders.positions, is_forward=True)
        clones, renamed = _copies(nodes, again, suffix)
        added += [Node(DEPENDS, (*again, *part.outputs), tuple(again.values())), *clones]
        names |= again | renamed
    _replace(graph, [*borders.renamed(graph.nodes, names), *added], names)


def _replace(graph: Graph, nodes: list[Node], copies: Mapping[str, str]) -> None:
    """Let the graph have these nodes; ``copies`` maps arrays to equal ones."""
    for name, copy in copies.items():
        graph.arrays[copy] = graph.arrays[name]
    graph.nodes = nodes
    graph.sort()


def remove_marks(graph: Graph, marks: Iterable[Mark]) -> None:
    """Remove the multiplications by marks."""
    numbers = {number for mark in marks for number in (mark.entry, mark.exit)}
    names: dict[str, str] = {}
    for node, marked, number in _multiplications(graph, graph.producers()):
        if number in numbers:
            names[node.outputs[0]] = names.get(marked, marked)
    graph.nodes = [node for node in graph.nodes if node.outputs[0] not in names]
    graph.rename(names)
    graph.remove_unused()


@dataclass(frozen=True, slots=True)
class _Borders:
    """A graph's nodes, and which of them multiply by which number.

    ``constants`` are the nodes that depend on no input of the graph, such as those of a mask.
    """

    positions: dict[int, int]
    constants: frozenset[int]
    producers: dict[str, Node]
    forward: frozenset[int]
    readers: dict[str, list[Node]]
    multiplications: dict[float, list[tuple[Node, str]]]

    @classmethod
    def of(cls, graph: Graph) -> _Borders:
        producers = graph.producers()
        forward = frozenset(map(id, ancestors(graph.outputs[:RESULTS], producers)))
        multiplications = defaultdict(list)
        for node, other, number in _multiplications(graph, producers):
            multiplications[number].append((node, other))
        readers = defaultdict(list)
        for node in graph.nodes:
            for name in node.inputs:
                readers[name].append(node)
        positions = {id(node): index for index, node in enumerate(graph.nodes)}
        constants = _constants(graph)
        return cls(positions, constants, producers, forward, readers, multiplications)

    def parts(self, marks: Iterable[Mark]) -> Iterator[_Part]:
        """Yield the parts that the loss depends on."""
        for mark in marks:
            entries, exits = (self.multiplications[n] for n in (mark.entry, mark.exit))
            inputs = self._products(entries, is_forward=True)
            outputs = self._factors(exits, is_forward=True)
            if inputs and outputs:
                cotangents = self._products(exits, is_forward=False)
                gradients = self._factors(entries, is_forward=False)
                yield _Part(mark.kind, inputs, outputs, cotangents, gradients)

    def between(
        self,
        starts: Collection[str],
        ends: Iterable[str],
        own: Container[int],
        *,
        is_forward: bool,
    ) -> list[Node]:
        """Return the nodes on the way from some arrays to others in one of the passes, in order.

        Those of ``own`` that do not depend on ``starts`` are added if only the others need them.
        """
        found = ancestors(
            ends,
            self.producers,
            frozenset(starts),
            within=lambda node: (id(node) in self.forward) is is_forward,
        )
        ordered = sorted(found, key=lambda node: self.positions[id(node)])
        reached, inside = set(starts), set[int]()
        for node in ordered:
            if not reached.isdisjoint(node.inputs):
                reached.update(node.outputs)
                inside.add(id(node))
        for node in reversed(ordered):
            readers = (
                id(each)
                for name in node.outputs
                for each in self.readers[name]
                if not is_forward or id(each) in self.forward
            )
            if id(node) in own and inside.issuperset(readers):
                inside.add(id(node))
        return [node for node in ordered if id(node) in inside]

    def renamed(self, nodes: Iterable[Node], names: Mapping[str, str]) -> Iterator[Node]:
        """Yield the nodes; those of the backward pass use other inputs."""
        for node in nodes:
            yield node if id(node) in self.forward else node.renamed(names)

    def _products(self, found: Iterable[tuple[Node, str]], *, is_forward: bool) -> tuple[str, ...]:
        return tuple(n.outputs[0] for n, _ in found if (id(n) in self.forward) is is_forward)

    def _factors(self, found: Iterable[tuple[Node, str]], *, is_forward: bool) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(
                other for node, other in found if (id(node) in self.forward) is is_forward
            )
        )


def _multiplications(
    graph: Graph, producers: Mapping[str, Node]
) -> Iterator[tuple[Node, str, float]]:
    """Yield each node that multiplies an array by a number, with the array and the number."""

    def number(name: str) -> float | None:
        node = producers.get(name)
        return graph.scalars.get(node.inputs[0] if node and node.name == "Broadcast" else name)

    for node in graph.nodes:
        if node.name == "Multiply":
            first, second = node.inputs
            for factor, other in ((second, first), (first, second)):
                found = number(factor)
                if found is not None:
                    yield node, other, found
                    break


def _constants(graph: Graph) -> frozenset[int]:
    variable = set(graph.inputs)
    found = set[int]()
    for node in graph.nodes:
        if variable.isdisjoint(node.inputs):
            found.add(id(node))
        else:
            variable.update(node.outputs)
    return frozenset(found)


def _fused(nodes: Iterable[Node], outputs: tuple[str, ...]) -> Node:
    """Return one node that reads and computes what all of them do."""
    nodes = list(nodes)
    inside = {name for node in nodes for name in node.outputs}
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name not in inside)
    return Node(FUSED, tuple(read), outputs)


def _copies(
    nodes: Iterable[Node], names: Mapping[str, str], suffix: str
) -> tuple[list[Node], dict[str, str]]:
    """Return copies of nodes that read other arrays, and the names of the arrays they compute."""
    nodes = list(nodes)
    renamed = {name: f"{name}{suffix}" for node in nodes for name in node.outputs}
    inputs = {**names, **renamed}
    copies = [
        replace(node.renamed(inputs), outputs=tuple(renamed[name] for name in node.outputs))
        for node in nodes
    ]
    return copies, renamed
