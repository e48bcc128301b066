"""Marked parts: layers are computed again, operations fused, and no mark is left."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten

from tests.support.step_graphs import planned, primitives, traced
from worker.step_graph import parts
from worker.step_graph.graph import RESULTS, Graph, Node, ancestors
from worker.step_graph.marks import Kind, Mark, Marker, number
from worker.step_graph.trace import trace

BATCH, LENGTH = 2, 15
MODELS = ["llama", "llama-bfloat16", "qwen3_moe", "gemma4", "mamba2", "deepseek_v2"]


def cleaned(model: nn.Module, *change: Callable[[Graph, list[Mark]], None]) -> Graph:
    """Trace a step, change its graph, and remove the marks. All that is read must be computed."""
    graph, marks = traced(model, BATCH, LENGTH)
    done = graph.arrays.keys() - graph.producers().keys()
    for each in change:
        each(graph, marks)
    parts.remove_marks(graph, marks)
    for node in graph.nodes:
        assert done >= {*node.inputs}
        done |= {*node.outputs}
    assert done >= {*graph.outputs}
    return graph


def fused(*kinds: Kind, recomputed: tuple[Kind, ...] = ()) -> Callable[[Graph, list[Mark]], None]:
    return lambda graph, marks: parts.fuse(graph, marks, kinds, recomputed)


def named(graph: Graph, name: str) -> list[Node]:
    return [node for node in graph.nodes if node.name == name]


def test_numbers_are_distinct_and_exact_in_half_precision() -> None:
    count = 30 * 127
    numbers = [number(index) for index in range(count)]
    assert len(set(numbers)) == count
    assert all(math.frexp(each)[0] != -0.5 for each in numbers)  # is no power of two
    for dtype in (mx.float16, mx.bfloat16):
        assert mx.array(numbers, dtype).astype(mx.float32).tolist() == numbers
    with pytest.raises(OverflowError):
        number(count)


@pytest.mark.parametrize("name", MODELS)
def test_marks_leave_no_trace(name: str) -> None:
    graph, marks = traced(planned(name))
    before = primitives(graph)["Multiply"]
    used = {each for mark in marks for each in (mark.entry, mark.exit)}
    assert used <= {*graph.scalars.values()}
    parts.remove_marks(graph, marks)
    read = {each for node in graph.nodes for each in node.inputs}
    assert not used & {graph.scalars[each] for each in read & graph.scalars.keys()}
    # Each part has at least one input and one output.
    assert before - primitives(graph)["Multiply"] >= 2 * len(marks)


def test_deep_models_have_enough_marks() -> None:
    parts_per_layer, layers = 11, 94  # as in Qwen3-235B
    mark = Mark(parts_per_layer * layers, Kind.LOSS)
    assert mark.entry != mark.exit


def test_a_step_without_marks_has_the_same_primitives(monkeypatch: pytest.MonkeyPatch) -> None:
    with_marks = primitives(cleaned(planned("llama")))
    monkeypatch.setattr(Marker, "_call", lambda _, __, call, inputs, **___: call(*inputs))
    without = primitives(cleaned(planned("llama")))
    assert with_marks == without


def test_all_layers_are_marked() -> None:
    _, marks = traced(planned("llama"))
    found = Counter(mark.kind for mark in marks)
    norms, ropes = 2 * 2 + 1, 2 * 2
    assert found == {
        Kind.LAYER: 2,
        Kind.NORM: norms,
        Kind.ROPE: ropes,
        Kind.ATTENTION: 2,
        Kind.LOSS: 1,
    }


@pytest.mark.parametrize("name", MODELS)
def test_checkpointed_layers_are_computed_again(name: str) -> None:
    model = planned(name)
    plain, again = cleaned(model), cleaned(model, parts.recompute_layers)
    assert again.outputs == plain.outputs
    assert len(named(again, parts.DEPENDS)) == len(model.layers)
    products = "Matmul", "Scan", parts.FUSED
    for product in products:
        assert len(named(again, product)) >= len(named(plain, product))
    known = {output for node in plain.nodes for output in node.outputs}
    added = [node for node in again.nodes if not known.issuperset(node.outputs)]
    assert all("~" in output for node in added for output in node.outputs)


def test_the_second_computation_has_the_products_of_the_layers() -> None:
    model = planned("llama")
    plain, again = cleaned(model), cleaned(model, parts.recompute_layers)
    # Per layer: 7 linear modules with adapters, 3 products each, 2 in attention, except for the
    # last two of the outermost adapter, whose results no gradient requires.
    more = len(named(again, "Matmul")) - len(named(plain, "Matmul"))
    assert 0 < more <= 2 * (7 * 3 + 2)
    for depends in named(again, parts.DEPENDS):
        copies = [again.arrays[name] for name in depends.outputs]
        assert copies == [again.arrays[name] for name in depends.inputs[: len(copies)]]
        # It waits for the layer's result.
        assert len(depends.inputs) == len(copies) + 1


def test_only_trained_layers_are_computed_again() -> None:
    assert len(named(cleaned(planned("llama", 1), parts.recompute_layers), parts.DEPENDS)) == 1


@pytest.mark.parametrize("kind", [Kind.NORM, Kind.ROPE])
def test_fused_operations_are_one_node_in_each_direction(kind: Kind) -> None:
    model = planned("llama")
    _, marks = traced(model, BATCH, LENGTH)
    count = sum(mark.kind is kind for mark in marks)
    found = cleaned(model, fused(kind))
    # The gradient does not go on to what is before the first layer's adapters.
    assert count < len(named(found, parts.FUSED)) <= 2 * count
    assert len(found.nodes) < len(cleaned(model).nodes)


def test_attention_with_a_gradient_kernel_stores_no_scores() -> None:
    found = cleaned(planned("llama-bfloat16"), fused(Kind.ATTENTION))
    assert not scores(found.nodes, found)
    forward, backward = halves(found)
    assert [len(node.outputs) for node in forward] == [1, 1]
    assert [len(node.outputs) for node in backward] == [3, 3]
    # The gradient reads queries, keys, values, the output, and its cotangent.
    for node in forward:
        assert any({*node.inputs[:3], *node.outputs} < {*each.inputs} for each in backward)


def test_attention_without_a_gradient_kernel_computes_the_scores_in_the_backward_pass() -> None:
    model = planned("llama-bfloat16")
    found = cleaned(model, fused(Kind.ATTENTION, recomputed=(Kind.ATTENTION,)))
    forward, backward = halves(found)
    assert len(forward) == 2
    assert not backward
    assert not scores(forward_of(found), found)
    # In each layer those of the product, and their gradients.
    assert Counter(scores(found.nodes, found))["Matmul"] == 2 * 2


def test_attention_in_single_precision_has_no_kernel() -> None:
    model = planned("llama")
    plain, found = cleaned(model), cleaned(model, fused(Kind.ATTENTION))
    assert primitives(plain) == primitives(found)


def test_the_gradient_of_the_loss_is_computed_in_place() -> None:
    model = planned("llama")
    found = cleaned(model, fused(Kind.LOSS))
    (loss,) = named(found, parts.FUSED)
    (gradient,) = named(found, parts.FUSED_IN_PLACE)
    (logits,) = gradient.outputs
    shapes = [found.arrays[name].shape for name in (gradient.inputs[0], logits)]
    assert shapes[0] == shapes[1] == (BATCH, LENGTH, model.args.vocab_size)
    assert gradient.inputs[0] == loss.inputs[0]
    assert not named(found, "ScatterAxis")


def forward_of(graph: Graph) -> list[Node]:
    return [*ancestors(graph.outputs[:RESULTS], graph.producers())]


def scores(nodes: list[Node], graph: Graph) -> list[str]:
    """Return computed arrays of queries by keys. Views of the number that masks are none."""
    return [
        node.name
        for node in nodes
        if node.name != "Broadcast"
        for name in node.outputs
        if graph.arrays[name].shape[-2:] == (LENGTH, LENGTH)
    ]


def halves(graph: Graph) -> tuple[list[Node], list[Node]]:
    """Return the fused nodes of the forward and of the backward pass."""
    nodes = named(graph, parts.FUSED)
    forward = [node for node in forward_of(graph) if node.name == parts.FUSED]
    return forward, [node for node in nodes if node not in forward]


ORIGINALS = [
    *((mx.fast, n) for n in ("rms_norm", "layer_norm", "rope", "scaled_dot_product_attention")),
    *((mx, n) for n in ("gather_mm", "contiguous")),
    (nn.losses, "cross_entropy"),
]


def test_tracing_leaves_everything_as_it_was() -> None:
    model = planned("llama")
    before = [getattr(module, name) for module, name in ORIGINALS]
    layer = type(model.layers[0]).__call__
    parameters = dict(tree_flatten(model.parameters()))
    trained = [name for name, _ in tree_flatten(model.trainable_parameters())]
    traced(model)
    assert [getattr(module, name) for module, name in ORIGINALS] == before
    assert type(model.layers[0]).__call__ is layer
    after = dict(tree_flatten(model.parameters()))
    assert after.keys() == parameters.keys()
    assert all(after[name] is array for name, array in parameters.items())
    assert [name for name, _ in tree_flatten(model.trainable_parameters())] == trained


def test_tracing_leaves_everything_as_it_was_if_it_fails() -> None:
    model = planned("llama")
    before = [getattr(module, name) for module, name in ORIGINALS]
    layer = type(model.layers[0]).__call__
    parameters = dict(tree_flatten(model.parameters()))
    model.layers[1].mlp.down_proj = nn.Linear(3, 5)
    with pytest.raises(ValueError, match="addmm"):
        traced(model)
    assert [getattr(module, name) for module, name in ORIGINALS] == before
    assert type(model.layers[0]).__call__ is layer
    after = dict(tree_flatten(model.parameters()))
    assert all(array is parameters[name] for name, array in after.items() if name in parameters)


def test_tracing_allocates_nothing() -> None:
    model = planned("llama")
    mx.synchronize()
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    trace(model, optim.Adam(learning_rate=1e-5), 64, 1024)
    assert mx.get_peak_memory() - before < 8 * 2**10
