"""The memory of small programs: what is freed, shared, taken over and copied."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from worker.step_graph.allocation import Peak, Sizes, Tasks, peak
from worker.step_graph.graph import Array, Graph, Node
from worker.step_graph.program import program

EACH = Tasks(1)
"""Each operation is a task, after which memory is freed."""
ALL = Tasks(1000)
"""One task, which never ends."""
ITEM = 4

INPUTS = {"x": (2, 3), "y": (2, 3), "w": (2, 3)}


def node(text: str) -> tuple[Node, tuple[int, ...]]:
    """Parse a node such as ``b = Sort a``, or ``b:3,2 = Transpose a`` with the output's shape."""
    outputs, _, operation = text.partition(" = ")
    names, _, widths = outputs.partition(":")
    shape = tuple(map(int, widths.split(","))) if widths else (2, 3)
    name, *inputs = operation.split()
    arguments: tuple[object, ...] = ([1, 0],) if name == "Transpose" else ()
    return Node(name, tuple(inputs), tuple(names.split()), arguments), shape


def most(*texts: str, tasks: Tasks = EACH, updated: str = "", outputs: str = "") -> float:
    """Return the peak in arrays of the usual shape; the last array is an output."""
    return found(*texts, tasks=tasks, updated=updated, outputs=outputs).bytes / (6 * ITEM)


def found(
    *texts: str, tasks: Tasks = EACH, updated: str = "", outputs: str = "", start: int = 0
) -> Peak:
    parsed = [node(text) for text in texts]
    nodes = [each for each, _ in parsed]
    shapes = INPUTS | {name: shape for each, shape in parsed for name in each.outputs}
    arrays = {name: Array(shape, ITEM) for name, shape in shapes.items()}
    ends = [*outputs.split(), nodes[-1].outputs[-1]]
    graph = Graph(nodes, arrays, list(INPUTS), ends, updated=set(updated.split()))
    made = program(graph, nodes)
    sizes = Sizes(
        [arrays[name].bytes for name in made.names],
        [float(name == "a") for name in made.names],
        [arrays[name].size for name in made.names],
    )
    return peak(made, sizes, tasks, start)


def test_what_is_not_read_any_more_is_freed() -> None:
    assert most("a = Sort x", "b = Sort a", "c = Sort b") == 2


def test_what_is_read_later_is_kept() -> None:
    assert most("a = Sort x", "b = Sort a", "c = Sort b", "d = Gather c a") == 3


def test_outputs_are_kept() -> None:
    assert most("a = Sort x", "b = Sort a", "c = Sort b", outputs="a") == 3


def test_nothing_is_freed_before_its_task_ends() -> None:
    chain = ("a = Sort x", "b = Sort a", "c = Sort b", "d = Sort c")
    assert most(*chain, tasks=ALL) == 4
    assert most(*chain, tasks=Tasks(2)) == 3


def test_dispatches_beyond_the_end_of_a_task_count_in_the_next() -> None:
    chain = ("a = Sort x", "b = Sort a", "c = Sort b", "d = Sort c")
    assert most(*chain, tasks=Tasks(3, computation=2)) == 2
    assert most(*chain, tasks=Tasks(4, computation=2)) == 3


def test_a_result_that_nothing_reads_is_freed_too() -> None:
    assert most("a b = Sort x", "c = Sort b", "d = Sort c") == 2
    assert most("a b = Sort x", "c = Sort b", "d = Sort c", outputs="a") == 3


def test_a_task_ends_when_it_has_read_more_elements_than_the_limit() -> None:
    chain = ("a = Sort x", "b = Sort a", "c = Sort b", "d = Sort c")
    assert most(*chain, tasks=Tasks(1000, elements=5)) == 2
    assert most(*chain, tasks=Tasks(1000, elements=6)) == 3
    assert most(*chain, tasks=Tasks(1000, elements=24)) == 4


def test_elements_are_counted_anew_in_each_task() -> None:
    chain = [f"a{i + 1} = Sort a{i}" for i in range(8)]
    assert most("a0 = Sort x", *chain, tasks=Tasks(2, elements=13)) == 3


def test_unfinished_tasks_keep_what_they_use() -> None:
    chain = ("a = Sort x", "b = Sort a", "c = Sort b", "d = Sort c", "e = Sort d")
    assert most(*chain, tasks=replace(EACH, running=1)) == 3
    assert most(*chain, tasks=replace(EACH, running=2)) == 4


def test_a_view_is_a_dispatch_where_the_backend_counts_it() -> None:
    chain = ("a = Sort x", "b = Sort a", "c:3,2 = Transpose b", "d = Gather c y")
    assert most(*chain, tasks=Tasks(3, view=0)) == 3
    assert most(*chain, tasks=Tasks(3, view=1)) == 2
    assert most(*chain, tasks=Tasks(5, view=1, computation=2)) == 2


def test_the_step_may_begin_within_a_task() -> None:
    chain = ("a = Sort x", "b = Sort a", "c = Sort b")
    peaks = [found(*chain, tasks=Tasks(2), start=start).bytes / (6 * ITEM) for start in (0, 1)]
    assert peaks == [2, 3]


def test_a_view_keeps_the_memory_of_its_source() -> None:
    view = ("a = Sort x", "v:3,2 = Transpose a")
    assert most(*view) == 1
    assert most(*view, "b = Sort y", "c = Sort b") == 2
    assert most(*view, "b = Sort y", "c = Sort b", "d = Gather c v") == 3


def test_a_view_of_weights_takes_nothing() -> None:
    assert most("v:3,2 = Transpose x", "b = Gather v y") == 1


def test_a_reshaped_view_is_copied_if_its_elements_are_not_in_order() -> None:
    assert most("a = Sort x", "v:3,2 = Transpose a", "r:6 = Reshape v") == 2
    assert most("a = Sort x", "r:6 = Reshape a") == 1


@pytest.mark.parametrize("tasks", [EACH, ALL])
def test_elementwise_operations_take_over_an_input_that_nothing_else_reads(tasks: Tasks) -> None:
    assert most("a = Sort x", "b = Exp a", "c = Exp b", tasks=tasks) == 1
    assert most("a = Sort x", "b = Sort y", "c = Compiled a b", "d = Exp c", tasks=tasks) == 2


def test_the_second_input_is_taken_over_if_the_first_cannot_be() -> None:
    assert most("a = Sort x", "b = Add y a") == 1
    assert most("a = Sort x", "b = Sort y", "c = Add a b", outputs="a") == 2


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("a = Sort x", "b = Exp a", "c = Gather a b"), 3),  # is read later
        (("a = Sort x", "b = Multiply a a"), 2),  # is read twice at once
        (("a = Sort x", "v:3,2 = Transpose a", "b = Exp a", "c = Gather b v"), 3),  # has a view
        (("a = Sort x", "v:3,2 = Transpose a", "b:2,3 = Add v y"), 2),  # has another order
        (("a = Sort x", "b:12 = Exp a"), 3),  # is smaller
    ],
)
def test_an_input_is_not_taken_over_if_it(texts: tuple[str, ...], expected: float) -> None:
    assert most(*texts) == expected


def test_an_input_is_not_taken_over_while_an_unfinished_task_reads_it() -> None:
    # The first Gather reads a and is still running when Exp could take it.
    texts = ("a = Sort x", "b = Gather a y", "c = Exp a")
    assert most(*texts, tasks=EACH, outputs="b") == 2
    assert most(*texts, tasks=ALL, outputs="b") == 3


def test_the_order_of_dimensions_of_one_element_does_not_matter() -> None:
    view = ("a:6,1 = Sort x", "v:1,6 = Transpose a", "r:1,6 = Reshape y")
    assert most(*view, "b:1,6 = Add v r") == 1


def test_weights_are_not_taken_over() -> None:
    assert most("a = Exp x") == 1


@pytest.mark.parametrize("name", ["Softmax", "SliceUpdate", "Scatter", "ScatterAxis", "Scan"])
def test_operations_in_place_take_over_their_first_input_only(name: str) -> None:
    assert most("a = Sort x", f"b = {name} a y") == 1
    assert most("a = Sort x", f"b = {name} y a") == 2


def test_updated_weights_count_and_are_taken_over() -> None:
    assert most("a = Sort y", "b = Add w a") == 1
    assert most("a = Sort y", "b = Add w a", updated="w") == 2
    assert most("a = Sort y", "b = Gather w a", updated="w") == 3


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("a = Sort x", "b:2,2 = Matmul a y"), 1 + 4 / 6),
        (("a = Sort x", "v:3,2 = Transpose a", "b:2,2 = Matmul y v"), 1 + 4 / 6),
        (("a:4,3 = Sort x", "v:2,3 = Slice a", "b:2,2 = Matmul v w"), 2 + 4 / 6),
        (("a:3 = Sort x", "v:2,3 = Broadcast a", "b:2,2 = Matmul v w"), 0.5 + 1 + 4 / 6),
        (("a:3 = Sort x", "v:2,3 = Broadcast a", "b:2,2 = AddMM x y v"), 0.5 + 4 / 6),
        (("a = Sort x", "v:3,2 = Transpose a", "b:2,2 = QuantizedMatmul v y"), 2 + 4 / 6),
        (("a = Sort x", "v:3,2 = Transpose a", "b:2,2 = QuantizedMatmul y v"), 1 + 4 / 6),
    ],
)
def test_products_copy_inputs_that_they_cannot_read(
    texts: tuple[str, ...], expected: float
) -> None:
    assert math.isclose(most(*texts), expected)


def test_a_copy_is_freed_when_its_task_ends() -> None:
    texts = (
        "a:3 = Sort x",
        "v:2,3 = Broadcast a",
        "b:2,2 = Matmul v w",
        "c = Sort y",
        "d = Sort c",
    )
    assert math.isclose(most(*texts, outputs="b"), 4 / 6 + 2)
    assert math.isclose(most(*texts, outputs="b", tasks=ALL), 0.5 + 1 + 4 / 6 + 2)


def test_what_the_peak_gains_per_rank_is_that_of_the_arrays_in_it() -> None:
    # The helper gives "a" a gain of one byte per rank.
    assert found("a = Sort x", "b = Sort a").per_rank == 1
    assert found("a = Sort x", "b:6 = Sort a", "c:8 = Sort b", "d:8 = Sort c").per_rank == 0
