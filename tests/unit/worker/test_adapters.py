"""What a configuration trains in each family of models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from tests.support import families, tiny
from tests.support.families import HYBRID, WITH_ATTENTION, WITHOUT_ATTENTION
from worker import adapters, architecture, probe, weights
from worker.architecture import UnsupportedModelError
from worker.protocol.configuration import (
    ALL_KEYS,
    ATTENTION_KEYS,
    Configuration,
    FineTuneType,
    QuantizationMode,
)
from worker.protocol.requests import ModelSource, PlannedModel

DORA = Configuration(fine_tune_type=FineTuneType.DORA, lora_keys=ALL_KEYS, lora_layers=2)
FULL = Configuration(
    fine_tune_type=FineTuneType.FULL,
    lora_keys=(),
    lora_rank=0,
    lora_layers=1,
    grad_checkpoint=False,
)
MOE = "qwen3_next"


def trained(model: nn.Module) -> dict[str, mx.array]:
    return dict(tree_flatten(model.trainable_parameters()))


@pytest.mark.parametrize("family", [*WITH_ATTENTION, *HYBRID])
def test_lora_trains_the_projections_of_attention(family: str) -> None:
    model = architecture.build(families.config(family))
    _, keys = {**WITH_ATTENTION, **HYBRID}[family]
    assert adapters.resolve_keys(model, ATTENTION_KEYS) == tuple(sorted(keys))
    assert adapters.attention_projections(model) == keys


@pytest.mark.parametrize("family", WITHOUT_ATTENTION)
def test_without_attention_lora_trains_all_linear_layers(family: str) -> None:
    model = architecture.build(families.config(family))
    _, keys = WITHOUT_ATTENTION[family]
    assert adapters.resolve_keys(model, ATTENTION_KEYS) == tuple(sorted(keys))
    facts = probe.facts(PlannedModel(families.config(family), Configuration()))
    assert (set(facts.lora_keys), facts.lacks_attention) == (keys, True)


def test_layers_without_attention_cannot_be_trained_alone() -> None:
    """The last layer of this model has a recurrent block."""
    config = {**families.config("nemotron_h"), "hybrid_override_pattern": ["*", "M"]}
    model = architecture.build(config)
    configuration = Configuration(lora_layers=1)
    with pytest.raises(UnsupportedModelError, match="no attention in the last 1 layer; train more"):
        adapters.prepare(model, configuration)
    assert adapters.prepare(architecture.build(config), Configuration(lora_layers=2))


def test_a_model_without_linear_layers_is_refused() -> None:
    model = architecture.build(tiny.LLAMA)
    for layer in model.layers:
        layer.self_attn = layer.mlp = nn.RMSNorm(8)
    with pytest.raises(UnsupportedModelError, match="no layers that LoRA can train"):
        adapters.prepare(model, Configuration())


@pytest.mark.parametrize("family", [*WITH_ATTENTION, *HYBRID, *WITHOUT_ATTENTION])
def test_all_keys_are_those_of_mlx_lm(family: str) -> None:
    config = families.config(family)
    ours, theirs = architecture.build(config), architecture.build(config)
    adapters.prepare(ours, Configuration(lora_rank=4, lora_keys=ALL_KEYS, lora_layers=2))
    if not hasattr(theirs, "_no_grad"):
        nn.Module.__init__(theirs)
    theirs.freeze()
    linear_to_lora_layers(theirs, 2, {"rank": 4, "scale": 2.0, "dropout": 0.0})
    shapes = {path: array.shape for path, array in trained(theirs).items()}
    assert {path: array.shape for path, array in trained(ours).items()} == shapes


def test_keys_can_be_names() -> None:
    model = architecture.build(tiny.LLAMA)
    names = ("mlp.up_proj", "self_attn.q_proj")
    assert adapters.prepare(model, Configuration(lora_keys=names)) == names
    assert {path.split(".", 3)[3].rsplit(".", 1)[0] for path in trained(model)} == {*names}


def test_a_name_of_a_module_outside_of_the_layers_is_accepted() -> None:
    """As in mlx-lm, which looks for each key in the whole model, too."""
    model = architecture.build({**tiny.LLAMA, "tie_word_embeddings": False})
    adapters.prepare(model, Configuration(lora_keys=("lm_head",)))
    assert {*trained(model)} == {"lm_head.lora_a", "lm_head.lora_b"}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("self_attn.q_prog", "no module 'self_attn.q_prog'.*did you mean self_attn.q_proj"),
        ("zzz", "no module 'zzz' to add adapters to; it has mlp.down_proj, "),
        ("input_layernorm", "no module 'input_layernorm'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, problem: str) -> None:
    with pytest.raises(UnsupportedModelError, match=problem):
        adapters.prepare(architecture.build(tiny.LLAMA), Configuration(lora_keys=(name,)))


@pytest.mark.parametrize(
    ("family", "changed", "problem"),
    [
        (MOE, {"lora_keys": ("mlp.switch_mlp.up_proj",)}, "expert layers"),
        ("llama", {"quantization_bits": 3}, "3-bit weights"),
        ("llama", {"quantization_bits": 5}, "5-bit weights"),
        ("llama", {"quantization_bits": 6}, "6-bit weights"),
        ("llama", {"quantization_bits": 4, "lora_keys": ("model.embed_tokens",)}, "embeddings"),
    ],
)
def test_what_dora_of_mlx_lm_cannot_train_is_refused(
    family: str, changed: dict[str, Any], problem: str
) -> None:
    config = tiny.LLAMA if family == "llama" else families.config(family)
    configuration = replace(DORA, group_size=32, **changed)
    model = weights.plan(ModelSource(config), configuration)
    with pytest.raises(UnsupportedModelError, match=f"DoRA does not support .*{problem}"):
        adapters.prepare(model, configuration)


@pytest.mark.parametrize("bits", [None, 2, 4, 8])
def test_dora_trains_a_magnitude_of_each_row(bits: int | None) -> None:
    configuration = replace(DORA, quantization_bits=bits, group_size=32)
    model = weights.plan(ModelSource(tiny.LLAMA), configuration)
    adapters.prepare(model, configuration)
    assert {path.rsplit(".", 1)[1] for path in trained(model)} == {"lora_a", "lora_b", "m"}


def test_dora_trains_microscaling_weights() -> None:
    configuration = replace(
        DORA, quantization_bits=4, quantization_mode=QuantizationMode.MXFP4, group_size=32
    )
    model = weights.plan(ModelSource(tiny.LLAMA), configuration)
    assert adapters.prepare(model, configuration)


def test_full_fine_tuning_trains_the_last_layers() -> None:
    model = architecture.build(tiny.LLAMA)
    assert adapters.prepare(model, FULL) == ()
    last = len(model.layers) - 1
    assert {path.split(".")[2] for path in trained(model)} == {str(last)}
    size = sum(array.size for _, array in tree_flatten(model.layers[last].parameters()))
    assert sum(array.size for array in trained(model).values()) == size


def test_evidence_is_a_changed_weight() -> None:
    model = architecture.build(tiny.LLAMA)
    adapters.prepare(model, FULL)
    evidence = adapters.Evidence(model)
    with pytest.raises(adapters.EvidenceError, match="no trained weight changed"):
        evidence.check()
    weight = model.layers[-1].mlp.up_proj.weight
    weight[0, 0] += 1.0
    evidence.check()
    weight[0, 0] = float("nan")
    with pytest.raises(adapters.EvidenceError, match="not finite"):
        evidence.check()


def test_the_nearest_name_is_that_with_the_same_end() -> None:
    with pytest.raises(UnsupportedModelError, match=r"did you mean self_attn\.q_proj\?$"):
        adapters.prepare(architecture.build(tiny.LLAMA), Configuration(lora_keys=("q_proj",)))


def test_a_group_that_divides_no_weight_is_refused() -> None:
    """Otherwise, nothing would be quantized."""
    configuration = Configuration(quantization_bits=4, group_size=128)
    config = {**tiny.LLAMA, "hidden_size": 64, "intermediate_size": 96}
    with pytest.raises(UnsupportedModelError, match="in groups of 128; use a smaller --group-size"):
        weights.plan(ModelSource(config), configuration)
