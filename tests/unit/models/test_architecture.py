"""Counted weights, compared with published sizes and with mlx-lm's models."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import tiny
from your_ai.errors import UsageError
from your_ai.models import architecture
from your_ai.models.architecture import parameters, shape_of
from your_ai.models.presets import all_presets
from your_ai.units import parameter_label


@pytest.mark.parametrize(("name", "preset"), all_presets().items())
def test_a_presets_label_matches_its_parameters(name: str, preset: Any) -> None:
    label = parameter_label(parameters(preset.config))
    # Models of 7.2B and 14.8B are published as 7B and 14B.
    published = {"hermes-mistral-7b": "7.2B", "r1-distill-14b": "15B", "hermes-70b": "71B"}
    assert label == published.get(name, preset.params)


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
        ({"kv_lora_rank": 512}, "does not support (kv_lora_rank)"),
        ({"lru_width": 64}, "does not support (lru_width)"),
        ({"block_types": ["recurrent", "attention"]}, "does not support (block_types)"),
    ],
)
def test_an_invalid_config_is_a_one_line_error(changed: dict[str, Any], said: str) -> None:
    config = {**tiny.LLAMA, **changed}
    with pytest.raises(UsageError) as caught:
        parameters(config)
    message = str(caught.value)
    assert said in message
    assert "your_ai benchmark --model" in message
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
