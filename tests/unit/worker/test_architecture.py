"""Building models; configs stay as they were given."""

from __future__ import annotations

import copy

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from tests.support import families
from tests.support.families import HYBRID, WITH_ATTENTION, WITHOUT_ATTENTION
from worker import architecture, trainer
from worker.architecture import UnsupportedModelError
from worker.protocol.configuration import Configuration
from worker.protocol.requests import ModelSource, TrialRequest


@pytest.mark.parametrize("family", [*WITH_ATTENTION, *HYBRID, *WITHOUT_ATTENTION])
def test_building_a_model_does_not_change_its_config(family: str) -> None:
    config = families.config(family)
    if "text_config" in config:
        del config["vocab_size"]  # mlx-lm writes its own default into text_config
    before = copy.deepcopy(config)
    architecture.build(config)
    assert config == before


def test_a_class_that_exits_is_refused_with_what_it_prints() -> None:
    with pytest.raises(UnsupportedModelError, match="To run olmo install ai2-olmo"):
        architecture.build(families.config("olmo"))


@pytest.mark.parametrize("declared", [512, 2**20])
def test_batches_have_only_token_ids_of_the_model(declared: int) -> None:
    """MLX does not check indices: an id outside the embedding is a segmentation fault."""
    text = {**families.GEMMA4_TEXT, "vocab_size": declared}
    config = {"model_type": "gemma4", "text_config": text}  # mlx-lm builds 262,144 embeddings
    model = architecture.build(config)
    embeddings = model.language_model.model.embed_tokens.weight.shape[0]
    request = TrialRequest(ModelSource(config), Configuration(seq_length=1000), 1, 2**40)
    tokens, _ = next(trainer.full_batches(request, model))
    size = min(embeddings, declared)
    assert mx.logical_and(tokens >= 0, tokens < size).all().item()
    assert (tokens > size // 2).any().item()


def test_batches_for_embeddings_of_an_unknown_class_have_the_declared_vocabulary() -> None:
    """mlx-lm has classes of quantized embeddings that are no subclasses of MLX's."""
    model = nn.Sequential(nn.Linear(4, 4))
    request = TrialRequest(ModelSource({"vocab_size": 9}), Configuration(seq_length=100), 1, 2**40)
    tokens, _ = next(trainer.full_batches(request, model))
    assert {*np.array(tokens).flat} == {*range(9)}


def test_batches_for_a_config_without_a_vocabulary_have_that_of_the_embeddings() -> None:
    config = families.config("phixtral")
    assert not {"vocab_size", "text_config"} & {*config}
    model = architecture.build(config)
    request = TrialRequest(ModelSource(config), Configuration(seq_length=2000), 1, 2**40)
    tokens, _ = next(trainer.full_batches(request, model))
    assert {*np.array(tokens).flat} == {*range(256)}
