"""Steps of the matrix's small models as graphs: traced by the worker, and compiled by MLX."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import grad_checkpoint

from tests.matrix.check import CONFIGURATION
from tests.matrix.configs import all_configs
from worker import adapters, weights
from worker.protocol.requests import ModelSource
from worker.step_graph import compiling, parts
from worker.step_graph.backends import BACKENDS, Backend
from worker.step_graph.graph import Graph
from worker.step_graph.marks import Mark
from worker.step_graph.trace import trace
from worker.step_graph.traced_step import Build
from worker.trainer import _compiled_step

CPU = BACKENDS["cpu"]

_OTHER_NAMES = {
    "CumSum": "Scan",
    "Max": "Reduce",
    "Min": "Reduce",
    "Rsqrt": "Sqrt",
    "ScatterAxis Sum": "ScatterAxis",
    "Sum": "Reduce",
}
"""Names that MLX shows for arguments of primitives, and those of the primitives."""


def planned(name: str, layers: int = 16, rank: int = 4) -> nn.Module:
    """Return a model of the matrix with adapters. Its weights are not allocated."""
    model = weights.plan(ModelSource(all_configs()[name]), CONFIGURATION)
    adapters.prepare(model, replace(CONFIGURATION, lora_layers=layers, lora_rank=rank))
    return model


def builder(name: str) -> Build:
    return lambda layers, rank: planned(name, layers, rank)


def traced(model: nn.Module, batch_size: int = 2, length: int = 15) -> tuple[Graph, list[Mark]]:
    return trace(model, optim.Adam(learning_rate=1e-5), batch_size, length + 1)


def compiled(
    model: nn.Module,
    batch_size: int = 2,
    length: int = 15,
    *,
    checkpointed: bool,
    backend: Backend = CPU,
) -> Graph:
    """Return the graph of a step on the backend, rewritten as by ``TracedStep.on``."""
    graph, marks = traced(model, batch_size, length)
    parts.fuse(graph, marks, backend.fused, backend.recomputed)
    if checkpointed:
        parts.recompute_layers(graph, marks)
    parts.remove_marks(graph, marks)
    compiling.compile_graph(graph)
    return graph


def primitives(graph: Graph) -> Counter[str]:
    return Counter(node.name for node in graph.nodes)


def primitives_by_mlx(
    model: nn.Module, folder: Path, monkeypatch: pytest.MonkeyPatch, *, checkpointed: bool
) -> Counter[str]:
    """Return how often each primitive is in a step that MLX compiled, but has not evaluated."""
    optimizer = optim.Adam(learning_rate=1e-5)
    optimizer.init(model.trainable_parameters())
    state = [model.state, optimizer.state, mx.random.state]
    batch = mx.zeros((2, 16), mx.int32), mx.zeros((2, 2), mx.int32)
    mx.eval(state, batch)
    with monkeypatch.context() as patched:
        if checkpointed:
            layer = type(model.layers[0])
            patched.setattr(layer, "__call__", layer.__call__)  # is restored afterwards
            grad_checkpoint(model.layers[0])
        loss, tokens, _ = _compiled_step(model, optimizer, state, 1)(batch, None, True)
    updated = tree_flatten([model.trainable_parameters(), optimizer.state])
    return primitives_of([*(array for _, array in updated), loss, tokens], folder)


def primitives_of(outputs: list[mx.array], folder: Path) -> Counter[str]:
    """Return how often each primitive is in the graph of arrays that are not evaluated."""
    file = folder / "graph.dot"
    mx.export_to_dot(str(file), *outputs)
    labels = re.findall(r'\[label ="([^"]+)", shape=rectangle\]', file.read_text())
    return Counter(
        compiling.COMPILED if label.startswith("Compiled") else _OTHER_NAMES.get(label, label)
        for label in labels
    )
