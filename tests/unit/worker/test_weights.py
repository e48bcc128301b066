"""Synthesized weights are finite and sensible in each quantization; configs may contain nulls."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.prism_hadamard_qwen35 import HadamardQuantizedLinear

from tests.support import families, tiny
from tests.support.command import add_weights
from worker import weights
from worker.protocol.configuration import Configuration, Weights
from worker.protocol.requests import ModelSource

STORED = [
    *({"group_size": 64, "bits": bits} for bits in (2, 3, 4, 5, 6, 8)),
    {"group_size": 32, "bits": 4, "mode": "mxfp4"},
    {"group_size": 32, "bits": 8, "mode": "mxfp8"},
    {"group_size": 16, "bits": 4, "mode": "nvfp4"},
]


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: str([*stored.values()]))
@pytest.mark.parametrize("width", [64, 4096])
def test_synthesized_weights_are_finite_and_as_large_as_initial_ones(
    stored: dict[str, Any], width: int
) -> None:
    config = {**tiny.LLAMA, "hidden_size": width, "quantization": stored}
    model = weights.plan(ModelSource(config), Configuration())
    weights.materialize(model, synthesize=True)
    module = model.layers[0].mlp.gate_proj
    floats = mx.dequantize(
        *(module.weight, module.scales, module.get("biases")),
        group_size=module.group_size,
        bits=module.bits,
        mode=module.mode,
    ).astype(mx.float32)
    assert mx.isfinite(floats).all().item()
    initial = 1 / math.sqrt(3 * width)  # the standard deviation of `nn.Linear`'s weights
    spread, mean = np.std(np.array(floats)), np.mean(np.array(floats))
    assert initial / 2 < spread < initial * 2
    assert abs(mean) < initial / 4


def test_synthesized_experts_are_finite() -> None:
    stored = {"group_size": 32, "bits": 8, "mode": "mxfp8"}
    config = {**families.config("qwen3_next"), "quantization": stored}
    model = weights.plan(ModelSource(config), Configuration())
    weights.materialize(model, synthesize=True)
    assert mx.isfinite(model(mx.array([[1, 2, 3]]))).all().item()


def test_packed_weights_of_a_class_of_mlx_lm_keep_their_type() -> None:
    model = weights.plan(ModelSource(families.config("bitnet")), Configuration())
    weights.materialize(model, synthesize=True)
    assert model.layers[0].mlp.up_proj.weight.dtype == mx.uint8


def test_quantized_modules_of_mlx_lm_without_a_mode_are_affine() -> None:
    module = HadamardQuantizedLinear(256, 64, block=0)
    weights.materialize(module, synthesize=True)
    floats = mx.dequantize(
        module.weight, module.scales, module.biases, group_size=module.group_size, bits=module.bits
    )
    assert np.abs(np.array(floats)).max() == pytest.approx(1 / math.sqrt(256), rel=0.01)


NULLS = [{"quantization": None}, {"quantization_config": None}]


@pytest.mark.parametrize("nulls", NULLS, ids=lambda nulls: next(iter(nulls)))
@pytest.mark.parametrize("kind", Weights)
def test_a_quantization_of_null_means_none(
    nulls: dict[str, None], kind: Weights, tmp_path: Path
) -> None:
    config = {**tiny.LLAMA, **nulls}
    add_weights(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    for bits in (None, 4):
        configuration = Configuration(weights=kind, quantization_bits=bits)
        model = weights.plan(ModelSource(config, str(tmp_path)), configuration)
        assert ("scales" in model.layers[0].mlp.gate_proj) is (bits == 4)
