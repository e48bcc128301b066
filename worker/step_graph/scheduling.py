"""The order in which MLX evaluates a graph (``eval_impl`` in mlx/transforms.cpp)."""

from __future__ import annotations

from collections import Counter

from worker.step_graph.graph import RESULTS, Graph, Node, ancestors

_MAX_WIDTH = 20
"""MLX's default of ``MLX_BFS_MAX_WIDTH``."""


def evaluation_order(graph: Graph) -> list[Node]:
    """Return the nodes that the outputs depend on, in the order in which MLX evaluates them.

    MLX goes through the graph from the outputs, breadth first. If more nodes than its limit are
    waiting, it continues with the newest and returns to the others later. The order found is then
    reversed.
    """
    producers = graph.producers()
    outputs = graph.outputs[RESULTS:] + graph.outputs[:RESULTS]  # as mlx-lm's trainer asks for them
    root = Node("Synchronize", tuple(outputs), ())
    left = _degrees(root, producers)
    tape = [root]
    postponed: list[tuple[Node, int]] = []
    position = 0
    while position < len(tape) or postponed:
        if position < len(tape):
            node, start = tape[position], 0
            position += 1
        else:
            node, start = postponed.pop()
        for index in range(start, len(node.inputs)):
            producer = producers.get(node.inputs[index])
            if producer is None:
                continue
            if len(tape) - position >= _MAX_WIDTH:
                postponed.append((node, index))
                break
            left[id(producer)] -= 1
            if not left[id(producer)]:
                tape.append(producer)
    return tape[:0:-1]


def _degrees(root: Node, producers: dict[str, Node]) -> Counter[int]:
    """Return how often each node is read by others."""
    nodes = [root, *ancestors(root.inputs, producers)]
    return Counter(
        id(producers[name]) for node in nodes for name in node.inputs if name in producers
    )
