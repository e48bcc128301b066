"""Simplifies and fuses a graph as ``mx.compile`` does (mlx/compile.cpp)."""

from __future__ import annotations

from worker.step_graph.graph import Graph, Node

COMPILED = "Compiled"
"""The name of MLX's primitive for fused operations."""

BROADCAST = "Broadcast"

_UNARY = (
    "Abs ArcCos ArcCosh ArcSin ArcSinh ArcTan ArcTanh AsType BitwiseInvert Ceil Conjugate Cos Cosh "
    "Erf ErfInv Exp Expm1 Floor Imag Log Log10 Log1p Log2 LogicalNot Negative Real Remainder Round "
    "Rsqrt Sigmoid Sign Sin Sinh Sqrt Square Tan Tanh"
)
_OTHERS = (
    "Add ArcTan2 BitwiseAnd BitwiseBinary BitwiseOr BitwiseXor Divide Equal Greater GreaterEqual "
    "LeftShift Less LessEqual LogAddExp LogicalAnd LogicalOr Maximum Minimum Multiply NaNEqual "
    "NotEqual Power RightShift Select Subtract"
)
ELEMENTWISE = frozenset({*_UNARY.split(), *_OTHERS.split()})
"""The primitives that MLX fuses. It also fuses broadcasts into them."""

_MAX_DEPTH = 11
_MAX_ARRAYS = 24
_PASSES = 3


def compile_graph(graph: Graph) -> None:
    """Simplify the graph, then fuse its elementwise operations.

    ``mx.export_function`` has removed copies already.
    """
    for _ in range(_PASSES):
        _merge_equal(graph)
    graph.remove_unused()
    _Fusion(graph).run()


def _merge_equal(graph: Graph) -> None:
    """Merge operations with equal inputs and arguments. MLX finds them by their inputs."""
    outputs = set(graph.outputs)
    found: dict[tuple[object, ...], Node] = {}
    names: dict[str, str] = {}
    kept = []
    for original in graph.nodes:
        node = original.renamed(names)
        shapes = tuple(graph.arrays[name].shape for name in node.outputs)
        key = (node.name, node.inputs, repr(node.arguments), shapes)
        same = found.get(key) if outputs.isdisjoint(node.outputs) else None
        if same is not None:
            names.update(zip(node.outputs, same.outputs, strict=True))
            continue
        if node.inputs:
            found.setdefault(key, node)
        kept.append(node)
    graph.nodes = kept
    graph.outputs = [names.get(name, name) for name in graph.outputs]


class _Fusion:
    """Goes through a graph from its end, and fuses what each node depends on."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._outputs = frozenset(graph.outputs)
        self._producers = graph.producers()
        # What reads an array, by the first output of the reader.
        self._readers: dict[str, set[str]] = {}
        for node in graph.nodes:
            self._add_reader(node)
        self._fused = set[str]()
        self._copies: list[Node] = []

    def run(self) -> None:
        """Replace each group of nodes that MLX fuses by one node."""
        nodes = []
        for original in reversed(self._graph.nodes):
            key = original.outputs[-1]
            if key in self._fused:
                continue
            node = self._producers[key]
            group = _Group(self._graph.arrays[key].shape)
            if node.name in ELEMENTWISE:
                self._collect(key, 0, group)
            nodes.append(self._replaced(node, group) if len(group.nodes) > 1 else node)
        self._graph.nodes = [*self._copies, *nodes]
        self._graph.sort()

    def _add_reader(self, node: Node) -> None:
        for name in node.inputs:
            self._readers.setdefault(name, set()).add(node.outputs[-1])

    def _collect(self, name: str, depth: int, group: _Group) -> None:
        """Add what computes ``name`` to the group, if MLX can fuse it."""
        if name in group.nodes:
            return
        node = self._producers.get(name)
        is_output = name in self._outputs
        if (
            node is None
            or depth >= _MAX_DEPTH
            or not (node.name in ELEMENTWISE or node.name == BROADCAST)
            or (is_output and self._graph.arrays[name].shape != group.shape)
        ):
            group.inputs.add(name)
            return
        if depth and not self._readers[name] <= group.nodes.keys():
            if node.name == BROADCAST and len(group.inputs) < _MAX_ARRAYS:
                self._collect(self._split(node, group), depth, group)
            else:
                group.inputs.add(name)
            return
        if is_output:
            group.inputs.add(name)
        else:
            group.inputs.discard(name)
        if len(group.inputs) < _MAX_ARRAYS:
            group.nodes[name] = node
            for each in node.inputs:
                self._collect(each, depth + 1, group)

    def _split(self, node: Node, group: _Group) -> str:
        """Give the group a broadcast of its own, and return its array."""
        (name,) = node.outputs
        copy = f"{name}~{len(self._copies)}"
        self._graph.arrays[copy] = self._graph.arrays[name]
        own = Node(node.name, node.inputs, (copy,), node.arguments)
        self._copies.append(own)
        self._producers[copy] = own
        self._add_reader(own)
        inside = self._readers[name] & group.nodes.keys()
        self._readers[name] -= inside
        self._readers[copy] = inside
        for each in inside:
            renamed = group.nodes[each].renamed({name: copy})
            group.nodes[each] = self._producers[each] = renamed
        return copy

    def _replaced(self, node: Node, group: _Group) -> Node:
        """Return one node for the group, which ends with ``node``."""
        key = node.outputs[0]
        order = dict[str, None]()
        inputs = dict[str, None]()

        def visit(name: str) -> None:
            if name not in group.nodes:
                inputs[name] = None
            elif name not in order:
                for each in group.nodes[name].inputs:
                    visit(each)
                order[name] = None

        visit(key)
        self._fused |= order.keys() - {key}
        outputs = [name for name in order if name in self._outputs and name != key]
        fused = Node(COMPILED, tuple(inputs), (*outputs, key))
        for name in inputs:
            self._readers[name] -= order.keys()
        for name in fused.outputs:
            self._producers[name] = fused
        self._add_reader(fused)
        return fused


class _Group:
    """Nodes to be fused, by the array that each computes, and what they read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.nodes: dict[str, Node] = {}
        self.inputs = set[str]()
