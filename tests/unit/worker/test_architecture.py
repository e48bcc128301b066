"""What LoRA trains in each family of models; configs stay as they were given."""

from __future__ import annotations

import copy

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from tests.support import families, tiny
from tests.support.families import HYBRID, WITH_ATTENTION, WITHOUT_ATTENTION
from worker import architecture, lora
from worker.architecture import UnsupportedModelError
from worker.protocol.configuration import Configuration
from worker.protocol.requests import ModelSource, TrialRequest


@pytest.mark.parametrize("family", [*WITH_ATTENTION, *HYBRID])
def test_lora_trains_the_projections_of_attention(family: str) -> None:
    model = architecture.build(families.config(family))
    _, keys = {**WITH_ATTENTION, **HYBRID}[family]
    assert architecture.lora_keys(model) == keys
    assert architecture.has_attention(model)


@pytest.mark.parametrize("family", WITHOUT_ATTENTION)
def test_without_attention_lora_trains_all_linear_layers(family: str) -> None:
    model = architecture.build(families.config(family))
    _, keys = WITHOUT_ATTENTION[family]
    assert architecture.lora_keys(model) == keys
    facts = architecture.facts(families.config(family))
    assert (set(facts.lora_keys), facts.has_attention) == (keys, False)


def test_layers_without_attention_cannot_be_trained_alone() -> None:
    """The last layer of this model has a recurrent block."""
    config = {**families.config("nemotron_h"), "hybrid_override_pattern": ["*", "M"]}
    model = architecture.build(config)
    configuration = Configuration(lora_layers=1)
    with pytest.raises(UnsupportedModelError, match="no attention in the last 1 layer; train more"):
        lora.add_adapters(model, configuration)
    assert lora.add_adapters(architecture.build(config), Configuration(lora_layers=2))


@pytest.mark.parametrize("family", [*WITH_ATTENTION, *HYBRID, *WITHOUT_ATTENTION])
def test_building_a_model_does_not_change_its_config(family: str) -> None:
    config = families.config(family)
    if "text_config" in config:
        del config["vocab_size"]  # mlx-lm writes its own default into text_config
    before = copy.deepcopy(config)
    architecture.build(config)
    assert config == before


@pytest.mark.parametrize("declared", [512, 2**20])
def test_batches_have_only_token_ids_of_the_model(declared: int) -> None:
    """MLX does not check indices: an id outside the embedding is a segmentation fault."""
    text = {**families.GEMMA4_TEXT, "vocab_size": declared}
    config = {"model_type": "gemma4", "text_config": text}  # mlx-lm builds 262,144 embeddings
    model = architecture.build(config)
    embeddings = model.language_model.model.embed_tokens.weight.shape[0]
    request = TrialRequest(ModelSource(config), Configuration(seq_length=1000), 1, 2**40)
    tokens, _ = next(lora.full_batches(request, model))
    size = min(embeddings, declared)
    assert mx.logical_and(tokens >= 0, tokens < size).all().item()
    assert (tokens > size // 2).any().item()


def test_batches_for_embeddings_of_an_unknown_class_have_the_declared_vocabulary() -> None:
    """mlx-lm has classes of quantized embeddings that are no subclasses of MLX's."""
    model = nn.Sequential(nn.Linear(4, 4))
    request = TrialRequest(ModelSource({"vocab_size": 9}), Configuration(seq_length=100), 1, 2**40)
    tokens, _ = next(lora.full_batches(request, model))
    assert {*np.array(tokens).flat} == {*range(9)}


def test_a_model_without_linear_layers_is_refused() -> None:
    model = architecture.build(tiny.LLAMA)
    for layer in model.layers:
        layer.self_attn = layer.mlp = nn.RMSNorm(8)
    with pytest.raises(UnsupportedModelError, match="no linear layers"):
        lora.add_adapters(model, Configuration())
