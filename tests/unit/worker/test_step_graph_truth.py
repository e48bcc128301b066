"""A traced step has the primitives of the step that MLX compiles."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from tests.support.step_graphs import compiled, planned, primitives, primitives_by_mlx
from worker.step_graph.parts import FUSED

CHECKPOINT = "CustomTransforms"
"""MLX leaves these views in a step with gradient checkpointing, one per layer."""

MODELS = ["llama", "llama-4bit", "llama-bfloat16", "cohere", "mamba2", "falcon_h1"]
CASES = [*((name, False) for name in [*MODELS, "gemma3", "gemma4"]), *((n, True) for n in MODELS)]

PARTS_OF_EXPERTS = {
    *("Arange", "Broadcast", "ExpandDims", "Flatten", "Full", "GatherMM", "Reshape"),
    *("Scatter Sum", "Transpose"),
}
"""The primitives of `mx.gather_mm` and its gradient, for which a trace has one node each."""


@pytest.mark.parametrize(("name", "checkpointed"), CASES)
def test_primitives_are_those_of_the_compiled_step(
    name: str, checkpointed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = planned(name)
    evaluate_constants(model)
    found = primitives(compiled(model, checkpointed=checkpointed))
    real = primitives_by_mlx(model, tmp_path, monkeypatch, checkpointed=checkpointed)
    assert real.pop(CHECKPOINT, 0) == (len(model.layers) if checkpointed else 0)
    assert found == real


@pytest.mark.parametrize("checkpointed", [False, True])
def test_each_product_of_experts_is_one_node_and_its_gradient_another(
    checkpointed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = planned("qwen3_moe")
    found = primitives(compiled(model, checkpointed=checkpointed))
    real = primitives_by_mlx(model, tmp_path, monkeypatch, checkpointed=checkpointed)
    # Three projections per layer, each with the two matrices of an adapter.
    products = 3 * 3 * len(model.layers)
    assert found.pop(FUSED) == (3 if checkpointed else 2) * products
    real.pop(CHECKPOINT, 0)
    assert others(found) == others(real)


def others(found: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in found.items() if name not in PARTS_OF_EXPERTS}


def evaluate_constants(model: nn.Module) -> None:
    """Compute what a planned model has in addition to its weights, such as frequencies."""
    parameters = dict(tree_flatten(model.parameters()))
    mx.eval([array for name, array in tree_flatten(model.state) if name not in parameters])
