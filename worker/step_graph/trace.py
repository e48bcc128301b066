"""Traces a training step of a planned model: nothing is allocated or computed."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.trainer import default_loss

from worker.step_graph.graph import Graph, from_export
from worker.step_graph.marks import Mark, Marker


def trace(
    model: nn.Module, optimizer: optim.Optimizer, batch_size: int, seq_length: int
) -> tuple[Graph, list[Mark]]:
    """Return the graph of a step that computes mlx-lm's loss and updates ``model``, and its parts.

    Gradient checkpointing is not applied; the parts are marked instead.
    """
    mx.random.seed(0)  # otherwise dropout depends on all random numbers that were ever asked for
    weights = dict(tree_flatten(model.parameters()))
    trained = dict(tree_flatten(model.trainable_parameters()))
    optimizer.init(model.trainable_parameters())
    state = dict(tree_flatten(optimizer.state))
    gradients = nn.value_and_grad(model, default_loss)

    def step(*arrays: mx.array) -> list[mx.array]:
        model.update(tree_unflatten(list(zip(weights, arrays, strict=False))))
        optimizer.state = tree_unflatten(list(zip(state, arrays[len(weights) :], strict=False)))
        (loss, tokens), found = gradients(model, *arrays[len(weights) + len(state) :])
        optimizer.update(model, found)
        updated = model.trainable_parameters(), optimizer.state
        return [loss, tokens, *(array for _, array in tree_flatten(updated))]

    events: list[dict[str, Any]] = []
    marker = Marker()
    batch = mx.zeros((batch_size, seq_length), mx.int32), mx.zeros((batch_size, 2), mx.int32)
    try:
        with marker.applied(model):
            mx.export_function(events.append, step, *weights.values(), *state.values(), *batch)
    finally:
        model.update(tree_unflatten(list(weights.items())))
    graph = from_export(events)
    names = dict(zip((*weights, *(f"state.{n}" for n in state)), graph.inputs, strict=False))
    graph.updated = {names[n] for n in (*trained, *(f"state.{n}" for n in state))}
    return graph, marker.marks
