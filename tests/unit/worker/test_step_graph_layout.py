"""Views and copies are those of MLX: arrays are evaluated and compared with what is predicted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.step_graph.graph import Node, from_export
from worker.step_graph.layout import Layout, view

KINDS = ["transpose", "slice", "broadcast", "reshape", "expand", "squeeze"]

Change = Callable[[mx.array], mx.array]


@st.composite
def changes(draw: st.DrawFn, shape: tuple[int, ...]) -> Change:
    """Draw an operation that changes the shape or the order of the elements."""
    axes = range(len(shape))
    match draw(
        st.sampled_from(["transpose", "slice", "broadcast", "reshape", "expand", "squeeze"])
    ):
        case "transpose":
            order = draw(st.permutations(axes))
            return lambda array: mx.transpose(array, order)
        case "slice":
            slices = tuple(draw(slices_of(width)) for width in shape)
            return lambda array: array[slices]
        case "broadcast":
            wider = [draw(st.integers(1, 3)) if width == 1 else width for width in shape]
            more = draw(st.lists(st.integers(1, 3), max_size=1))
            return lambda array: mx.broadcast_to(array, (*more, *wider))
        case "reshape":
            other = draw(reshaped(math.prod(shape)))
            return lambda array: mx.reshape(array, other)
        case "expand":
            axis = draw(st.integers(0, len(shape)))
            return lambda array: mx.expand_dims(array, axis)
        case _:
            ones = [axis for axis in axes if shape[axis] == 1]
            return lambda array: mx.squeeze(array, ones)


@st.composite
def slices_of(draw: st.DrawFn, width: int) -> slice:
    start = draw(st.integers(0, width - 1))
    if draw(st.booleans()):
        return slice(start, draw(st.integers(start + 1, width)), draw(st.integers(1, 2)))
    return slice(start, None, -draw(st.integers(1, 2)))


@st.composite
def reshaped(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    """Draw a shape with this number of elements."""
    shape: list[int] = []
    while size > 1 and len(shape) < 5:
        shape.append(draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0])))
        size //= shape[-1]
    return (*shape, size)


def node_of(change: Change, array: mx.array) -> Node:
    """Return the only operation of a change."""
    events: list[dict[str, Any]] = []
    mx.export_function(events.append, lambda given: [change(given)], array)
    (node,) = from_export(events).nodes or [Node("Reshape", ("A",), ("A",))]
    return node


def layout_of(array: mx.array) -> Layout:
    given = memoryview(array)  # type: ignore[arg-type]  # the stubs lack the buffer protocol
    assert given.strides is not None
    return Layout(array.shape, tuple(stride // given.itemsize for stride in given.strides))


def wide(layout: Layout) -> list[tuple[int, int]]:
    """Return widths and strides; the stride of a dimension of one element does not matter."""
    return [pair for pair in zip(layout.shape, layout.strides, strict=True) if pair[0] > 1]


@given(st.data())
def test_views_have_the_strides_of_mlx_and_others_are_copied(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    array = mx.arange(math.prod(shape), dtype=mx.float32).reshape(shape)
    mx.eval(array)
    layout = Layout.row_major(shape)
    for _ in range(4):
        change = data.draw(changes(array.shape))
        changed = change(array)
        mx.eval(changed)
        found = view(node_of(change, array), layout, changed.shape)
        shared = np.shares_memory(np.asarray(changed), np.asarray(array))
        assert (found is not None) is shared
        layout = found or Layout.row_major(changed.shape)
        assert wide(layout) == wide(layout_of(changed))
        array = changed


@pytest.mark.parametrize(
    ("source", "shape", "is_copied"),
    [
        (Layout.row_major((2, 3, 4)), (6, 4), False),
        (Layout((3, 2, 4), (4, 12, 1)), (6, 4), True),
        (Layout((3, 2, 4), (4, 12, 1)), (3, 2, 2, 2), False),
        (Layout((3, 2, 4), (4, 12, 1)), (3, 8), True),
        (Layout((2, 3, 4), (24, 4, 1)), (2, 12), False),
        (Layout((2, 3, 4), (24, 4, 1)), (24,), True),
        (Layout((3, 4), (0, 0)), (12,), False),
        (Layout((3, 4), (0, 1)), (12,), True),
        (Layout((), ()), (1, 1), False),
    ],
)
def test_reshapes_that_need_a_copy(source: Layout, shape: tuple[int, ...], is_copied: bool) -> None:
    assert (view(Node("Reshape", ("a",), ("b",)), source, shape) is None) is is_copied


def test_parts_of_a_split_and_dependencies_share_the_memory_of_their_input() -> None:
    source = Layout.row_major((4, 6))
    for name in ("Split", "Depends"):
        assert view(Node(name, ("a",), ("b", "c")), source, (4, 3)) == Layout((4, 3), (6, 1))


def test_another_type_is_a_view_only_of_row_major_arrays() -> None:
    node = Node("View", ("a",), ("b",))
    assert view(node, Layout.row_major((4, 6)), (4, 12)) == Layout.row_major((4, 12))
    assert view(node, Layout((6, 4), (1, 6)), (6, 8)) is None


def test_computations_are_no_views() -> None:
    assert view(Node("Add", ("a", "b"), ("c",)), Layout.row_major((2,)), (2,)) is None


@pytest.mark.parametrize(
    ("layout", "row_major", "dense", "multiplied"),
    [
        (Layout.row_major((2, 3)), True, True, True),
        (Layout((3, 2), (1, 3)), False, True, True),
        (Layout((2, 3), (6, 1)), False, False, False),
        (Layout((2, 3), (0, 1)), False, False, False),
        (Layout((4, 2, 3), (6, 3, 1)), True, True, True),
        (Layout((2, 4, 3), (3, 6, 1)), False, True, False),
        (Layout((1, 3), (99, 1)), True, True, True),
        (Layout((3, 1), (1, 99)), True, True, True),
        (Layout((3,), (2,)), False, False, True),
        (Layout((), ()), True, True, True),
    ],
)
def test_properties(layout: Layout, row_major: bool, dense: bool, multiplied: bool) -> None:
    found = layout.is_row_major, layout.is_dense, layout.can_be_multiplied
    assert found == (row_major, dense, multiplied)
