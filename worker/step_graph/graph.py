"""The graph of a training step: operations and the arrays between them, without MLX."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

RESULTS = 2
"""Number of a step's outputs that are no updated weights or state: the loss and the tokens."""


@dataclass(frozen=True, slots=True)
class Node:
    """An operation (one of MLX's primitives) with the names of its inputs and outputs.

    ``arguments`` are those of the primitive, such as the axes of a transposition.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arguments: tuple[Any, ...] = ()

    def renamed(self, names: Mapping[str, str]) -> Node:
        """Return the node with other inputs; ``names`` maps the old to the new ones."""
        if not any(name in names for name in self.inputs):
            return self
        inputs = tuple(names.get(name, name) for name in self.inputs)
        return Node(self.name, inputs, self.outputs, self.arguments)


@dataclass(frozen=True, slots=True)
class Array:
    """The shape of an array, and the bytes of each element."""

    shape: tuple[int, ...]
    item_bytes: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """The size in bytes."""
        return self.size * self.item_bytes


@dataclass(slots=True)
class Graph:
    """The operations of a step in an order in which each follows those it depends on.

    ``inputs`` are weights and batch. ``outputs`` are the loss, the number of tokens, and what is
    updated, which also is among the inputs. ``scalars`` has the value of each constant that is a
    number.
    """

    nodes: list[Node]
    arrays: dict[str, Array]
    inputs: list[str]
    outputs: list[str]
    scalars: dict[str, float] = field(default_factory=dict)
    updated: set[str] = field(default_factory=set)

    def producers(self) -> dict[str, Node]:
        """Return the node that computes each array; inputs and constants have none."""
        return {output: node for node in self.nodes for output in node.outputs}

    def rename(self, names: Mapping[str, str]) -> None:
        """Let nodes and outputs use other arrays, in place of those that are keys of ``names``."""
        self.nodes = [node.renamed(names) for node in self.nodes]
        self.outputs = [names.get(name, name) for name in self.outputs]

    def remove_unused(self) -> None:
        """Remove the nodes that no output depends on."""
        used = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if not used.isdisjoint(node.outputs):
                kept.append(node)
                used.update(node.inputs)
        self.nodes = kept[::-1]

    def sort(self) -> None:
        """Put the nodes in an order in which each follows those it depends on."""
        producers = self.producers()
        done = set[int]()
        ordered = []
        stack = [(producers[name], False) for name in reversed(self.outputs) if name in producers]
        while stack:
            node, is_ready = stack.pop()
            if id(node) in done:
                continue
            if is_ready:
                done.add(id(node))
                ordered.append(node)
                continue
            stack.append((node, True))
            stack.extend((producers[n], False) for n in reversed(node.inputs) if n in producers)
        self.nodes = ordered


def ancestors(
    names: Iterable[str],
    producers: Mapping[str, Node],
    stops: frozenset[str] = frozenset(),
    within: Callable[[Node], bool] = lambda node: True,
) -> Iterator[Node]:
    """Yield the nodes that the arrays depend on.

    The search does not go beyond the arrays in ``stops``, nor to nodes that are not ``within``.
    """
    seen = set[int]()
    stack = [name for name in names if name not in stops]
    while stack:
        node = producers.get(stack.pop())
        if node is not None and id(node) not in seen and within(node):
            seen.add(id(node))
            yield node
            stack.extend(name for name in node.inputs if name not in stops)


def from_export(events: Iterable[Mapping[str, Any]]) -> Graph:
    """Return the graph that ``mx.export_function`` reports to its callback."""
    graph = Graph([], {}, [], [])
    for event in events:
        kind = event["type"]
        if kind == "constants":
            for name, value in event["constants"]:
                graph.arrays[name] = Array(tuple(value.shape), value.dtype.size)
                if value.size == 1:
                    graph.scalars[name] = float(value.item())
            continue
        for name, shape, dtype in (*event.get("inputs", ()), *event.get("outputs", ())):
            graph.arrays.setdefault(name, Array(tuple(shape), dtype.size))
        if kind == "inputs":
            graph.inputs = [name for name, *_ in event["inputs"]]
        elif kind == "outputs":
            graph.outputs = list(dict.fromkeys(name for name, *_ in event["outputs"]))
        elif kind == "primitive":
            inputs, outputs = (tuple(n for n, *_ in event[k]) for k in ("inputs", "outputs"))
            graph.nodes.append(Node(event["name"], inputs, outputs, tuple(event["arguments"])))
    return graph
