"""The sizes of models' weights, against published ones and what mlx-lm's classes have."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import tiny
from your_ai.errors import UsageError
from your_ai.models.architecture import parameters, shape_of
from your_ai.models.presets import all_presets
from your_ai.units import parameter_label


@pytest.mark.parametrize(("name", "preset"), all_presets().items())
def test_a_presets_label_is_its_number_of_parameters(name: str, preset: Any) -> None:
    label = parameter_label(parameters(preset.config))
    # 7.2B and 14.8B are called 7B and 14B by those who published them.
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
def test_parameters_of_other_families(changed: dict[str, Any], added: int) -> None:
    assert parameters({**tiny.LLAMA, **changed}) == parameters(tiny.LLAMA) + added


def test_one_matrix_for_queries_keys_and_values_has_one_adapter() -> None:
    separate, fused = (shape_of({**tiny.LLAMA, "model_type": kind}) for kind in ("llama", "phi3"))
    assert separate.projections == ((64, 64), (32, 64), (32, 64), (64, 64))
    assert fused.projections == ((64 + 32 + 32, 64), (64, 64))


def test_a_config_that_does_not_say_is_tied_as_mlx_lm_has_it() -> None:
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
        ({"text_config": 5}, "is invalid"),
        ({"hidden_size": -64}, "a size is out of range"),
        ({"kv_lora_rank": 512}, "an unsupported kind (kv_lora_rank)"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(changed: dict[str, Any], said: str) -> None:
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
def test_a_key_that_is_missing_is_named(key: str) -> None:
    config = {name: value for name, value in tiny.LLAMA.items() if name != key}
    with pytest.raises(UsageError, match=f"has no {key}"):
        parameters(config)
