"""Counted weights, compared with published sizes and with mlx-lm's models."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import tiny
from your_ai.errors import UsageError
from your_ai.models import architecture
from your_ai.models.architecture import parameters, shape_of
from your_ai.models.presets import all_presets

NOT_ESTIMATED = {"gemma-4-e4b", "qwen3.5-9b", "gpt-oss-20b", "qwen3.6-27b"}


@pytest.mark.parametrize("name", sorted(all_presets().keys() - NOT_ESTIMATED))
def test_a_presets_parameters_are_those_of_the_model_that_mlx_lm_builds(name: str) -> None:
    preset = all_presets()[name]
    assert parameters(preset.config) == preset.parameters


@pytest.mark.parametrize("name", sorted(NOT_ESTIMATED))
def test_a_preset_with_other_layers_is_not_estimated(name: str) -> None:
    with pytest.raises(UsageError, match=r"^activations not estimated \(\w+\): run "):
        parameters(all_presets()[name].config)


@pytest.mark.parametrize(
    ("changed", "added"),
    [
        ({"tie_word_embeddings": True}, -512 * 64),
        ({"model_type": "qwen2"}, 2 * (64 + 32 + 32)),
        ({"model_type": "qwen3"}, 2 * 2 * 32),
        ({"model_type": "gemma2"}, 2 * 2 * 64 - 512 * 64),
        ({"model_type": "phi3"}, 0),
        ({"model_type": "starcoder2"}, -2 * 64 * 128),
        ({"num_key_value_heads": None}, 2 * 2 * 64 * 32),
        ({"head_dim": 64}, 2 * 64 * (64 + 32 + 32 + 64)),
    ],
)
def test_parameters_of_other_architectures(changed: dict[str, Any], added: int) -> None:
    assert parameters({**tiny.LLAMA, **changed}) == parameters(tiny.LLAMA) + added


def test_a_fused_query_key_value_matrix_has_one_adapter() -> None:
    separate, fused = (shape_of({**tiny.LLAMA, "model_type": kind}) for kind in ("llama", "phi3"))
    assert separate.projections == ((64, 64), (32, 64), (32, 64), (64, 64))
    assert fused.projections == ((64 + 32 + 32, 64), (64, 64))


def test_tied_embeddings_default_to_those_of_mlx_lm() -> None:
    silent = {key: value for key, value in tiny.LLAMA.items() if key != "tie_word_embeddings"}
    assert parameters(silent) == parameters({**silent, "tie_word_embeddings": True})
    mixtral = {**silent, "model_type": "mixtral"}
    assert parameters(mixtral) == parameters({**mixtral, "tie_word_embeddings": False})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden_size": None}, "is invalid"),
        ({"num_attention_heads": 0}, "is invalid"),
        ({"vocab_size": "many"}, "is invalid"),
        ({"text_config": 5}, "is invalid (text_config is not an object)"),
        ({"head_dim": [64]}, "is invalid"),
        ({"num_experts": "some"}, "is invalid"),
        ({"intermediate_size": None}, "has no intermediate_size"),
        ({"hidden_size": -64}, "is invalid (Expected `int` >= 1 - at `$.hidden_size`)"),
        ({"kv_lora_rank": 512}, "not estimated (kv_lora_rank)"),
        ({"lru_width": 64}, "not estimated (lru_width)"),
        ({"block_types": ["recurrent", "attention"]}, "not estimated (block_types)"),
        ({"model_type": "gpt_oss"}, "not estimated (gpt_oss)"),
        ({"text_config": {"model_type": "gemma4_text"}}, "not estimated (gemma4_text)"),
    ],
)
def test_an_invalid_config_is_a_one_line_error(changed: dict[str, Any], said: str) -> None:
    config = {**tiny.LLAMA, **changed}
    with pytest.raises(UsageError) as caught:
        parameters(config)
    message = str(caught.value)
    assert said in message
    assert "`your_ai benchmark" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "key",
    ["hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "vocab_size"],
)
def test_the_error_names_the_missing_key(key: str) -> None:
    config = {name: value for name, value in tiny.LLAMA.items() if name != key}
    with pytest.raises(UsageError, match=f"has no {key}"):
        parameters(config)


@pytest.mark.parametrize("error", [TypeError, KeyError, ValueError])
def test_a_bug_is_not_reported_as_an_invalid_config(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(architecture, "_mlp", fail)
    with pytest.raises(error):
        shape_of(tiny.LLAMA)
