"""The evaluation order is MLX's: breadth first from the outputs, of limited width, reversed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.step_graph.graph import Array, Graph, Node
from worker.step_graph.scheduling import evaluation_order


def graph(outputs: list[str], **nodes: str) -> Graph:
    """Return a graph with a node for each keyword: its output, and the names of its inputs."""
    made = [Node("Add", tuple(inputs.split()), (name,)) for name, inputs in nodes.items()]
    names = {name for node in made for name in (*node.inputs, *node.outputs)}
    return Graph(made, {name: Array((2,), 4) for name in names}, ["x"], outputs)


def order(made: Graph) -> list[str]:
    return [node.outputs[0] for node in evaluation_order(made)]


def test_later_outputs_and_inputs_come_first() -> None:
    made = graph(["c", "d"], a="x", b="x", c="a b", d="x")
    assert order(made) == ["b", "a", "d", "c"]


def test_a_node_comes_before_all_that_read_it() -> None:
    made = graph(["c"], a="x", b="a", c="a b")
    assert order(made) == ["a", "b", "c"]


def test_a_node_read_twice_by_another_is_evaluated_once() -> None:
    assert order(graph(["b"], a="x", b="a a")) == ["a", "b"]


def test_unused_nodes_are_not_evaluated() -> None:
    assert order(graph(["a"], a="x", b="a")) == ["a"]


def test_a_node_with_several_outputs_is_evaluated_once() -> None:
    split = Node("Split", ("x",), ("a", "b"))
    add = Node("Add", ("a", "b"), ("c",))
    made = Graph([split, add], {}, ["x"], ["c"])
    assert evaluation_order(made) == [split, add]


def test_with_up_to_20_inputs_all_are_evaluated_at_the_same_depth() -> None:
    assert order(wide(20)) == expected_of(range(20))


def test_from_the_21st_input_on_they_are_evaluated_before_the_others() -> None:
    # The first 20 inputs and what they depend on are found first, so they are evaluated last.
    assert order(wide(25)) == [*expected_of(range(20, 25))[:-1], *expected_of(range(20))]


def test_the_newest_node_with_too_many_inputs_is_continued_first() -> None:
    q = {f"q{i}": "x" for i in range(25)}
    p = {f"p{i}": " ".join(q) if i == 19 else "x" for i in range(25)}
    made = graph(["sum"], **q, **p, sum=" ".join(p))
    found = [*(f"p{i}" for i in range(20)), *q, *(f"p{i}" for i in range(20, 25))]
    assert order(made) == [*reversed(found), "sum"]


def wide(width: int) -> Graph:
    """Return a graph whose output has this number of inputs, each of which has its own input."""
    first = {f"q{i}": "x" for i in range(width)}
    second = {f"p{i}": f"q{i}" for i in range(width)}
    return graph(["sum"], **first, **second, sum=" ".join(second))


def expected_of(numbers: range) -> list[str]:
    found = [*(f"p{i}" for i in numbers), *(f"q{i}" for i in numbers)]
    return [*reversed(found), "sum"]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(1, 60))
    nodes: dict[str, str] = {}
    for index in range(count):
        known = ["x", *(f"n{i}" for i in range(index))]
        inputs = draw(st.lists(st.sampled_from(known), min_size=1, max_size=25))
        nodes[f"n{index}"] = " ".join(inputs)
    outputs = draw(st.lists(st.sampled_from([*nodes]), min_size=1, max_size=25, unique=True))
    return graph(outputs, **nodes)


@settings(max_examples=30)
@given(graphs())
def test_each_needed_node_is_evaluated_once_and_after_its_inputs(made: Graph) -> None:
    found = evaluation_order(made)
    done = {"x"}
    for node in found:
        assert done.issuperset(node.inputs)
        assert done.isdisjoint(node.outputs)
        done.update(node.outputs)
    needed = Graph(list(made.nodes), {}, ["x"], made.outputs)
    needed.remove_unused()
    assert {id(node) for node in found} == {id(node) for node in needed.nodes}
