"""Small functions are simplified and fused as MLX compiles them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from tests.support.step_graphs import primitives, primitives_of
from worker.step_graph.compiling import compile_graph
from worker.step_graph.graph import from_export

Function = Callable[[mx.array, mx.array], list[mx.array]]


def chain(depth: int) -> Function:
    def function(x: mx.array, _: mx.array) -> list[mx.array]:
        for _index in range(depth):
            x = mx.exp(x)
        return [x]

    return function


def total(width: int) -> Function:
    """Add so many arrays that are not elementwise."""

    def function(x: mx.array, _: mx.array) -> list[mx.array]:
        level = [mx.sort(x + index, axis=0) for index in range(width)]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            level = [a + b for a, b in pairs] + level[len(level) // 2 * 2 :]
        return level

    return function


def shared(x: mx.array, y: mx.array) -> list[mx.array]:
    both = mx.exp(x)
    return [mx.sort(both * 2) + both, mx.sin(both) @ y.T]


def output_within(x: mx.array, y: mx.array) -> list[mx.array]:
    inner = mx.exp(x) + y
    return [inner, mx.sin(inner) * 2]


def smaller_output_within(x: mx.array, y: mx.array) -> list[mx.array]:
    inner = mx.exp(x[0])
    return [inner, mx.sin(inner) * y]


def shared_broadcast(x: mx.array, y: mx.array) -> list[mx.array]:
    wide = mx.broadcast_to(mx.sum(x, axis=0), y.shape)
    return [mx.exp(wide) * y, mx.sort(mx.sin(wide) + y), wide @ y.T]


def equal(x: mx.array, y: mx.array) -> list[mx.array]:
    first, second = (mx.sort(mx.exp(x) * 2, axis=0) for _ in range(2))
    return [first @ y.T, second + y]


def equal_outputs(x: mx.array, _: mx.array) -> list[mx.array]:
    return [mx.sort(x), mx.sort(x)]


def different_arguments(x: mx.array, y: mx.array) -> list[mx.array]:
    return [mx.sort(x, axis=0) @ y.T, mx.sort(x, axis=1) @ y.T]


def stopped(x: mx.array, y: mx.array) -> list[mx.array]:
    return [mx.exp(mx.stop_gradient(mx.sin(x))) + y]


def unused_output(x: mx.array, y: mx.array) -> list[mx.array]:
    left, _ = mx.split(mx.exp(x), 2, axis=1)
    return [mx.sin(left) + y[:, :3]]


FUNCTIONS = [
    *map(chain, (1, 2, 10, 11, 12, 23)),
    *map(total, (8, 23, 24, 25, 60)),
    *(shared, output_within, smaller_output_within, shared_broadcast, equal, equal_outputs),
    *(different_arguments, stopped, unused_output),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_graph_has_the_primitives_of_the_compiled_function(
    function: Function, tmp_path: Path
) -> None:
    arrays = mx.ones((6, 6)), mx.ones((6, 6))
    mx.eval(arrays)
    events: list[dict[str, Any]] = []
    mx.export_function(events.append, function, *arrays)
    graph = from_export(events)
    compile_graph(graph)
    assert primitives(graph) == primitives_of(mx.compile(function)(*arrays), tmp_path)
